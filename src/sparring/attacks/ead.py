"""EAD: elastic-net attack, the published minimiser of l1 distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from sparring.attacks.minimum_norm import Bisection
from sparring.attacks.query import Query
from sparring.core.geometry import per_row
from sparring.core.ranges import Count, NonNegative, Step
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows


@ATTACKS("ead")
@dataclass(frozen=True, kw_only=True)
class EAD(Bisection):
    """Elastic-net attack (Chen et al., arXiv:1709.04114, algorithm 1, FISTA): min |d|_2^2 + beta |d|_1 + c * hinge, the
    nearest in l1 kept. Norm: l1.

    ``beta``: weight of l1, ``lr``: first step, falling with the square root of the steps left; ``kappa``: confidence.
    Differs from the paper: c is bisected and a search ended per image; searches after a hit begin at
    the nearest point so far (``start=clean``: the paper's, longer perturbations).
    """

    norms: ClassVar = ("l1",)
    steps: Count = 1000
    lr: Step = 0.01
    start: Literal["clean", "nearest"] = "nearest"
    beta: NonNegative = 0.01
    kappa: NonNegative = 0.0

    @property
    def confidence(self) -> float:
        return self.kappa

    def fresh(self, x: Tensor) -> Rows:
        return Rows(x=x, y=x)

    def move(self, q: Query, s: Rows) -> tuple[Rows, Tensor, Tensor, Tensor]:
        # gradient at the extrapolated point y; x is the shrunk point, which the next y looks past
        grad, margin = q.gradient(s.y, "margin")[:2]
        delta = s.y - q.clean
        active = per_row(s.c * (margin < self.kappa), grad)
        lr = per_row(self.lr * (1 - s.k / self.steps).clamp_min(0).sqrt(), grad)
        z = s.y - lr * (2 * delta - active * grad) - q.clean
        shrunk = z.sign() * (z.abs() - self.beta).clamp_min(0)
        if q.ball.mask is not None:
            shrunk = shrunk * q.ball.mask
        x = (q.clean + shrunk).clamp(0, 1)
        y = (x + per_row(s.k / (s.k + 3), x) * (x - s.x)).clamp(0, 1)
        loss = delta.flatten(1).square().sum(1) + self.beta * delta.flatten(1).abs().sum(1)
        loss = loss + s.c * (self.kappa - margin).clamp_min(0)
        return s.put(x=x, y=y), s.y, (margin > 0) & (margin >= self.kappa), loss
