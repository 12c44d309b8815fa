"""Gradient overlap (ACE paper, sec. 2.2 and app. C): how many parameters are tied to each pixel, without any training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor

from sparring.analysis.base import Analysis, analysis
from sparring.analysis.panel import Map, Panel
from sparring.core.ranges import NonNegative, Part
from sparring.core.spec import option
from sparring.data.images import ImageSet
from sparring.models.overlap import bait_pixels, gradient_overlap, top_pixels
from sparring.subject import Subject


@analysis("overlap")
@dataclass(frozen=True, kw_only=True)
class Overlap(Analysis):
    """Gradient overlap of an architecture with all parameters 1 (ACE paper, sec. 2.2 and Table 2, second half): needs no training."""

    needs_data: ClassVar[bool] = False
    example: ClassVar[str] = "overlap ace_resnet:depth=20,lam=10 --png overlap.png"

    size: Annotated[int, Ge(1), Le(4096)] = option(32, help="height and width of the image")
    channels: Literal[1, 3] = option(3, help="its channels")
    share: Part = option(0.3, help="p of G(p): which share of pixels counts as most tied")
    gain: NonNegative | None = option(None, help="of ACE's two layers together; default: the literal all-ones rule")

    def images(self) -> ImageSet:
        return ImageSet.of(torch.ones(1, self.channels, self.size, self.size), [0], name="ones")

    def panel(self, subject: Subject) -> Panel:
        overlap = gradient_overlap(subject.model, self.channels, self.size, self.gain)
        value, name = bait_share(overlap, self.share), subject.model.name
        bait = int(bait_pixels(self.size, self.size).sum())
        text = f"{name}: {100 * value:.1f} % of the {bait} pixels of even row and column are among the {100 * self.share:g} % most tied"
        data = {"model": name, "share": value, "gain": self.gain, "overlap": overlap}
        title = f"gradient overlap of {name}"
        return Panel(title, data, maps=[Map(title, overlap / overlap.max())], text=[text])


def bait_share(overlap: Tensor, share: float = 0.3) -> float:
    """|G(share) & C| / |C|, the second half of the paper's Table 2."""
    bait = bait_pixels(*overlap.shape)
    return float((top_pixels(overlap, share) & bait).sum() / bait.sum())
