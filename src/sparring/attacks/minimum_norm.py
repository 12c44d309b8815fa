"""Minimum-norm attacks in l2: Carlini & Wagner, DDN, and the bisection that others share. The engine keeps the nearest
adversarial point of each row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sparring.attacks.method import Method
from sparring.attacks.query import Query
from sparring.core.geometry import ascent_direction, distance, per_row
from sparring.core.optim import adam, adam_state
from sparring.core.ranges import Count, Inner, NonNegative, Part, Positive, Step
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows
from sparring.core.victim import Goal

UNBOUNDED_C = 1e9
EDGE = 0.999999  # tanh never reaches 1
SETTLED = 0.1  # of a constant: known so well, another search finds nothing nearer
GRAY = 2.0  # |w| from which on tanh(w) is nearly black or white, where a step in w hardly moves a pixel


@dataclass(frozen=True, kw_only=True)
class Bisection(Method):
    """What attacks with a trade-off constant share: ``searches`` searches of ``steps`` steps, c bisected *per image*.

    A search that hits lowers c, one that does not raises it (times ten while nothing was hit). ``c``: the first one.
    ``start=nearest``: searches after a hit begin at the nearest point that hit; ``patience``: the share of a search without a new
    lowest loss that ends it. A subclass writes ``fresh`` (state of a
    search that starts at given points) and ``move`` (one step; returns the new state, the point it asked about, and
    (B,) whether that hit and the loss).
    """

    goal = Goal.MINIMAL
    norms = ("l2",)
    steps: Count = 1000
    searches: Count = 9
    c: Positive = 0.01
    start: Literal["clean", "nearest"] = "clean"
    patience: Part = 0.25

    @property
    def iterations(self) -> int:
        return self.steps * self.searches

    @property
    def starts_at(self) -> str:
        return self.start

    def fresh(self, x: Tensor) -> Rows:
        raise NotImplementedError

    def move(self, q: Query, s: Rows) -> tuple[Rows, Tensor, Tensor, Tensor]:
        raise NotImplementedError

    def init(self, q: Query) -> Rows:
        zero = torch.zeros_like(q.ball.eps)
        s = Rows(x=q.clean, c=zero + self.c, low=zero, high=zero + UNBOUNDED_C, search=zero)
        s = s.put(near=q.clean, size=zero + torch.inf)  # the nearest point that hit, over all searches
        return self._restart(q, s)

    def _restart(self, q: Query, s: Rows) -> Rows:
        zero = torch.zeros_like(s.c)
        start = self.fresh(s.near if self.start == "nearest" else q.clean)
        return s.put(
            hit=zero.bool(), k=zero, lowest=zero + torch.inf, reference=zero + torch.inf, **dict(start.items())
        )

    def advance(self, q: Query, s: Rows) -> Rows:
        moved, asked, hit, loss = self.move(q, s)
        size = distance(asked - q.clean, q.ball.norm)
        moved = moved.where(hit & (size < s.size), Rows(near=asked, size=size))
        k = s.k + 1
        # abort per image: so much of the search without a new lowest loss (by 0.01 %); an oscillating loss is no reason
        lowest = torch.minimum(s.lowest, loss)
        look = k % max(1, int(self.steps * self.patience)) == 0
        stuck = look & (lowest > s.reference - 1e-4 * s.reference.abs())
        reference = torch.where(look, lowest, s.reference)
        moved = moved.put(hit=s.hit | hit, k=k, lowest=lowest, reference=reference)
        return self._next_search(q, moved, stuck | (k >= self.steps))

    def _next_search(self, q: Query, s: Rows, over: Tensor) -> Rows:
        """Rows whose search is over bisect c (or multiply it by 10 while nothing was hit) and begin again."""
        high = torch.where(s.hit, torch.minimum(s.high, s.c), s.high)
        low = torch.where(s.hit, s.low, torch.maximum(s.low, s.c))
        c = torch.where(high < UNBOUNDED_C, (low + high) / 2, s.c * 10)
        fresh = self._restart(q, s.put(c=c, low=low, high=high, search=s.search + 1))
        return s.where(over, fresh)

    def done(self, q: Query, s: Rows) -> Tensor:
        settled = (s.high < UNBOUNDED_C) & (s.high - s.low < SETTLED * s.high)
        return (s.search >= self.searches) | settled


@ATTACKS("cw")
@dataclass(frozen=True, kw_only=True)
class CW(Bisection):
    """Carlini & Wagner's l2 attack (arXiv:1608.04644, sec. VI.A): min |d|^2 + c * max(-margin, -kappa)
    in tanh space. Norm: l2.

    ``steps`` per search, ``searches`` binary searches for c *per image*, ``c`` the first constant, ``lr`` of Adam,
    ``kappa`` the confidence; ``start=nearest``: searches after a hit begin at the nearest point so far, not at the clean image
    (fewer steps suffice on robust models); ``patience``: share of a search without a new lowest loss
    that ends it (their code: a tenth, of the batch). Differs from the paper: that abort is per image; the first constant is at least what would do on a
    linear model, a search too short to bring the image's median pixel from black or white to gray takes longer steps, and a constant known to a tenth
    is searched for no further.
    """

    lr: Step = 0.01
    kappa: NonNegative = 0.0

    @property
    def confidence(self) -> float:
        return self.kappa

    def fresh(self, x: Tensor) -> Rows:
        return adam_state(x).put(x=x, w=torch.atanh((2 * x - 1) * EDGE))

    def move(self, q: Query, s: Rows) -> tuple[Rows, Tensor, Tensor, Tensor]:
        grad, margin = q.gradient(s.x, "margin")[:2]
        # on a linear model this constant just reaches the boundary; one far below it is searched for in vain
        reach = 2 * (self.kappa - margin) / grad.flatten(1).square().sum(1).clamp_min(1e-12)
        s = s.put(c=torch.where(q.t == 0, torch.maximum(s.c, reach.clamp(max=UNBOUNDED_C / 10)), s.c))
        delta = s.x - q.clean
        active = per_row(s.c * (margin < self.kappa), grad)
        tanh = 2 * s.x - 1
        slope = (2 * delta - active * grad) * (1 - tanh.square()) / 2
        if q.ball.mask is not None:  # w of a masked pixel never moves from the clean image
            slope = slope * q.ball.mask
        direction, moments = adam(Rows(m=s.m, v=s.v, count=s.count), slope)
        w = s.w - per_row(self.step(q), s.w) * direction
        moved = s.put(w=w, x=(torch.tanh(w) + 1) / 2, m=moments.m, v=moments.v, count=moments.count)
        loss = delta.flatten(1).square().sum(1) + s.c * (self.kappa - margin).clamp_min(0)
        return moved, s.x, (margin > 0) & (margin >= self.kappa), loss

    def step(self, q: Query) -> Tensor:
        """(B,) Adam's step: ``lr``, or as much more as a search needs to bring an image's median pixel to gray."""
        away = torch.atanh((2 * q.clean - 1) * EDGE).abs().flatten(1).median(1).values - GRAY
        return (away / self.steps).clamp_min(self.lr)


@ATTACKS("ddn")
@dataclass(frozen=True, kw_only=True)
class DDN(Method):
    """Decoupled direction and norm (Rony et al., arXiv:1811.09600, algorithm 1). Norm: l2.

    ``gamma``: how fast the radius shrinks inside and grows outside the class; ``radius``: the first one, 0: where the
    linear model puts the boundary; the step anneals from 1 to 0.01 by a cosine. Differs from the paper: that first
    radius (theirs is 1), which grows five times as fast until a first success; no quantisation, the judge scores the 8-bit lattice.
    """

    goal = Goal.MINIMAL
    norms = ("l2",)
    steps: Count = 100
    gamma: Inner = 0.05
    radius: NonNegative = 0.0

    def init(self, q: Query) -> Rows:
        return Rows(x=q.clean, radius=torch.full_like(q.ball.eps, self.radius), reached=torch.zeros_like(q.t).bool())

    def advance(self, q: Query, s: Rows) -> Rows:
        grad, loss, logits, _ = q.gradient(s.x, "ce")
        length = 0.01 + 0.99 * (1 + torch.cos(math.pi * q.t.to(grad.dtype) / self.steps)) / 2
        first = torch.where((q.t == 0) & (self.radius == 0), self._reach(loss.abs(), grad), s.radius)
        delta = s.x - q.clean + per_row(length, grad) * ascent_direction(grad, "l2")
        inside = q.margin(logits) > 0
        reached = s.reached | inside
        growth = torch.where(reached, 1 + self.gamma, 1 + 5 * self.gamma)  # the guess may have been far too small
        radius = first * torch.where(inside, 1 - self.gamma, growth)
        delta = delta * per_row(radius / distance(delta, "l2").clamp_min(1e-12), delta)
        if q.ball.mask is not None:
            delta = delta * q.ball.mask
        return Rows(x=(q.clean + delta).clamp(0, 1), radius=radius, reached=reached)

    @staticmethod
    def _reach(loss: Tensor, grad: Tensor) -> Tensor:
        """(B,) distance to the boundary of the linear model. Cross-entropy is softplus(m) of a soft margin m, so m is its
        inverse, and m's gradient is the loss's over 1 - p = 1 - exp(-loss).
        """
        gap = torch.log(torch.expm1(loss).clamp_min(1e-30)).abs() * -torch.expm1(-loss)
        guess = gap / distance(grad, "l2").clamp_min(1e-20)
        return torch.where(guess > 0, guess.clamp(1e-3, 10.0), 1.0)
