"""Points on the 8-bit lattice (PROTOCOL 2.2): what is left of an attack when the image is stored as uint8."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sparring.core.geometry import per_row

REFINE_ROUNDS = 3


def truncate(x: Tensor, clean: Tensor) -> Tensor:
    """Nearest lattice point to ``x`` *towards* ``clean`` (on the lattice): stays in every Lp ball and in the box."""
    delta = x - clean
    steps = torch.floor(255 * delta.abs() + 1e-4)
    # through integers, so that the result is exactly k/255 in float32
    return (((clean * 255).round() + delta.sign() * steps).clamp(0, 255)) / 255


def refine(
    x: Tensor,
    clean: Tensor,
    gradient: Callable[[Tensor], Tensor],
    inside: Callable[[Tensor], Tensor],
    won: Callable[[Tensor], Tensor],
) -> Tensor:
    """Search the lattice neighbours of points lost by truncation: greedily push pixels outward again, largest
    |gradient| * residual first, as far as the ball allows, at most REFINE_ROUNDS gradients.

    gradient(x) (B,C,H,W) ascent direction of the attack objective; inside(x) (B,) is it in ball and box; won(x)
    (B,). Returns the refined points where they win, else the truncated ones.
    """
    best = truncate(x, clean)
    found = won(best)
    for _ in range(REFINE_ROUNDS):
        if bool(found.all()):
            break
        residual = x - best
        grad = gradient(best)
        helps = (grad * residual > 0) & (residual.abs() > 1e-6)
        rank = (grad.abs() * residual.abs() * helps).flatten(1).argsort(1, descending=True).argsort(1).reshape(x.shape)
        useful = helps.flatten(1).sum(1)
        for share in (1.0, 0.5, 0.25, 0.1, 0.03):  # the largest set of moves that stays in the ball
            take = helps & (rank < per_row((share * useful).ceil(), rank))
            trial = ((best * 255).round() + residual.sign() * take).clamp(0, 255) / 255
            better = inside(trial) & ~found & (won(trial) | (share == 1.0))
            best = torch.where(per_row(better, best), trial, best)
            found = found | won(best)
    return torch.where(per_row(won(best), best), best, truncate(x, clean))
