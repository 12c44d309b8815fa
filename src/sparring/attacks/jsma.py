"""JSMA: raise or lower, two at a time, the pixel values that a saliency map names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor
from torch.nn.functional import one_hot

from sparring.attacks.method import Method
from sparring.attacks.query import Query
from sparring.core.errors import SparringError
from sparring.core.geometry import per_row
from sparring.core.ranges import Natural, Part
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows
from sparring.core.victim import Goal

WIDTH = 128  # features among which the best pair is looked for


@ATTACKS("jsma")
@dataclass(frozen=True, kw_only=True)
class JSMA(Method):
    """Jacobian-based saliency map attack (Papernot et al., arXiv:1511.07528, algorithms 2 and 3). Norm: l0.

    ``theta``: change of a pixel value per step (negative: downwards); ``gamma``: share of the values that may change.
    ``target=`` or ``targets=9`` (many targets); without, the runner-up class of the moment. Differs from the paper: the
    Jacobian of logits, one forward and two backwards; the best pair is found among values that no two others beat.
    """

    goal = Goal.MINIMAL
    norms = ("l0",)
    steps: Natural = 0
    theta: Annotated[float, Ge(-1), Le(1)] = 1.0
    gamma: Part = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.theta == 0:
            raise SparringError("theta=0 changes nothing; theta must be in [-1,1] and not 0")

    @property
    def iterations(self) -> int:
        return self.steps or 10**9  # gamma ends it

    def gradients(self, targeted: bool) -> int:
        return 2

    def iterations_of(self, values: int) -> int:
        """Iterations until ``gamma`` is used up: a pair each, and the look after the last."""
        return min(self.iterations, int(self.gamma * values / 2) + 1)

    def init(self, q: Query) -> Rows:
        free = torch.ones_like(q.clean) if q.ball.mask is None else q.ball.mask.expand_as(q.clean)
        zero = torch.zeros_like(q.t)
        return Rows(x=q.clean, free=free.bool(), changed=zero, fooled=zero.bool())

    def advance(self, q: Query, s: Rows) -> Rows:
        def rows_of(z: Tensor, rows: slice) -> Tensor:
            target = z.scatter(1, q.label[rows][:, None], -torch.inf).argmax(1) if q.target is None else q.target[rows]
            goal = one_hot(target, z.shape[1]).to(z.dtype)
            return torch.stack([goal, 1 - goal], 1)

        grads, _, logits = q.jacobian(s.x, rows_of)
        sign = 1.0 if self.theta > 0 else -1.0
        gain, loss = (sign * grads[:, 0]).flatten(1), (-sign * grads[:, 1]).flatten(1)
        room = (s.x < 1) if self.theta > 0 else (s.x > 0)
        usable = (room & s.free).flatten(1)
        first, second, paired = best_pair(gain, loss, usable)
        moved = torch.zeros_like(gain).scatter(1, torch.stack([first, second], 1), 1.0)
        moved = (moved * (usable & paired[:, None])).reshape(s.x.shape)
        limit = self.gamma * s.x[0].numel() / 2
        fooled = q.margin(logits) > 0
        stop = fooled | ~paired | (s.changed + 1 > limit)
        x = torch.where(per_row(stop, s.x), s.x, (s.x + self.theta * moved).clamp(0, 1))
        return s.put(x=x, changed=s.changed + 1, fooled=stop)

    def done(self, q: Query, s: Rows) -> Tensor:
        return s.fooled


def best_pair(gain: Tensor, loss: Tensor, usable: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Per row the pair p != q of usable features with the largest (gain_p + gain_q) * (loss_p + loss_q), both sums
    positive: (first (B,), second (B,), is there one? (B,)).

    A feature that two others beat in both numbers is in no best pair: the rest (a 2-skyline, a few dozen of thousands)
    is searched exhaustively. It is exact while at most WIDTH features remain; else the WIDTH of largest gain are taken.
    """
    low = torch.finfo(gain.dtype).min / 4
    gain, loss = (torch.where(usable, v, low) for v in (gain, loss))
    order = gain.argsort(stable=True, dim=1, descending=True)
    ranked = loss.gather(1, order)
    top = ranked.cummax(1).values
    before = torch.cat([torch.full_like(top[:, :1], -torch.inf), top[:, :-1]], 1)
    second = torch.minimum(ranked, before).cummax(1).values  # running second largest
    second = torch.cat([torch.full_like(second[:, :1], -torch.inf), second[:, :-1]], 1)
    kept = (ranked > second) & usable.gather(1, order)
    place = torch.where(kept, torch.arange(ranked.shape[1], device=gain.device), ranked.shape[1])
    place = place.topk(min(WIDTH, ranked.shape[1]), 1, largest=False, sorted=True).values
    real = place < ranked.shape[1]
    feature = order.gather(1, place.clamp(max=ranked.shape[1] - 1))
    a, b = (torch.where(real, v.gather(1, feature), low) for v in (gain, loss))
    sums = a[:, :, None] + a[:, None], b[:, :, None] + b[:, None]
    width = feature.shape[1]
    allowed = (sums[0] > 0) & (sums[1] > 0) & ~torch.eye(width, dtype=torch.bool, device=gain.device)
    score, pair = torch.where(allowed, sums[0] * sums[1], -torch.inf).flatten(1).max(1)
    chosen = [feature.gather(1, p[:, None])[:, 0] for p in (pair // width, pair % width)]
    return chosen[0], chosen[1], score > -torch.inf
