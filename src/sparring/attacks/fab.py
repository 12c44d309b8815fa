"""FAB: the fast adaptive boundary attack, and its targeted form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le

from sparring.attacks.deepfool import nearest_boundary, rivals
from sparring.attacks.method import Method
from sparring.attacks.query import Query
from sparring.core.geometry import distance, per_row, to_hyperplane
from sparring.core.ranges import Count, Part, Rate
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows
from sparring.core.victim import Goal


@ATTACKS("fab")
@dataclass(frozen=True, kw_only=True)
class FAB(Method):
    """FAB (Croce & Hein, arXiv:1907.02044, algorithm 1); with ``targets=9`` FAB-T. Norms: linf, l2, l1.

    ``alpha``: largest weight of the step from the clean image, ``eta``: overshoot, ``beta``: how far a found point is
    pulled back; ``classes``: boundaries looked at when untargeted. ``start=random`` for restarts: within eps/2 (needs
    eps). Differs from the paper: a found point is pulled back along the linearisation made at it, which saves a
    forward a step; not all classes; no final binary search.
    """

    goal = Goal.MINIMAL
    norms = ("linf", "l2", "l1")
    steps: Count = 100
    classes: Count = 9
    alpha: Rate = 0.1
    eta: Annotated[float, Ge(1), Le(10)] = 1.05
    beta: Part = 0.9
    start: Literal["clean", "random"] = "clean"

    @property
    def starts_at(self) -> str:
        return self.start

    def gradients(self, targeted: bool) -> int:
        return 1 if targeted else self.classes

    def init(self, q: Query) -> Rows:
        if self.start == "clean":
            return Rows(x=q.clean)
        half = q.ball.random(q.clean, q.noise("start"))
        return Rows(x=(q.clean + half) / 2)

    def advance(self, q: Query, s: Rows) -> Rows:
        w, value, _, won, _ = nearest_boundary(q, s.x, rivals(q, self.classes))
        base = torch.where(per_row(won, w), q.clean + self.beta * (s.x - q.clean), s.x)
        # what the linear model lacks to 0 at base, and at clean
        gap = -(value + (w * (base - s.x)).flatten(1).sum(1))
        gap_clean = -(value + (w * (q.clean - s.x)).flatten(1).sum(1))
        step = to_hyperplane(base, w, gap, q.ball.norm)
        step_clean = to_hyperplane(q.clean, w, gap_clean, q.ball.norm)
        a, b = distance(step, q.ball.norm), distance(step_clean, q.ball.norm)
        alpha = per_row((a / (a + b).clamp_min(1e-12)).clamp(max=self.alpha), w)
        x = (1 - alpha) * (base + self.eta * step) + alpha * (q.clean + self.eta * step_clean)
        return Rows(x=x.clamp(0, 1))
