"""Blind noise: no access to anything. In the noise threat it measures average-case robustness (PROTOCOL T0)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from sparring.attacks.method import Method
from sparring.attacks.query import Query
from sparring.core.geometry import per_row
from sparring.core.ranges import NonNegative, Share
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows
from sparring.core.victim import Access


@ATTACKS("noise")
@dataclass(frozen=True, kw_only=True)
class NoiseAttack(Method):
    """x' = clip(x + noise), one fresh draw per restart. Laws: uniform, gaussian, laplace, sign. Norms: all (box
    always).

    ``std``: standard deviation in pixel units; None with a finite ``eps`` fills the ball (uniform: +-eps; others:
    std = eps/2). ``winsorize``: clip the noise at this many standard deviations (the defective paper: 2), 0 =
    never.
    """

    needs = Access.NONE
    norms = ("linf", "l2", "l1", "l0")
    law: Literal["uniform", "gaussian", "laplace", "sign"] = "uniform"
    std: Share | None = None
    winsorize: NonNegative = 0.0

    @property
    def boundless(self) -> bool:
        return self.std is not None

    @property
    def starts_at(self) -> str:
        return "random"

    def init(self, q: Query) -> Rows:
        source, shape = q.noise("draw"), q.clean.shape[1:]
        if self.std is None and self.law == "uniform":
            return Rows(x=q.ball.random(q.clean, source))
        scale = torch.full_like(q.ball.eps, self.std) if self.std is not None else q.ball.eps / 2
        if self.law == "uniform":
            unit = math.sqrt(3) * (2 * source.uniform("draw", shape) - 1)
        elif self.law == "gaussian":
            unit = source.normal("draw", shape)
        elif self.law == "laplace":
            unit = source.laplace("draw", shape) / math.sqrt(2)
        else:
            unit = 2 * (source.uniform("draw", shape) < 0.5).to(q.clean.dtype) - 1
        if self.winsorize:
            unit = unit.clamp(-self.winsorize, self.winsorize)
        return Rows(x=q.project(q.clean + per_row(scale, q.clean) * unit))

    def advance(self, q: Query, s: Rows) -> Rows:
        return s
