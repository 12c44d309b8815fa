"""What is left of accuracy when an image's patches change places (defective paper, sec. 4.1), or when it is restyled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparring.analysis.base import Comparison, analysis
from sparring.analysis.panel import Grid, Panel, Sheet
from sparring.core.errors import SparringError
from sparring.core.noise import Noise, image_keys
from sparring.core.ranges import Count, Share
from sparring.core.spec import option
from sparring.data.sources import load_data
from sparring.subject import Subject

Network = Callable[[Tensor], Tensor]
SIDES = (2, 4, 8)


@analysis("patches")
@dataclass(frozen=True, kw_only=True)
class Patches(Comparison):
    """Accuracy on shuffled patches (Luo et al., arXiv:1911.08432, Tables 1 and 11) and on stylized images, over images that all models
    get right when whole.
    """

    limit: ClassVar[int | None] = 1000
    example: ClassVar[str] = (
        "patches trained:plain.safetensors trained:defective.safetensors --data test.npz --png patches.png"
    )

    sides: tuple[Count, ...] = option(
        SIDES, help="k of the k x k patches, joined by commas; of the default those that divide the images"
    )
    confidence: Share = option(0.0, help="least softmax probability on the whole image (paper's code: .99)")
    stylized: str = option(
        "", help="folder of restyled images whose names are the ids of the data (class folders included)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sides:
            raise SparringError("patches: sides is empty; give whole numbers such as 2,4,8")

    def compare(self, subjects: Sequence[Subject]) -> Panel:
        images, models = subjects[0].images, {s.model.name: s.model for s in subjects}
        kept = right_for_all(models, images.x, images.y, self.confidence)
        among = f"{len(images)} images that all {len(models)} models get right, confidence >= {self.confidence:g}"
        if not bool(kept.any()):
            raise SparringError(f"patches: {images.name} has n=0 of {among}")
        chosen = images.at(kept.nonzero()[:, 0].tolist())
        # 28 x 28 digits have no 8 x 8 patches: a default is no wish, what was asked for by name is refused
        fitting = tuple(k for k in self.sides if not any(side % k for side in chosen.x.shape[2:]))
        sides = fitting if self.sides == SIDES and fitting else self.sides
        noise = Noise.of(self.seed, "patches", image_keys(chosen.ids))
        shown = {"whole": chosen.x, **{f"{k} x {k}": patch_shuffle(chosen.x, k, noise) for k in sides}}
        truth = dict.fromkeys(shown, chosen.y)
        if self.stylized:
            style = load_data(self.stylized)
            where = {name: i for i, name in enumerate(style.ids)}
            both = [i for i, name in enumerate(chosen.ids) if name in where]
            if not both:
                raise SparringError(
                    f"stylized={self.stylized}: no image there has the name of one of {images.name} that all models get right"
                )
            shown["stylized"], truth["stylized"] = style.x[[where[chosen.ids[i]] for i in both]], chosen.y[both]
        right = {m: {n: confidences(f, x)[0] == truth[n] for n, x in shown.items()} for m, f in models.items()}
        counts = {
            m: {n: {"right": int(v.sum()), "n": len(v)} for n, v in of_model.items()} for m, of_model in right.items()
        }
        rows = [[m, *(share_text(**c) for c in of_model.values())] for m, of_model in counts.items()]
        title = f"n={len(chosen)} of {among}"
        sheet = Sheet(f"{images.name}, permutations of seed {self.seed}", {n: x[:6] for n, x in shown.items()})
        return Panel(title, counts, [Grid(title, ["model", *shown], rows)], sheets=[sheet])


def share_text(right: int, n: int) -> str:
    """'43.0 % [38.1, 48.0]': a share and its 95 % Wilson interval."""
    from scipy.stats import binomtest  # here: takes a second to import, and few commands need it

    interval = binomtest(right, n).proportion_ci(0.95, method="wilson")
    return f"{100 * right / n:.1f} % [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def patch_shuffle(x: Tensor, k: int, noise: Noise) -> Tensor:
    """Images (B,C,H,W) cut into k x k patches that change places, by one permutation per image (the same for every model).

    Raises SparringError where k does not divide height and width.
    """
    count, channels, height, width = x.shape
    if height % k or width % k:
        fitting = [str(d) for d in range(2, min(height, width) + 1) if height % d == width % d == 0]
        fix = f"; these do: sides={','.join(fitting)}" if fitting else ""
        raise SparringError(f"{k} x {k} patches do not divide images of {height} x {width}{fix}")
    order = noise.uniform(f"patches{k}", (k * k,)).argsort(1)
    patches = x.reshape(count, channels, k, height // k, k, width // k).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    moved = patches.gather(1, order[:, :, None, None, None].expand_as(patches))
    return moved.unflatten(1, (k, k)).permute(0, 3, 1, 4, 2, 5).reshape(x.shape)


def confidences(network: Network, x: Tensor, batch: int = 128) -> tuple[Tensor, Tensor]:
    """Labels (N,) and their softmax probabilities (N,)."""
    with torch.no_grad():
        tops = [network(part).softmax(1).max(1) for part in x.split(batch)]
    return torch.cat([f.indices for f in tops]), torch.cat([f.values for f in tops])


def right_for_all(models: Mapping[str, Network], x: Tensor, y: Tensor, confidence: float = 0.0) -> Tensor:
    """(N,) bool: every model is right, with at least ``confidence`` (the defective paper's code: .99). CC(all) of PROTOCOL 2.3."""
    kept = torch.ones(len(x), dtype=torch.bool)
    for network in models.values():
        label, sure = confidences(network, x)
        kept &= (label == y) & (sure >= confidence)
    return kept
