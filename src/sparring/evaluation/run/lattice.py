"""Points on the 8-bit lattice (PROTOCOL 2.2): what is left of an attack when the image is stored as uint8."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sparring.attacks.engine import Outcome
from sparring.core.geometry import Norm, per_row, within
from sparring.core.losses import margin
from sparring.core.noise import Noise
from sparring.core.victim import Access, Victim

REFINE_ROUNDS = 3


def truncate(x: Tensor, clean: Tensor) -> Tensor:
    """Nearest lattice point to ``x`` *towards* ``clean`` (on the lattice): stays in every Lp ball and in the box."""
    delta = x - clean
    steps = torch.floor(255 * delta.abs() + 1e-4)
    # through integers, so that the result is exactly k/255 in float32
    return (((clean * 255).round() + delta.sign() * steps).clamp(0, 255)) / 255


def nearest(x: Tensor, clean: Tensor) -> Tensor:
    """Nearest lattice point to ``x``, no pixel further from ``clean`` than the whole levels of the farthest one: in every linf ball that holds ``x``."""
    steps = 255 * (x - clean)
    most = per_row(torch.floor(steps.abs().flatten(1).amax(1) + 1e-4), x)
    return ((clean * 255).round() + steps.round().clamp(-most, most)).clamp(0, 255) / 255


def refine(
    x: Tensor,
    clean: Tensor,
    gradient: Callable[[Tensor], Tensor],
    inside: Callable[[Tensor], Tensor],
    won: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Search the lattice neighbours of points lost by truncation: round to the nearest ones, then greedily push pixels outward again, largest
    |gradient| * residual first, as far as the ball allows, at most REFINE_ROUNDS gradients.

    gradient(x) (B,C,H,W) ascent direction of the attack objective; inside(x) (B,) is it in ball and box; won(x)
    (B,). Returns the refined points where they win, else the truncated ones, and per row how often ``won`` and
    ``gradient`` were needed (B,).
    """
    truncated = best = truncate(x, clean)
    fooled = won(best)
    asked, derived = torch.ones_like(fooled, dtype=torch.int64), torch.zeros_like(fooled, dtype=torch.int64)
    if not bool(fooled.all()):
        near = nearest(x, clean)
        other = ~fooled & inside(near) & (near != best).flatten(1).any(1)
        asked = asked + other
        best, fooled = torch.where(per_row(other, best), near, best), fooled | won(near) & other
    for _ in range(REFINE_ROUNDS):
        if bool(fooled.all()):
            break
        residual = x - best
        grad = gradient(best)
        derived = derived + ~fooled
        helps = (grad * residual > 0) & (residual.abs() > 1e-6)
        rank = (grad.abs() * residual.abs() * helps).flatten(1).argsort(1, descending=True).argsort(1).reshape(x.shape)
        useful = helps.flatten(1).sum(1)
        start = best
        for share in (1.0, 0.5, 0.25, 0.1, 0.03):  # the largest set of moves that stays in the ball
            take = helps & (rank < per_row((share * useful).ceil(), rank))
            trial = ((start * 255).round() + residual.sign() * take).clamp(0, 255) / 255
            hit, allowed = won(trial), inside(trial)
            asked = asked + ~fooled
            # without a win the largest move that is allowed is where the next round starts
            moves = allowed & ~fooled & (hit | (best == start).flatten(1).all(1))
            best = torch.where(per_row(moves, best), trial, best)
            fooled = fooled | hit & allowed
    return torch.where(per_row(fooled, best), best, truncated), asked, derived


def lattice_points(
    victim: Victim, outcome: Outcome, clean: Tensor, y: Tensor, keys: Tensor, eps: Tensor, norm: Norm, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The attacker's 8-bit submission: each point truncated, and those that its *source* shows to be lost by it refined
    with the source's gradients. Without gradients: truncated. Returns (points, forwards (N,), backwards (N,)).
    """
    points = truncate(outcome.x, clean)
    forwards = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    backwards = forwards
    rows = outcome.success.nonzero()[:, 0]
    if victim.access < Access.GRADIENT or not len(rows):
        return points, forwards, backwards
    label, noise = y[rows], Noise.of(seed, "refine", keys[rows])

    def ascent(u: Tensor) -> Tensor:
        return victim.gradient(u, lambda z, part: margin(z, label[part]), noise).grad.nan_to_num(0.0, 0.0, 0.0)

    found, asked, derived = refine(
        outcome.x[rows],
        clean[rows],
        ascent,
        lambda u: within(u - clean[rows], eps[rows], norm),
        lambda u: margin(victim.logits(u, noise), label) > 0,
    )
    cost = victim.cost
    return (
        points.index_copy(0, rows, found),
        forwards.index_copy(0, rows, cost * (asked + derived)),
        backwards.index_copy(0, rows, cost * derived),
    )
