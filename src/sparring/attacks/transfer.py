"""Attacks made to transfer: momentum, input diversity, translation-invariant gradients; and HGD's list of growing power."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from sparring.attacks.method import Method
from sparring.attacks.pgd import Ascent
from sparring.attacks.query import Query
from sparring.core.errors import SparringError
from sparring.core.geometry import per_row, steepest_step
from sparring.core.losses import LossName
from sparring.core.noise import Noise
from sparring.core.optim import momentum
from sparring.core.ranges import Count, Natural, NonNegative, Part, Positive, Share
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows


@ATTACKS("mifgsm")
@dataclass(frozen=True, kw_only=True)
class MIFGSM(Ascent):
    """Momentum iterative FGSM (Dong et al., arXiv:1710.06081, algorithm 1). Norms: linf, l2, l1. Made for transfer.

    ``decay``: momentum factor mu of the l1-normalised gradients (1 is what the defective paper's code did).
    ``diversity``: probability that a step sees the image shrunk to ``resize``..1 of its size at a random place (DI,
    Xie et al., arXiv:1803.06978). ``kernel``: odd side of the Gaussian that smooths the gradient (TI, Dong et al.,
    arXiv:1904.02884), 0: none. ``neighbors``: variance tuning (VMI, Wang & He, arXiv:2103.15571, algorithm 1): to each gradient is added by how much
    the mean one of so many points around the last iterate, up to ``reach`` times eps away, differed from its own. Differs from the paper: DI
    shrinks by bilinear sampling instead of enlarging the input, and what it or a neighbor saw is no candidate, only the last point is.
    """

    steps: Count = 10
    start: Literal["clean", "random"] = "clean"
    decay: NonNegative = 1.0
    diversity: Share = 0.0
    resize: Part = 0.85
    kernel: Natural = 0
    neighbors: Natural = 0
    reach: Positive = 1.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel and self.kernel % 2 == 0:
            raise SparringError(f"kernel={self.kernel} must be odd, or 0 for no smoothing")

    def gradients(self, targeted: bool) -> int:
        return 1 + self.neighbors

    def init(self, q: Query) -> Rows:
        s = super().init(q)
        return s.put(speed=s.x * 0, variance=s.x * 0)

    def advance(self, q: Query, s: Rows) -> Rows:
        via = diverse(q.noise("diversity"), self.diversity, self.resize) if self.diversity else None
        grad = q.gradient(s.x, self.loss, via=via).grad
        tuned = grad + s.variance
        speed = momentum(s.speed, smooth(tuned, self.kernel) if self.kernel else tuned, self.decay)
        variance = self._around(q, s.x, via) - grad if self.neighbors else s.variance
        return Rows(x=self.step(q, s.x, speed), speed=speed, variance=variance)

    def _around(self, q: Query, x: Tensor, via: Callable[[Tensor], Tensor] | None) -> Tensor:
        """The mean gradient of the neighbors of ``x``."""
        total = torch.zeros_like(x)
        for number in range(self.neighbors):
            spread = 2 * q.noise(f"neighbor{number}").uniform("offset", x.shape[1:]).to(x.dtype) - 1
            offset = per_row(self.reach * q.ball.eps, x) * spread
            seen = partial(_moved, offset, via)
            total = total + q.gradient(x, self.loss, call=f"neighbor{number}", via=seen).grad
        return total / self.neighbors


def _moved(offset: Tensor, via: Callable[[Tensor], Tensor] | None, x: Tensor) -> Tensor:
    moved = x + offset
    return moved if via is None else via(moved)


def diverse(noise: Noise, probability: float, smallest: float) -> Callable[[Tensor], Tensor]:
    """A map that with ``probability`` shows each image smaller, anywhere, on black: differentiable, row by row."""
    draw = noise.uniform("view", (4,))
    scale = torch.where(draw[:, 0] < probability, smallest + (1 - smallest) * draw[:, 1], torch.ones_like(draw[:, 1]))
    shift = (1 - scale)[:, None] * (2 * draw[:, 2:] - 1)
    zero = torch.zeros_like(scale)
    # output coordinate u reads input coordinate (u - shift) / scale
    theta = torch.stack([1 / scale, zero, -shift[:, 0] / scale, zero, 1 / scale, -shift[:, 1] / scale], 1).unflatten(
        1, (2, 3)
    )

    def view(x: Tensor) -> Tensor:
        grid = functional.affine_grid(theta.to(x.dtype), list(x.shape), align_corners=False)
        seen = functional.grid_sample(x, grid, align_corners=False)
        return torch.where((scale == 1)[:, None, None, None], x, seen)

    return view


def smooth(grad: Tensor, side: int) -> Tensor:
    """``grad`` (B,C,H,W) convolved with a Gaussian of odd ``side`` (standard deviation side/6, at least 0.5)."""
    axis = torch.arange(side, dtype=grad.dtype, device=grad.device) - side // 2
    weight = torch.exp(-axis.square() / (2 * max(side / 6, 0.5) ** 2))
    weight = weight / weight.sum()
    channels = grad.shape[1]
    rows = weight.reshape(1, 1, -1, 1).expand(channels, -1, -1, -1)
    grad = functional.conv2d(grad, rows, padding=(side // 2, 0), groups=channels)
    return functional.conv2d(grad, rows.transpose(2, 3), padding=(0, side // 2), groups=channels)


@ATTACKS("adaifgsm")
@dataclass(frozen=True, kw_only=True)
class AdaptiveIFGSM(Method):
    """IFGSM of adaptive length (HGD, appendix D, "adaIFGSM"; papers cite no arXiv id: arXiv:1712.02976): IFGSMs of
    growing power, each from the clean image with step eps/length; an image stops at the end of the first that fools
    *every* source. Norms: linf, l2.

    ``levels``: their lengths. Differs from the paper: its lists are lost in the text; the first is FGSM as in its third
    list.
    """

    norms = ("linf", "l2")
    levels: str = "1-2-4-8-16"
    loss: LossName = "ce"

    def __post_init__(self) -> None:
        super().__post_init__()
        parts = self.levels.split("-")
        if not all(p.isascii() and p.isdigit() and 0 < len(p) < 7 and int(p) for p in parts):
            raise SparringError(f"levels={self.levels} must be lengths joined by -, such as 1-4-16")

    @property
    def lengths(self) -> list[int]:
        return [int(p) for p in self.levels.split("-")]

    @property
    def iterations(self) -> int:
        return sum(self.lengths) + len(self.lengths)  # one more look at the end of each level

    def init(self, q: Query) -> Rows:
        return Rows(x=q.clean, fooled=torch.zeros_like(q.t).bool())

    def advance(self, q: Query, s: Rows) -> Rows:
        answer = q.gradient(s.x, self.loss)
        ends = list(itertools.accumulate(n + 1 for n in self.lengths))
        level = (q.t[:, None] >= torch.tensor(ends, device=q.t.device)).sum(1)
        last = q.t + 1 == torch.tensor(ends, device=q.t.device)[level]
        length = torch.tensor(self.lengths, device=q.t.device)[level]
        moved = q.project(steepest_step(s.x, answer.grad, q.ball.norm, q.ball.eps / length))
        every = q.margin(answer.members).amin(1) > 0
        return Rows(x=moved, fooled=last & every).where(
            last, Rows(x=torch.where(every[:, None, None, None], s.x, q.clean))
        )

    def done(self, q: Query, s: Rows) -> Tensor:
        return s.fooled
