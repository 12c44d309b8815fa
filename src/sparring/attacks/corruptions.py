"""Attacks without a norm ball, as the channels paper uses them (its Fig. 20): a corruption of growing strength, asked
about at every strength until the label changes. They see labels only. The distance that is reported is what it cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor
from torch.nn import functional

from sparring.attacks.method import Method
from sparring.attacks.query import Query
from sparring.core.geometry import per_row
from sparring.core.noise import Noise
from sparring.core.ranges import Count, NonNegative, Positive
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows
from sparring.core.victim import Access, Goal


@dataclass(frozen=True, kw_only=True)
class Corruption(Method):
    """What the family shares: strength (t+1)/steps at step t. A subclass writes ``corrupt``."""

    needs = Access.LABEL
    goal = Goal.MINIMAL
    norms = ("l2", "linf", "l1", "l0")
    settled = True
    steps: Count = 100

    def corrupt(self, q: Query, strength: Tensor) -> Tensor:
        """Images (B,C,H,W) at ``strength`` (B,) in (0,1]; may leave the box."""
        raise NotImplementedError

    @property
    def opening(self) -> tuple[int, int]:
        return 1, 0

    def init(self, q: Query) -> Rows:
        return Rows(x=q.clean, fooled=q.fooled(q.labels(q.clean, "clean")))

    def advance(self, q: Query, s: Rows) -> Rows:
        strength = (q.t + 1).to(q.clean.dtype) / self.steps
        x = self.corrupt(q, strength).clamp(0, 1)
        x = x if q.ball.mask is None else torch.where(q.ball.mask > 0, x, q.clean)
        fooled = q.fooled(q.labels(x, only=~s.fooled))
        return Rows(x=x, fooled=fooled | s.fooled)

    def done(self, q: Query, s: Rows) -> Tensor:
        return s.fooled

    def fixed(self, q: Query) -> Noise:
        """Noise that does not change from step to step: a stronger corruption is the same one, stronger."""
        return q.steady_noise("corruption")


@ATTACKS("contrast")
@dataclass(frozen=True, kw_only=True)
class Contrast(Corruption):
    """Contrast reduction (Foolbox, arXiv:1707.04131): (1-e) x + e (max+min)/2 with max and min of the box. Norms: any.

    Differs from the paper: none is cited; the grid is finer by ``steps``.
    """

    def corrupt(self, q: Query, strength: Tensor) -> Tensor:
        e = per_row(strength, q.clean)
        return (1 - e) * q.clean + e / 2


@ATTACKS("growing_noise")
@dataclass(frozen=True, kw_only=True)
class GrowingNoise(Corruption):
    """Additive noise of growing strength (Foolbox, arXiv:1707.04131): one Gaussian or uniform draw, scaled up. Norms: any.

    ``largest``: standard deviation (uniform: half-width) at full strength. Differs from the paper: the same draw is
    scaled, so that strength is the only thing that grows.
    """

    law: Literal["gaussian", "uniform"] = "gaussian"
    largest: Positive = 1.0

    def corrupt(self, q: Query, strength: Tensor) -> Tensor:
        shape, source = q.clean.shape[1:], self.fixed(q)
        unit = source.normal("draw", shape) if self.law == "gaussian" else 2 * source.uniform("draw", shape) - 1
        return q.clean + per_row(self.largest * strength, q.clean) * unit


@ATTACKS("salt_pepper")
@dataclass(frozen=True, kw_only=True)
class SaltPepper(Corruption):
    """Salt-and-pepper noise (Foolbox, arXiv:1707.04131): a growing share of values set to black or white. Norms: any.

    Differs from the paper: none is cited; values once set stay set as the share grows.
    """

    norms = ("l0", "l2", "linf", "l1")

    def corrupt(self, q: Query, strength: Tensor) -> Tensor:
        shape, source = q.clean.shape[1:], self.fixed(q)
        chosen = source.uniform("chosen", shape) < per_row(strength, q.clean)
        return torch.where(chosen, (source.uniform("value", shape) < 0.5).to(q.clean.dtype), q.clean)


@ATTACKS("single_pixel")
@dataclass(frozen=True, kw_only=True)
class SinglePixel(Corruption):
    """One random pixel black or white, ``steps`` tries (Narodytska & Kasiviswanathan, arXiv:1612.06299, sec. 4). Norm: l0.

    Differs from the paper: pixels are drawn with replacement.
    """

    norms = ("l0", "l2")
    steps: Count = 1000

    def corrupt(self, q: Query, strength: Tensor) -> Tensor:
        size = q.clean.shape[2] * q.clean.shape[3]
        source = q.noise("pixel")
        place = source.integers("place", size, (1,))
        white = (source.uniform("white", (1,)) < 0.5).to(q.clean.dtype)
        chosen = torch.zeros(len(place), size, device=q.clean.device).scatter(1, place, 1.0)
        return torch.where(chosen.reshape(-1, 1, *q.clean.shape[2:]) > 0, per_row(white[:, 0], q.clean), q.clean)


@ATTACKS("multi_pixel")
@dataclass(frozen=True, kw_only=True)
class MultiPixel(Corruption):
    """A growing number of random pixels black or white (channels paper, Fig. 20: "multi-pixel"; no arXiv id). Norm: l0.

    Differs from the paper: pixels once set stay set; the number grows to all pixels in ``steps``.
    """

    norms = ("l0", "l2")

    def corrupt(self, q: Query, strength: Tensor) -> Tensor:
        shape, source = (1, *q.clean.shape[2:]), self.fixed(q)
        chosen = source.uniform("chosen", shape) < per_row(strength, q.clean)
        return torch.where(chosen, (source.uniform("value", shape) < 0.5).to(q.clean.dtype), q.clean)


@ATTACKS("spatial")
@dataclass(frozen=True, kw_only=True)
class Spatial(Corruption):
    """Rotation and translation by grid search (Engstrom et al., arXiv:1712.02779, sec. 3). Norms: any.

    ``degrees`` and ``pixels``: largest rotation and shift; ``angles`` x ``shifts`` x ``shifts`` grid points, the mildest
    first. Differs from the paper: bilinear sampling on black; the search ends at the first success.
    """

    steps: Annotated[int, Ge(0), Le(0)] = 0
    degrees: Annotated[float, Ge(0), Le(180)] = 30.0
    pixels: NonNegative = 3.0
    angles: Count = 31
    shifts: Count = 5

    @property
    def iterations(self) -> int:
        return self.angles * self.shifts**2

    def corrupt(self, q: Query, strength: Tensor) -> Tensor:
        def axis(n: int) -> Tensor:
            return torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1)

        grid = torch.cartesian_prod(axis(self.angles), axis(self.shifts), axis(self.shifts))
        grid = grid[grid.square().sum(1).argsort(stable=True)].to(q.clean)
        angle, down, right = grid[q.t.clamp(max=len(grid) - 1)].unbind(1)
        angle = angle * math.radians(self.degrees)
        height, width = q.clean.shape[2:]
        cos, sin = angle.cos(), angle.sin()
        theta = torch.stack(
            [
                cos,
                -sin * height / width,
                2 * self.pixels * right / width,
                sin * width / height,
                cos,
                2 * self.pixels * down / height,
            ],
            1,
        ).unflatten(1, (2, 3))
        field = functional.affine_grid(theta, list(q.clean.shape), align_corners=False)
        return functional.grid_sample(q.clean, field, align_corners=False)
