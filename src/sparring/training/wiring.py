"""The task ``hgd-ensemble``: denoisers and models wired together, as the file that the defense of that name reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from sparring.core.errors import SparringError
from sparring.core.registry import TASKS
from sparring.core.spec import option
from sparring.defenses.learned import load_network
from sparring.models.classifier import weights_hash
from sparring.models.load import load_model, require_trained
from sparring.training.base import Scales, Trained, Training, TrainingSpec, fitting


@TASKS("hgd-ensemble")
@dataclass(frozen=True, kw_only=True)
class EnsembleWiring(Training):
    """The file of the defense ``hgd-ensemble`` (Liao et al., arXiv:1712.02976, app. C): which denoisers stand before which models. Trains
    nothing; each of them is loaded and shown two of the images, and the TOML file is written. (D1>A)&(D2>B) is wiring own, (D1>A&B)&(D2>A&B) each,
    D1&D2>A&B mean; A&B is mean without denoisers.
    """

    scales: ClassVar[Scales] = {}
    example: ClassVar[str] = (
        "hgd-ensemble --data test.npz --denoiser d1.safetensors,d2.safetensors --target trained:a.safetensors,trained:b.safetensors --out pair.toml"
    )

    target: tuple[str, ...] = option(help="classifiers whose logits are averaged, comma-separated or repeated")
    denoiser: tuple[str, ...] = option((), help="weights files of train hgd, comma-separated or repeated")
    wiring: Literal["own", "each", "mean"] = option(
        "own",
        help="own: each denoiser before the model in its place; each: each before all models; mean: the mean of their images before all models",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.wiring == "own" and len(self.denoiser) != len(self.target):
            raise SparringError(
                f"hgd-ensemble: wiring=own needs a denoiser for each model, here {len(self.denoiser)} for {len(self.target)}; give as many, or another wiring"
            )
        if self.wiring == "each" and not self.denoiser:
            raise SparringError("hgd-ensemble: wiring=each needs a denoiser; give --denoiser, or wiring=mean for none")

    @property
    def members(self) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """(denoisers, models) of each term whose logits are averaged."""
        if self.wiring == "own":
            return [((d,), (m,)) for d, m in zip(self.denoiser, self.target, strict=True)]
        return [((d,), self.target) for d in self.denoiser] if self.wiring == "each" else [(self.denoiser, self.target)]

    def train(self, spec: TrainingSpec) -> Trained:
        if spec.log:
            raise SparringError("hgd-ensemble: nothing is trained, there is no curve to log; leave log out")
        if spec.out.exists():
            raise SparringError(f"{spec.out} exists; delete it or choose another --out")
        parts = {m: fitting(require_trained(load_model(m)), spec.images) for m in self.target}
        denoisers = {d: load_network(d, "dunet") for d in self.denoiser}
        two = spec.images.pixels(slice(2))
        for number, (file, network) in enumerate(denoisers.items(), 1):
            with torch.no_grad():
                shape = network(two).shape
            if shape != two.shape:
                raise SparringError(
                    f"hgd-ensemble: {file} makes images of {tuple(shape[1:])} of {tuple(two.shape[1:])}"
                )
            if spec.progress:
                spec.progress(number, len(denoisers), f"looking at {file}")
        lines = [
            f"[[member]]\ndenoisers = {_texts(denoiser)}\nmodels = {_texts(models)}\n"
            for denoiser, models in self.members
        ]
        spec.out.parent.mkdir(parents=True, exist_ok=True)
        partial = spec.out.with_name(f"{spec.out.name}.partial")
        partial.write_text("\n".join(lines))
        partial.replace(spec.out)
        hashes = {name: weights_hash(part) for name, part in {**denoisers, **parts}.items()}
        text = f"{spec.out}: {len(lines)} members, {len(denoisers)} denoisers, {len(parts)} models"
        return Trained(
            {"wiring": self.wiring, "hashes": hashes}, f"{text}\nevaluate it as: hgd-ensemble:file={spec.out}"
        )


def _texts(texts: tuple[str, ...]) -> str:
    """A list of strings as TOML has it."""
    return json.dumps(texts, ensure_ascii=False)
