"""Gradient ascent in a ball: FGSM, BIM, PGD, MI-FGSM. They differ in the start, the number of steps and the
direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from sparring.core.errors import SparringError
from sparring.core.geometry import ascent_direction, per_row
from sparring.core.losses import LossName
from sparring.core.optim import momentum
from sparring.core.query import Query
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows
from sparring.core.victim import Access, Goal


@dataclass(frozen=True, kw_only=True)
class Ascent:
    """What the family shares: x <- P(x + step_size * eps * direction(gradient)). ``step_size`` is a fraction of
    eps.
    """

    needs: ClassVar = Access.GRADIENT
    goal: ClassVar = Goal.BUDGET
    norms: ClassVar = ("linf", "l2")
    steps: int = 40
    step_size: float = 0.1
    loss: LossName = "ce"
    start: Literal["clean", "random"] = "random"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.step_size <= 0:
            raise SparringError(
                f"steps must be at least 1 and step_size positive, got steps={self.steps}, step_size={self.step_size}"
            )

    def init(self, q: Query) -> Rows:
        return Rows(x=q.ball.random(q.clean, q.noise("start")) if self.start == "random" else q.clean)

    def advance(self, q: Query, s: Rows) -> Rows:
        return s.put(x=self.step(q, s.x, q.gradient(s.x, self.loss).grad))

    def step(self, q: Query, x: Tensor, direction: Tensor) -> Tensor:
        """One projected step along ``direction``."""
        length = per_row(self.step_size * q.ball.eps, x)
        return q.project(x + length * ascent_direction(direction, q.ball.norm))


@ATTACKS("pgd")
@dataclass(frozen=True, kw_only=True)
class PGD(Ascent):
    """Projected gradient ascent from a random start (Madry et al., arXiv:1706.06083, sec. 2.1). Norms: linf, l2.

    Differs from the paper: the best iterate counts, not the last; l2 projects exactly onto ball and box together.
    """


@ATTACKS("bim")
@dataclass(frozen=True, kw_only=True)
class BIM(Ascent):
    """Basic iterative method, IFGSM (Kurakin et al., arXiv:1607.02533, eq. 3): PGD from the clean image. Norms:
    linf, l2.

    Differs from the paper: the step is a fraction of eps rather than 1/255.
    """

    steps: int = 10
    start: Literal["clean", "random"] = "clean"


@ATTACKS("fgsm")
@dataclass(frozen=True, kw_only=True)
class FGSM(Ascent):
    """Fast gradient sign method (Goodfellow et al., arXiv:1412.6572, sec. 4): one step of length eps. Norms: linf,
    l2.

    ``start=random`` is R-FGSM. Differs from the paper: nothing for ``start=clean``.
    """

    steps: int = 1
    step_size: float = 1.0
    start: Literal["clean", "random"] = "clean"


@ATTACKS("mifgsm")
@dataclass(frozen=True, kw_only=True)
class MIFGSM(Ascent):
    """Momentum iterative FGSM (Dong et al., arXiv:1710.06081, algorithm 1). Norms: linf, l2. Made for transfer.

    ``decay``: momentum factor mu of the l1-normalised gradients. Differs from the paper: nothing for linf.
    """

    steps: int = 10
    start: Literal["clean", "random"] = "clean"
    decay: float = 1.0

    def init(self, q: Query) -> Rows:
        s = super().init(q)
        return s.put(speed=s.x * 0)

    def advance(self, q: Query, s: Rows) -> Rows:
        speed = momentum(s.speed, q.gradient(s.x, self.loss).grad, self.decay)
        return Rows(x=self.step(q, s.x, speed), speed=speed)
