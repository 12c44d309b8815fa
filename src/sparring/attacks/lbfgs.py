"""L-BFGS: the first attack, a box-constrained quasi-Newton search with a bisected trade-off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparring.attacks.minimum_norm import Bisection
from sparring.attacks.query import Query
from sparring.core.geometry import per_row
from sparring.core.losses import LossName
from sparring.core.ranges import Count, Positive
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows

MEMORY = 5
ARMIJO = 1e-4


def dot(a: Tensor, b: Tensor) -> Tensor:
    """(B,) inner products of rows."""
    return (a * b).flatten(1).sum(1)


@ATTACKS("lbfgs")
@dataclass(frozen=True, kw_only=True)
class LBFGS(Bisection):
    """Box-constrained L-BFGS (Szegedy et al., arXiv:1312.6199, sec. 4.1): min |d|_2^2 - c * loss(x + d), c searched as by
    Tabacof & Valle (arXiv:1510.05328, sec. 3.1): grown until it fools, then bisected. Norm: l2.

    ``loss``: ce is the paper's and weaker. Differs from the paper: the box is kept by projecting each step; c multiplies the loss
    (theirs divides the norm); memory 5, backtracking by halves; a step is one gradient, also a rejected one.
    """

    norms: ClassVar = ("l2",)
    steps: Count = 50
    searches: Count = 8
    c: Positive = 0.1
    loss: LossName = "margin"

    def fresh(self, x: Tensor) -> Rows:
        zero, image = x.new_zeros(len(x)), torch.zeros_like(x)
        history = x.new_zeros(len(x), MEMORY, *x.shape[1:])
        return Rows(
            x=x,
            base=x,
            base_grad=image,
            base_value=zero + torch.inf,
            way=image,
            rate=zero + 1,
            moves=history,
            turns=history,
        )

    def move(self, q: Query, s: Rows) -> tuple[Rows, Tensor, Tensor, Tensor]:
        answer = q.gradient(s.x, self.loss)
        delta = s.x - q.clean
        value = delta.flatten(1).square().sum(1) - s.c * answer.loss
        grad = 2 * delta - per_row(s.c, delta) * answer.grad
        if q.ball.mask is not None:
            grad = grad * q.ball.mask
        step = s.x - s.base
        # the first point of a search is always accepted; later ones where the value falls enough along the step made
        accept = value <= s.base_value + ARMIJO * torch.minimum(dot(s.base_grad, step), torch.zeros_like(value))
        turn = grad - s.base_grad
        curved = accept & torch.isfinite(s.base_value) & (dot(step, turn) > 1e-10 * dot(turn, turn))

        def push(old: Tensor, new: Tensor) -> Tensor:
            return torch.where(per_row(curved, old), torch.cat([old[:, 1:], new[:, None]], 1), old)

        moves, turns = push(s.moves, step), push(s.turns, turn)
        base, base_grad = (torch.where(per_row(accept, a), a, b) for a, b in ((s.x, s.base), (grad, s.base_grad)))
        base_value = torch.where(accept, value, s.base_value)
        newton = -two_loop(base_grad, moves, turns)
        uphill = dot(newton, base_grad) >= 0
        newton = torch.where(per_row(uphill, newton), -base_grad, newton)
        way = torch.where(per_row(accept, newton), newton, s.way)
        rate = torch.where(accept, torch.ones_like(s.rate), s.rate / 2)
        x = (base + per_row(rate, way) * way).clamp(0, 1)
        moved = s.put(
            x=x, base=base, base_grad=base_grad, base_value=base_value, way=way, rate=rate, moves=moves, turns=turns
        )
        # a rejected point that happens to hit says nothing about c
        return moved, s.x, accept & (q.margin(answer.logits) > 0), value


def two_loop(grad: Tensor, moves: Tensor, turns: Tensor) -> Tensor:
    """The L-BFGS approximation of inverse Hessian times ``grad`` (Nocedal & Wright, algorithm 7.4), per row; empty
    memory slots are zero."""
    rho = [
        1 / dot(s, y).clamp_min(1e-20) * (dot(s, y) > 0) for s, y in zip(moves.unbind(1), turns.unbind(1), strict=True)
    ]
    alphas: list[Tensor] = []
    for i in reversed(range(moves.shape[1])):
        alpha = rho[i] * dot(moves[:, i], grad)
        grad = grad - per_row(alpha, grad) * turns[:, i]
        alphas.append(alpha)
    last, turn = moves[:, -1], turns[:, -1]
    # without history: |d|^2 alone, whose Hessian is 2
    scale = torch.where(dot(turn, turn) > 0, dot(last, turn) / dot(turn, turn).clamp_min(1e-20), 0.5)
    grad = grad * per_row(scale, grad)
    for i, alpha in enumerate(reversed(alphas)):
        beta = rho[i] * dot(turns[:, i], grad)
        grad = grad + per_row(alpha - beta, grad) * moves[:, i]
    return grad
