"""A defended model as a file: ``FILE.pt2`` (torch.export) or ``FILE.onnx``. What was written is loaded again and compared before it is left."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sparring.core.errors import SparringError, one_line
from sparring.core.extras import need
from sparring.core.spec import without
from sparring.data.sources import Images, load_data
from sparring.defenses.base import DefenseLike, name_of
from sparring.deploy.module import DefendedModule, Drawn, defend
from sparring.models.load import LOADERS, ModelLike, load_model
from sparring.version import __version__

COMPARED = 100  # images on which what was written answers as the module does
TOLERANCE = 1e-4  # of logits, in shares of the largest
KINDS = {suffix: LOADERS[suffix] for suffix in (".pt2", ".onnx")}


@dataclass(frozen=True)
class Exported:
    """A file that was written: the spec text that loads it, and how it answered. ``difference``: the largest of logits in shares of the largest
    one, None for a random defense; ``agree``: the share of ``images`` with the same label.
    """

    model: str
    defense: str
    loads_as: str
    random: bool
    images: int
    agree: float
    difference: float | None
    sparring: str = __version__
    torch: str = torch.__version__


def export(model: ModelLike, defense: DefenseLike, out: str | Path, data: Images) -> Exported:
    """Write a defended model to ``out`` and a JSON card beside it. ``data``: images that it takes; on the first 100 the file, loaded again, must
    give the same labels, and logits that differ by no more than 1e-4 of the largest; where the defense is random, other noise at each call.

    Raises SparringError where it does not, where a part of the defense cannot be written, or where the file is already there.
    """
    path = Path(out)
    if path.suffix not in KINDS:
        raise SparringError(f"{path}: a defended model is written to FILE.pt2 (torch.export) or FILE.onnx")
    card = path.with_name(f"{path.name}.json")
    for there in (path, card):
        if there.exists():
            raise SparringError(f"{there} is already there, and would be lost; choose another name")
    classifier = load_model(model)
    own = without(data, "limit")[1] if isinstance(data, str) else None
    images = load_data(data, limit=COMPARED if own is None else None, fitting=classifier.fitting)
    x = images.pixels(slice(COMPARED))
    module = defend(classifier, defense)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"partial-{path.name}")
    try:
        _write(module, x[:2], partial)
        exported = _compared(module, x, partial, path, classifier.name, name_of(defense))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    text = card.with_name(f"{card.name}.partial")
    text.write_text(json.dumps(asdict(exported), indent=2) + "\n")
    text.replace(card)
    return exported


def _write(module: DefendedModule, example: Tensor, path: Path) -> None:
    if path.suffix == ".onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            need(package, "onnx")
    try:
        _written(module, example, path)
    except Exception as error:
        culprit = next((stage.name for stage in module.stages if not _passes(stage, example, path)), "the network")
        raise SparringError(
            f"{module.name}: {culprit} cannot be written as {path.suffix} ({one_line(error)}); leave it out, or deploy sparring.defend(...)"
        ) from None


def _written(module: nn.Module, example: Tensor, path: Path) -> None:
    batch = ({0: torch.export.Dim("batch")},)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        module(example)  # what a stage remembers (a mask of frequencies) is made here, and not while it is traced
        program = torch.export.export(module, (example,), dynamic_shapes=batch)
        if path.suffix == ".pt2":
            torch.export.save(program, path)
        else:
            torch.onnx.export(
                program, (), path, input_names=["images"], output_names=["logits"], external_data=False, verbose=False
            )


class _Alone(nn.Module):
    """One stage and nothing else, to see whether it can be written."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.stage(x, Drawn.like(x))


def _passes(stage: nn.Module, example: Tensor, path: Path) -> bool:
    trial = path.with_name(f"stage-{path.name}")
    try:
        _written(_Alone(stage), example, trial)
    except Exception:
        return False
    finally:
        trial.unlink(missing_ok=True)
    return True


def _compared(module: DefendedModule, x: Tensor, partial: Path, path: Path, model: str, defense: str) -> Exported:
    """Load what was written and ask it."""
    kind = KINDS[path.suffix]
    written = load_model(f"{kind}:{partial}")
    with torch.no_grad():
        ours, theirs, again = module(x), written(x), written(x)
    agree = float((ours.argmax(1) == theirs.argmax(1)).double().mean())
    difference = float((ours - theirs).abs().max() / ours.abs().max().clamp_min(1e-12))
    if not module.random and (agree < 1 or not difference <= TOLERANCE):
        raise SparringError(
            f"{module.name}: the file gives other labels on {100 * (1 - agree):.0f} % of {len(x)} images (logits differ by {difference:.2g}); it was not kept"
        )
    if module.random and torch.equal(theirs, again):
        raise SparringError(f"{module.name}: the file draws the same noise at every call; it was not kept")
    differs = None if module.random else difference
    return Exported(model, defense, f"{kind}:{path}", module.random, len(x), agree, differs)
