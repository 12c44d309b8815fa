"""sigma-zero: few pixels, by descent of a smooth count of them and a threshold that follows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from sparring.attacks.method import Method
from sparring.attacks.query import Query
from sparring.core.geometry import distance, per_row
from sparring.core.optim import adam, adam_state
from sparring.core.ranges import Count, NonNegative, Positive
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows
from sparring.core.victim import Goal


@ATTACKS("sigma_zero")
@dataclass(frozen=True, kw_only=True)
class SigmaZero(Method):
    """sigma-zero (Cina et al., arXiv:2402.01879, algorithm 1). Norm: l0 (pixels). Made for many steps: of a hundred, FMN is nearer.

    Descends max(0, -margin) + the mean of v/(v + ``sigma``) over pixels, v the squared change of a pixel, by Adam on gradients of linf norm 1;
    ``step`` anneals by a cosine to a tenth. Pixels that changed by less than a threshold return to the clean image after each step; it begins at
    ``threshold`` and follows by ``follow`` times the step: up while the image is wrong, down while it is right. Differs from the paper: it counts
    pixels, not their channels; ``follow`` is twice theirs.
    """

    goal = Goal.MINIMAL
    norms = ("l0",)
    steps: Count = 500
    step: Positive = 1.0
    sigma: Positive = 1e-3
    threshold: NonNegative = 0.3
    follow: Positive = 0.02

    def init(self, q: Query) -> Rows:
        return adam_state(q.clean).put(x=q.clean, threshold=torch.full_like(q.ball.eps, self.threshold))

    def advance(self, q: Query, s: Rows) -> Rows:
        grad, margin, logits = q.gradient(s.x, "margin")[:3]
        delta = s.x - q.clean
        size = delta.square().sum(1, keepdim=True)
        count = 2 * delta * self.sigma / (size + self.sigma).square() / size[0].numel()
        slope = count - per_row(margin < 0, grad) * grad
        if q.ball.mask is not None:
            slope = slope * q.ball.mask
        slope = slope / per_row(distance(slope, "linf"), slope).clamp_min(1e-12)
        direction, moments = adam(Rows(m=s.m, v=s.v, count=s.count), slope)
        step = self.step * (0.1 + 0.9 * (1 + torch.cos(math.pi * q.t.to(grad.dtype) / self.steps)) / 2)
        moved = (s.x - per_row(step, grad) * direction).clamp(0, 1) - q.clean
        threshold = (s.threshold + self.follow * step * torch.where(q.margin(logits) > 0, 1, -1)).clamp(0, 1)
        kept = moved.abs().amax(1, keepdim=True) >= per_row(threshold, moved)
        return moments.put(x=q.clean + moved * kept, threshold=threshold)
