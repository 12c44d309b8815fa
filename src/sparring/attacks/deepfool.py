"""DeepFool: step to the nearest linearised decision boundary until the label changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from sparring.core.errors import SparringError
from sparring.core.geometry import Norm, distance, per_row
from sparring.core.query import Query
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows
from sparring.core.victim import Access, Goal

DUAL: dict[Norm, Norm] = {"linf": "l1", "l2": "l2", "l1": "linf"}


def rivals(q: Query, count: int) -> Callable[[Tensor, slice], Tensor]:
    """Coefficients (b,k,K) of the boundaries to cross: z_k - z_label for the ``count`` highest other classes, or, where a
    target is given, z_target - z_label (a targeted goal: minus the highest class other than the target).
    """

    def rows_of(z: Tensor, rows: slice) -> Tensor:
        classes, label = z.shape[1], q.label[rows]
        if q.target is None:
            best = z.scatter(1, label[:, None], -torch.inf).topk(min(count, classes - 1), 1).indices
            return (one_hot(best, classes) - one_hot(label, classes)[:, None]).to(z.dtype)
        target = q.target[rows]
        other = z.scatter(1, target[:, None], -torch.inf).argmax(1) if q.must_hit else label
        return (one_hot(target, classes) - one_hot(other, classes)).to(z.dtype)[:, None]

    return rows_of


def nearest_boundary(q: Query, x: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of the ``rivals`` the one whose linearised boundary is nearest to ``x`` in the ball's norm: its normal (B,C,H,W),
    value (B,; 0 on the boundary), the normal's dual norm (B,), and whether ``x`` has already won (B,).
    """
    grads, values, logits = q.jacobian(x, rivals(q, count))
    if q.ball.mask is not None:
        grads = grads * q.ball.mask[:, None]
    size = distance(grads.flatten(0, 1), DUAL[q.ball.norm]).unflatten(0, values.shape).clamp_min(1e-12)
    nearest = (values.abs() / size).argmin(1)
    row = torch.arange(len(x), device=x.device)
    return grads[row, nearest], values[row, nearest], size[row, nearest], q.margin(logits) > 0


@ATTACKS("deepfool")
@dataclass(frozen=True, kw_only=True)
class DeepFool:
    """DeepFool (Moosavi-Dezfooli et al., arXiv:1511.04599, algorithm 2). Norms: l2, linf.

    ``classes``: how many runner-up classes are looked at (one forward, as many backwards a step); ``overshoot``: share
    by which the sum of steps is stretched. Differs from the paper: not all classes; ``target`` makes it targeted.
    """

    needs: ClassVar = Access.GRADIENT
    goal: ClassVar = Goal.MINIMAL
    norms: ClassVar = ("l2", "linf")
    steps: int = 50
    classes: int = 4
    overshoot: float = 0.02

    def __post_init__(self) -> None:
        if min(self.steps, self.classes) < 1 or self.overshoot < 0:
            raise SparringError("steps and classes must be at least 1, overshoot not negative")

    def init(self, q: Query) -> Rows:
        return Rows(x=q.clean, total=torch.zeros_like(q.clean), fooled=torch.zeros_like(q.t).bool())

    def advance(self, q: Query, s: Rows) -> Rows:
        w, value, size, won = nearest_boundary(q, s.x, self.classes)
        direction = w.sign() if q.ball.norm == "linf" else w / per_row(size, w)
        total = s.total + per_row((value.abs() + 1e-6) / size, w) * direction
        x = (q.clean + (1 + self.overshoot) * total).clamp(0, 1)
        return Rows(x=x, total=total, fooled=won)

    def done(self, q: Query, s: Rows) -> Tensor:
        return s.fooled
