"""PDGD: the nearest adversarial point in l2 as a game between the point and the price of being right."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from sparring.attacks.fmn import linear_distance
from sparring.attacks.method import Method
from sparring.attacks.query import Query
from sparring.core.geometry import distance, per_row
from sparring.core.optim import adam, adam_state
from sparring.core.ranges import Count, NonNegative, Positive
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows
from sparring.core.victim import Goal

FACTOR = 4.0  # first step in units of the linear model's distance, spread over the pixels
MOST_ODDS = 1e6
MEMORY = 0.9  # of the averaged weights


@ATTACKS("pdgd")
@dataclass(frozen=True, kw_only=True)
class PDGD(Method):
    """Primal-dual gradient descent (Matyasko & Chau, arXiv:2106.01538, algorithm 1). Norm: l2.

    The point descends (1 - w) |d| + w softplus(-margin) by Adam; the log-odds of w rise while it is right and fall while it is
    wrong, by ``dual`` a step, which anneals linearly to a tenth. ``step``: the first one of a pixel, which decays to a hundredth;
    0: FACTOR times the linear model's distance, spread over the pixels, image by image (the paper: 0.1, whatever the image).
    Differs from the paper: that step; the first odds are those at which the linear model rests at its boundary (theirs are 100), which takes
    most of 100 steps to find otherwise.
    """

    goal = Goal.MINIMAL
    norms = ("l2",)
    steps: Count = 500
    step: NonNegative = 0.0
    dual: Positive = 0.1

    def init(self, q: Query) -> Rows:
        zero = torch.zeros_like(q.ball.eps)
        return adam_state(q.clean).put(x=q.clean, odds=zero, weight=zero, scale=zero)

    def advance(self, q: Query, s: Rows) -> Rows:
        grad, margin, logits = q.gradient(s.x, "margin")[:3]
        delta, progress = s.x - q.clean, q.t.to(margin.dtype) / self.steps
        first, rise = q.t == 0, distance(grad, "l2").clamp_min(1e-12)
        scale = torch.where(first, linear_distance(margin, grad), s.scale)
        # at the boundary softplus falls by half of the margin's rise: there these odds balance it with the distance
        odds = torch.where(first, torch.log(2 / rise), s.odds)
        weight = torch.where(first, torch.sigmoid(odds), s.weight)
        outward = delta / per_row(distance(delta, "l2"), delta).clamp_min(1e-12)
        slope = per_row(1 - weight, delta) * outward - per_row(weight * torch.sigmoid(-margin), grad) * grad
        if q.ball.mask is not None:
            slope = slope * q.ball.mask
        direction, moments = adam(Rows(m=s.m, v=s.v, count=s.count), slope)
        step = torch.full_like(scale, self.step) if self.step else FACTOR * scale / math.sqrt(grad[0].numel())
        x = (s.x - per_row(step * 0.01**progress, delta) * direction).clamp(0, 1)
        raised = torch.where(q.margin(logits) > 0, -self.dual, self.dual) * (1 - 0.9 * progress)
        odds = (odds + raised).clamp(-math.log(MOST_ODDS), math.log(MOST_ODDS))
        weight = MEMORY * weight + (1 - MEMORY) * torch.sigmoid(odds)
        return moments.put(x=x, odds=odds, weight=weight, scale=scale)
