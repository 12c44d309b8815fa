"""Gradient ascent in a ball: FGSM, R-FGSM, BIM, PGD. They differ in the start, the number of steps and the schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sparring.attacks.method import Method
from sparring.attacks.query import Query
from sparring.core.geometry import distance, per_row, steepest_step
from sparring.core.losses import LossName
from sparring.core.optim import momentum
from sparring.core.ranges import Count, NonNegative, Rate, Step
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows


@dataclass(frozen=True, kw_only=True)
class Ascent(Method):
    """What the family shares: x <- P(x + step_size * eps * direction(gradient)). ``step_size`` is a fraction of eps;
    ``schedule``: constant, or linear decay to 0 over the steps.
    """

    norms = ("linf", "l2", "l1")
    steps: Count = 40
    step_size: Step = 0.1
    loss: LossName = "ce"
    start: Literal["clean", "random"] = "random"
    schedule: Literal["constant", "linear"] = "constant"

    @property
    def starts_at(self) -> str:
        return self.start

    @property
    def travel(self) -> float:
        return self.step_size * (self.steps if self.schedule == "constant" else (self.steps + 1) / 2)

    def init(self, q: Query) -> Rows:
        return Rows(x=q.ball.random(q.clean, q.noise("start")) if self.start == "random" else q.clean)

    def advance(self, q: Query, s: Rows) -> Rows:
        return s.put(x=self.step(q, s.x, q.gradient(s.x, self.loss).grad))

    def step(self, q: Query, x: Tensor, direction: Tensor) -> Tensor:
        """One projected step of steepest ascent."""
        return q.project(steepest_step(x, direction, q.ball.norm, self.length(q)))

    def length(self, q: Query) -> Tensor:
        """(B,) the length of this step in the ball's norm."""
        left = 1 - q.t.to(q.ball.eps.dtype) / self.steps if self.schedule == "linear" else 1.0
        return self.step_size * q.ball.eps * left


@ATTACKS("pgd")
@dataclass(frozen=True, kw_only=True)
class PGD(Ascent):
    """Projected gradient ascent from a random start (Madry et al., arXiv:1706.06083, sec. 2.1). Norms: linf, l2, l1.

    Differs from the paper: the best iterate counts, not the last; ball and box are projected onto together, exactly;
    an l1 step raises the coordinates of largest gradient one after the other.
    """


@ATTACKS("mpgd")
@dataclass(frozen=True, kw_only=True)
class MomentumPGD(Ascent):
    """PGD along a running mean of gradients (momentum of Dong et al., arXiv:1710.06081, algorithm 1, in PGD of Madry et al., arXiv:1706.06083, sec. 2.1).
    Norms: linf, l2, l1. For random systems: the mean over steps is one over draws as well, and no step is decided by a noisy loss.

    ``decay``: momentum factor of the l1-normalized gradients. ``loss`` is that of each draw, ``loss_of_mean`` that of the mean probability over draws,
    whose margin goes on raising draws that are lost (PROTOCOL 1.2). Differs from the paper: the margin is raised, the steps fall linearly to 0, the
    start is random, the decay below 1, and of a random system only the last point counts (measured: docs/measured.md).
    """

    step_size: Step = 0.2
    loss: LossName = "margin"
    loss_of_mean: LossName = "ce"
    schedule: Literal["constant", "linear"] = "linear"
    decay: NonNegative = 0.75

    def init(self, q: Query) -> Rows:
        s = super().init(q)
        return s.put(speed=s.x * 0)

    def advance(self, q: Query, s: Rows) -> Rows:
        # a random system's iterates are no candidates: the luckiest would be kept, and the last one is the best
        via = torch.clone if q.random else None
        grad = q.gradient(s.x, self.loss_of_mean if q.of_mean else self.loss, via=via).grad
        speed = momentum(s.speed, grad, self.decay)
        return Rows(x=self.step(q, s.x, speed), speed=speed)


@ATTACKS("bim")
@dataclass(frozen=True, kw_only=True)
class BIM(Ascent):
    """Basic iterative method, IFGSM (Kurakin et al., arXiv:1607.02533, eq. 3): PGD from the clean image. Norms: linf, l2,
    and l1 as the channels paper uses it: along the gradient itself (weaker than pgd's l1 step).

    ``schedule=linear``: decayed step sizes (dIFGSM of HGD's appendix D, whose lists are lost). Differs from the paper:
    the step is a fraction of eps rather than 1/255.
    """

    steps: Count = 10
    start: Literal["clean", "random"] = "clean"

    def step(self, q: Query, x: Tensor, direction: Tensor) -> Tensor:
        if q.ball.norm != "l1":
            return super().step(q, x, direction)
        dense = direction / per_row(distance(direction, "l1"), x).clamp_min(1e-30)
        return q.project(x + per_row(self.length(q), x) * dense)


@ATTACKS("fgsm")
@dataclass(frozen=True, kw_only=True)
class FGSM(Ascent):
    """Fast gradient sign method (Goodfellow et al., arXiv:1412.6572, sec. 4): one step of length eps. Norms: linf, l2, l1.

    With ``target=least`` the least-likely-class FGSM (Kurakin et al., arXiv:1611.01236). ``start=random``: from a random
    point of the ball. Differs from the paper: nothing for ``start=clean``.
    """

    steps: Count = 1
    step_size: Step = 1.0
    start: Literal["clean", "random"] = "clean"


@ATTACKS("rfgsm")
@dataclass(frozen=True, kw_only=True)
class RFGSM(Ascent):
    """R-FGSM (Tramer et al., arXiv:1705.07204, eq. 7): a random sign step of ``alpha`` * eps, then FGSM with the rest.
    Norm: linf.

    Differs from the paper: nothing.
    """

    norms = ("linf",)
    steps: Count = 1
    alpha: Rate = 0.5

    @property
    def starts_at(self) -> str:
        return "random"

    def init(self, q: Query) -> Rows:
        sign = 2 * (q.noise("start").uniform("sign", q.clean.shape[1:]) < 0.5).to(q.clean.dtype) - 1
        return Rows(x=q.project(q.clean + per_row(self.alpha * q.ball.eps, q.clean) * sign))

    def length(self, q: Query) -> Tensor:
        return (1 - self.alpha) * q.ball.eps
