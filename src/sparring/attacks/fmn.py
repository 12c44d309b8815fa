"""FMN: fast minimum-norm attack in l0, l1, l2 and linf."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attacks.deepfool import DUAL
from sparring.attacks.method import Method
from sparring.attacks.query import Query
from sparring.core.geometry import Ball, Norm, ascent_direction, distance, per_row
from sparring.core.ranges import Count, Inner, NonNegative
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows
from sparring.core.victim import Goal

# first step in units of the linear model's l2 distance at the clean image: tried at 30 steps (l0: 60) on cifar_resnet20 and on a
# hardened MNIST net, whose distances are 20 times larger
FACTOR = {"linf": 2.0, "l2": 1.5, "l1": 3.0, "l0": 16.0}
LEAST, MOST = 0.02, 5.0  # of that distance: a flat or a lucky gradient must not decide


def linear_distance(margin: Tensor, grad: Tensor) -> Tensor:
    """(B,) l2 distance to where the linear model with this margin (B,) and gradient (B,C,H,W) puts the boundary, within LEAST and MOST."""
    return (margin.abs() / distance(grad, "l2").clamp_min(1e-12)).clamp(LEAST, MOST)


@ATTACKS("fmn")
@dataclass(frozen=True, kw_only=True)
class FMN(Method):
    """Fast minimum-norm attack (Pintor et al., arXiv:2102.12827, algorithm 1). Norms: linf, l2, l1, l0 (pixels).

    ``step``: first l2 length of a step, annealed by a cosine to a hundredth; 0: FACTOR of the norm times the linear model's distance,
    image by image (the paper: 10 for linf, else 1, whatever the image). ``gamma``: how fast the radius follows, annealed from gamma to
    0.001. Differs from the paper: that step; l0 counts pixels, not channels; ball and box are projected onto together.
    """

    goal = Goal.MINIMAL
    norms = ("linf", "l2", "l1", "l0")
    steps: Count = 100
    step: NonNegative = 0.0
    gamma: Inner = 0.05

    def init(self, q: Query) -> Rows:
        far = torch.full_like(q.ball.eps, torch.inf)
        return Rows(x=q.clean, radius=far, best=far, scale=far)

    def advance(self, q: Query, s: Rows) -> Rows:
        grad, margin, logits = q.gradient(s.x, "margin")[:3]
        norm, won = q.ball.norm, q.margin(logits) > 0
        size = distance(s.x - q.clean, norm)
        best = torch.where(won, torch.minimum(s.best, size), s.best)
        anneal = (1 + torch.cos(math.pi * q.t.to(size.dtype) / self.steps)) / 2
        gamma = 0.001 + (self.gamma - 0.001) * anneal
        smaller, larger = size * (1 - gamma), s.radius * (1 + gamma)
        # before the first success: where the linear model puts the boundary
        first = (size + margin.abs() / self._dual(grad, norm).clamp_min(1e-12)) * 1.01  # across it
        if norm == "l0":
            smaller, larger = torch.minimum(smaller.floor(), size - 1), torch.maximum(larger.floor(), s.radius + 1)
            first = torch.maximum(first.ceil(), size + 1)
        radius = torch.where(won, torch.minimum(smaller, best), torch.where(torch.isfinite(best), larger, first))
        radius = torch.minimum(radius, best).clamp_min(0)
        scale = torch.where(torch.isfinite(s.scale), s.scale, linear_distance(margin, grad))
        length = (self.step if self.step else FACTOR[norm] * scale) * (0.01 + 0.99 * anneal)
        x = s.x + per_row(length, grad) * ascent_direction(grad, "l2")
        return Rows(x=Ball(norm, radius, q.ball.mask).project(x, q.clean), radius=radius, best=best, scale=scale)

    @staticmethod
    def _dual(grad: Tensor, norm: Norm) -> Tensor:
        if norm == "l0":  # what one pixel, moved by a half, can change
            return grad.abs().sum(1).flatten(1).amax(1) / 2
        return distance(grad, DUAL[norm])
