"""Auto-PGD (Croce & Hein, arXiv:2003.01690) and its l1 form (arXiv:2103.01208)."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch

from sparring.attacks.method import Method
from sparring.attacks.query import Query
from sparring.core.geometry import ascent_direction, per_row
from sparring.core.losses import LossName
from sparring.core.ranges import Count, Inner
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows

SHARE = 0.2  # l1: share of values in the first steps
SPARSER = 1.5  # l1: the next share is this much below the support of the best point; also how fast steps shrink


@ATTACKS("apgd")
@dataclass(frozen=True, kw_only=True)
class APGD(Method):
    """PGD with momentum whose step halves where progress stalls (arXiv:2003.01690, algorithm 1). Norms: linf, l2,
    and l1 by the sparse steps of arXiv:2103.01208, algorithm 1.

    ``loss``: ce, margin or dlr; with ``targets=9`` the targeted DLR on the runner-up classes (APGD-T). ``rho``:
    share of steps that must improve between checkpoints. Differs from the paper: the start is uniform in the ball
    (the authors' code scales linf starts to the sphere); with EOT a step is judged by the averaged objective.
    """

    norms = ("linf", "l2", "l1")
    steps: Count = 100
    loss: LossName = "ce"
    rho: Inner = 0.75
    start: Literal["clean", "random"] = "random"

    @property
    def starts_at(self) -> str:
        return self.start

    def init(self, q: Query) -> Rows:
        x = q.ball.random(q.clean, q.noise("start")) if self.start == "random" else q.clean
        low = torch.full_like(q.ball.eps, -torch.inf)
        return Rows(
            x=x,
            previous=x,
            best=x,
            best_grad=torch.zeros_like(x),
            best_loss=low,
            last_loss=low,
            step=q.ball.eps * (1 if q.ball.norm == "l1" else 2),
            rises=torch.zeros_like(low),
            mark_loss=low,
            mark_step=2 * q.ball.eps + 1,
            share=torch.full_like(low, SHARE),
            support=torch.ones_like(low),
        )

    def advance(self, q: Query, s: Rows) -> Rows:
        return self._sparse(q, s) if q.ball.norm == "l1" else self._dense(q, s)

    def _sparse(self, q: Query, s: Rows) -> Rows:
        """l1: step along the signs of the largest gradients; their share follows the support of the best point."""
        grad, loss = q.gradient(s.x, self.loss)[:2]
        s = s.where(loss > s.best_loss, Rows(best=s.x, best_grad=grad, best_loss=loss))
        look = (q.t + 1) % max(1, int(0.04 * self.steps)) == 0
        support = (s.best != q.clean).flatten(1).to(grad.dtype).mean(1)
        shrinks = look & (support < 0.95 * s.support)
        share = torch.where(look, support / SPARSER, s.share)
        slower = torch.maximum(s.step / SPARSER, q.ball.eps / 10)
        step = torch.where(shrinks, q.ball.eps, torch.where(look, slower, s.step))
        x, grad = (torch.where(per_row(shrinks, a), b, a) for a, b in ((s.x, s.best), (grad, s.best_grad)))
        size = grad.flatten(1).abs()
        kept = (share * size.shape[1]).ceil().clamp(1, size.shape[1]).long()
        threshold = size.sort(1, descending=True).values.gather(1, kept[:, None] - 1)
        sign = grad.sign() * (grad.abs() >= per_row(threshold[:, 0], grad))
        count = sign.abs().flatten(1).sum(1).clamp_min(1)
        new = q.project(x + per_row(step / count, x) * sign)
        support = torch.where(look, support, s.support)
        return s.put(x=new, step=step, share=share, support=support)

    def _dense(self, q: Query, s: Rows) -> Rows:
        grad, loss = q.gradient(s.x, self.loss)[:2]
        rises = s.rises + (loss > s.last_loss)
        better = loss > s.best_loss
        s = s.where(better, Rows(best=s.x, best_grad=grad, best_loss=loss))
        checkpoint, width = self._checkpoints(q)
        stalled = (rises < self.rho * width) | ((s.mark_step == s.step) & (s.mark_loss == s.best_loss))
        halve = checkpoint & stalled
        mark_loss = torch.where(checkpoint, s.best_loss, s.mark_loss)
        mark_step = torch.where(checkpoint, s.step, s.mark_step)  # the step of the interval just ended
        step = torch.where(halve, s.step / 2, s.step)
        x = torch.where(per_row(halve, grad), s.best, s.x)
        grad = torch.where(per_row(halve, grad), s.best_grad, grad)
        z = q.project(x + per_row(step, x) * ascent_direction(grad, q.ball.norm))
        inertia = per_row(torch.where(q.t > 0, 0.25, 0.0).to(x.dtype), x)
        new = q.project(x + (1 - inertia) * (z - x) + inertia * (x - s.previous))
        rises = torch.where(checkpoint, 0.0, rises)
        return s.put(
            x=new,
            previous=x,
            last_loss=loss,
            step=step,
            rises=rises,
            mark_loss=mark_loss,
            mark_step=mark_step,
        )

    def _checkpoints(self, q: Query) -> tuple[torch.Tensor, torch.Tensor]:
        """Per row: is this step a checkpoint, and how long was the interval it ends? (sec. 3.2, eq. 5)"""
        row = _checkpoint_table(self.steps, q.clean.device)[q.t.clamp(max=self.steps)]
        return row[:, 0] > 0, row[:, 1]


@lru_cache(maxsize=64)
def _checkpoint_table(steps: int, device: torch.device) -> torch.Tensor:
    """(steps+1,2): is a step a checkpoint, and the length of the interval it ends."""
    points = [0.0, 0.22]
    while points[-1] < 1:
        points.append(points[-1] + max(points[-1] - points[-2] - 0.03, 0.06))
    table = torch.zeros(steps + 1, 2)
    for before, mark in itertools.pairwise(math.ceil(p * steps) for p in points):
        if 0 < mark <= steps:
            table[mark] = torch.tensor([1.0, mark - before])
    return table.to(device)
