"""How much of a perturbation a denoiser predicts (HGD, arXiv:1712.02976, Fig. 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparring.analysis.base import Analysis, analysis, attacked
from sparring.analysis.panel import Map, Panel
from sparring.core.errors import SparringError
from sparring.core.noise import Noise
from sparring.core.spec import option
from sparring.subject import Subject


@analysis("noise")
@dataclass(frozen=True, kw_only=True)
class PredictedNoise(Analysis):
    """True against predicted perturbation and the fitted slope (HGD, arXiv:1712.02976, Fig. 7): above 1 the denoiser over-corrects."""

    needs_defense: ClassVar[bool] = True
    limit: ClassVar[int | None] = 100
    example: ClassVar[str] = "noise MODEL --data test.npz --defense hgd:weights=lgd.safetensors --png noise.png"

    defense: str = option(help="the denoiser")
    attack: str = option("bim:eps=8/255", help="attack whose perturbation is looked at, made on the undefended model")

    @property
    def defenses(self) -> Sequence[str]:
        return (self.defense,)

    def panel(self, subject: Subject) -> Panel:
        noisy = attacked(subject, self.attack, self.seed)
        out = noisy
        for stage in subject.systems[self.defense].stages:
            out = stage(out, Noise.of(self.seed, "noise", subject.keys))
        prediction = predicted_perturbation(subject.images.x, noisy, out)
        reach = prediction.predicted_reach, prediction.reach
        picture = Map(
            f"slope {prediction.slope:.2f}, log counts",
            prediction.histogram.float().log1p(),
            "predicted",
            "true",
            reach,
        )
        text = f"{self.defense}: slope {prediction.slope:.3f} over {prediction.n} values of {self.attack}"
        data = {"slope": prediction.slope, "n": prediction.n, "attack": self.attack, "histogram": prediction.histogram}
        return Panel(f"true against predicted perturbation of {self.defense}", data, maps=[picture], text=[text])


@dataclass(frozen=True)
class Prediction:
    """``slope`` of the least-squares line through the origin of predicted on true perturbation values; ``histogram``
    (bins,bins) counts, rows true over [-reach, reach], columns predicted over [-predicted_reach, predicted_reach] (what lies
    outside is in the outermost column); ``n`` values."""

    slope: float
    histogram: Tensor
    reach: float
    predicted_reach: float
    n: int


def predicted_perturbation(clean: Tensor, noisy: Tensor, denoised: Tensor, bins: int = 64) -> Prediction:
    """Compares the true perturbation noisy - clean with the predicted one noisy - denoised, value by value, all (N,C,H,W).

    A slope below 1: the denoiser removes too little (HGD's PGD); above 1: it over-corrects (LGD).
    """
    true, guess = (noisy - clean).flatten().double(), (noisy - denoised).flatten().double()
    if not bool((true != 0).any()):
        raise SparringError("noisy and clean images are the same: there is no perturbation to predict")
    reach = float(true.abs().max())
    wide = max(reach, float(guess.abs().sort().values[int(0.99 * (len(guess) - 1))]))
    row = ((true / reach + 1) / 2 * bins).long().clamp(0, bins - 1)
    column = ((guess / wide + 1) / 2 * bins).long().clamp(0, bins - 1)
    histogram = torch.bincount(row * bins + column, minlength=bins * bins).reshape(bins, bins)
    return Prediction(float((true * guess).sum() / true.square().sum()), histogram, reach, wide, len(true))
