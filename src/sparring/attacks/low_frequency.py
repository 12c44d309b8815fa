"""Perturbations of low frequency: the test of whether a network that "reads shape" is more exposed to coarse changes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sparring.attacks.pgd import Ascent
from sparring.attacks.query import Query
from sparring.core.optim import momentum
from sparring.core.ranges import Count, NonNegative
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows


@ATTACKS("low_frequency")
@dataclass(frozen=True, kw_only=True)
class LowFrequency(Ascent):
    """MI-FGSM whose perturbation has only low frequencies (Sharma et al., arXiv:1903.00073, sec. 3: DCT_Low). Norms: linf, l2.

    ``block``: side of the block of lowest DCT coefficients that is kept; ``decay``: momentum factor mu. A free perturbation takes the steps, what is added to
    the image is its low-pass. Differs from the paper: the low-passed perturbation is projected onto ball and box, which
    brings back a little of the frequencies above.
    """

    norms: ClassVar = ("linf", "l2")
    steps: Count = 10
    start: Literal["clean", "random"] = "clean"
    decay: NonNegative = 1.0
    block: Count = 8

    def init(self, q: Query) -> Rows:
        free = super().init(q).x
        return Rows(x=self.low(q, free), speed=free * 0, free=free)

    def low(self, q: Query, free: Tensor) -> Tensor:
        """The image with the low frequencies of the free perturbation."""
        return q.project(q.clean + lowest(free - q.clean, self.block))

    def advance(self, q: Query, s: Rows) -> Rows:
        grad = lowest(q.gradient(s.x, self.loss).grad, self.block)
        speed = momentum(s.speed, grad, self.decay)
        free = self.step(q, s.free, speed)
        return Rows(x=self.low(q, free), speed=speed, free=free)


def lowest(x: Tensor, block: int) -> Tensor:
    """(B,C,H,W) with only the ``block`` x ``block`` lowest coefficients of its orthonormal DCT-II: a linear projection."""
    rows, columns = (_basis(n, block, x) for n in x.shape[-2:])
    return rows.T @ (rows @ x @ columns.T) @ columns


def _basis(size: int, block: int, like: Tensor) -> Tensor:
    """The first ``block`` rows of the orthonormal DCT-II matrix (size, size)."""
    k = torch.arange(min(block, size), dtype=like.dtype, device=like.device)[:, None]
    n = torch.arange(size, dtype=like.dtype, device=like.device)
    scale = torch.full_like(k, math.sqrt(2 / size))
    scale[0] = math.sqrt(1 / size)
    return scale * torch.cos(math.pi / size * (n + 0.5) * k)
