"""DeepFool: step to the nearest linearised decision boundary until the label changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from sparring.attacks.method import Method
from sparring.attacks.query import Query
from sparring.core.geometry import Norm, distance, per_row
from sparring.core.ranges import Count, NonNegative
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows
from sparring.core.victim import Goal

DUAL: dict[Norm, Norm] = {"linf": "l1", "l2": "l2", "l1": "linf"}


class Linearization(NamedTuple):
    """The nearest linearised boundary of each row: its normal (B,C,H,W), value (B,; 0 on it), the normal's dual norm (B,), whether
    the row has won (B,), and the dual norm for each class that was looked at (B,K; 0 for the others)."""

    normal: Tensor
    value: Tensor
    size: Tensor
    won: Tensor
    sizes: Tensor


def rivals(q: Query, count: int, sizes: Tensor | None = None) -> Callable[[Tensor, slice], Tensor]:
    """Coefficients (b,k,K) of the boundaries to cross: z_k - z_label for the ``count`` highest other classes (with ``sizes``
    (B,K) of earlier normals: for the nearest by those, of classes that have one), or, where a target is given, z_target -
    z_label (a targeted goal: minus the highest class other than the target).
    """

    def rows_of(z: Tensor, rows: slice) -> Tensor:
        classes, label = z.shape[1], q.label[rows]
        if q.target is None:
            gap = z.gather(1, label[:, None]) - z
            far = gap if sizes is None else gap.abs() / sizes[rows]
            best = far.scatter(1, label[:, None], torch.inf).topk(min(count, classes - 1), 1, largest=False).indices
            return (one_hot(best, classes) - one_hot(label, classes)[:, None]).to(z.dtype)
        target = q.target[rows]
        other = z.scatter(1, target[:, None], -torch.inf).argmax(1) if q.must_hit else label
        return (one_hot(target, classes) - one_hot(other, classes)).to(z.dtype)[:, None]

    return rows_of


def nearest_boundary(q: Query, x: Tensor, aims: Callable[[Tensor, slice], Tensor], call: str = "") -> Linearization:
    """Of the boundaries ``aims`` (see ``rivals``) the one whose linearisation at ``x`` is nearest in the ball's norm."""
    grads, weights, logits = q.jacobian(x, aims, call)
    if q.ball.mask is not None:
        grads = grads * q.ball.mask[:, None]
    values = (weights * logits[:, None]).sum(2)
    size = distance(grads.flatten(0, 1), DUAL[q.ball.norm]).unflatten(0, values.shape).clamp_min(1e-12)
    nearest = (values.abs() / size).argmin(1)
    row = torch.arange(len(x), device=x.device)
    sizes = torch.zeros_like(logits).scatter(1, weights.argmax(2), size)
    return Linearization(
        grads[row, nearest], values[row, nearest], size[row, nearest], q.margin(logits) > 0, sizes.to(x.dtype)
    )


@ATTACKS("deepfool")
@dataclass(frozen=True, kw_only=True)
class DeepFool(Method):
    """DeepFool (Moosavi-Dezfooli et al., arXiv:1511.04599, algorithm 2). Norms: l2, linf.

    ``classes``: how many runner-up classes the first step looks at; ``overshoot``: share by which the sum of steps is
    stretched. Differs from the paper: not all classes; later steps linearise only the boundary that the present logits
    and the normals seen so far make the nearest (one backward each; the same median distances); ``target`` makes it targeted.
    """

    goal = Goal.MINIMAL
    norms = ("l2", "linf")
    steps: Count = 50
    classes: Count = 5
    overshoot: NonNegative = 0.02

    @property
    def iterations(self) -> int:
        return self.steps - 1  # the first is made by init

    @property
    def opening(self) -> tuple[int, int]:
        return 1, self.classes

    def init(self, q: Query) -> Rows:
        first = nearest_boundary(q, q.clean, rivals(q, self.classes), "first")
        return self._cross(q, first, torch.zeros_like(q.clean), first.sizes)

    def advance(self, q: Query, s: Rows) -> Rows:
        b = nearest_boundary(q, s.x, rivals(q, 1, s.sizes))
        return self._cross(q, b, s.total, torch.where(b.sizes > 0, b.sizes, s.sizes))

    def _cross(self, q: Query, b: Linearization, total: Tensor, sizes: Tensor) -> Rows:
        w = b.normal
        direction = w.sign() if q.ball.norm == "linf" else w / per_row(b.size, w)
        total = total + per_row((b.value.abs() + 1e-6) / b.size, w) * direction
        x = (q.clean + (1 + self.overshoot) * total).clamp(0, 1)
        return Rows(x=x, total=total, sizes=sizes, fooled=b.won)

    def done(self, q: Query, s: Rows) -> Tensor:
        return s.fooled
