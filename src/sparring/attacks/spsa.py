"""SPSA: projected Adam on a gradient estimated from scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attacks.method import Method
from sparring.attacks.query import Query
from sparring.core.noise import signs
from sparring.core.optim import adam, adam_state
from sparring.core.ranges import Count, Part, Step
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows
from sparring.core.victim import Access


@ATTACKS("spsa")
@dataclass(frozen=True, kw_only=True)
class SPSA(Method):
    """Simultaneous perturbation stochastic approximation (Uesato et al., arXiv:1802.05666, algorithm 1). Norms: linf, l2.

    ``samples`` pairs of opposite probes a step, ``delta`` their size, ``lr`` of Adam, in pixel units.
    Differs from the paper: probes are projected onto the ball, so that each is a candidate too.
    """

    needs = Access.SCORES
    norms = ("linf", "l2")
    steps: Count = 100
    samples: Count = 64
    delta: Part = 0.01
    lr: Step = 0.01

    @property
    def asks(self) -> int:
        return 2 * self.samples

    def init(self, q: Query) -> Rows:
        return adam_state(q.clean).put(x=q.clean)

    def advance(self, q: Query, s: Rows) -> Rows:
        directions = signs(q.noise("probes"), self.samples, q.clean)

        def probe(first: int, last: int) -> Tensor:
            step = [directions[:, i // 2] * (self.delta if i % 2 == 0 else -self.delta) for i in range(first, last)]
            return torch.stack([q.project(s.x + d) for d in step], 1)

        margin = q.candidates(2 * self.samples, probe)
        slope = (margin[:, 0::2] - margin[:, 1::2]) / (2 * self.delta * self.samples)
        grad = (slope[:, :, None, None, None] * directions).sum(1)
        step, moments = adam(Rows(m=s.m, v=s.v, count=s.count), -grad)
        return moments.put(x=q.project(s.x - self.lr * step))
