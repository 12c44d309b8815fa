"""Square: random search with square-shaped changes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attacks.method import Method
from sparring.attacks.query import Query
from sparring.core.geometry import distance, per_row
from sparring.core.ranges import Count, Part
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows
from sparring.core.victim import Access

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries: p halves after each


@ATTACKS("square")
@dataclass(frozen=True, kw_only=True)
class Square(Method):
    """Square attack (Andriushchenko et al., arXiv:1912.00049, algorithms 1 to 3). Norms: linf, l2.

    ``steps``: queries after the first; ``p``: first share of pixels in a square. Differs from the paper: the schedule of
    p is rescaled to ``steps`` (as its authors do in AutoAttack); the margin is the loss, also where a target is given.
    """

    needs = Access.SCORES
    norms = ("linf", "l2")
    settled = True
    steps: Count = 5000
    p: Part = 0.8

    @property
    def starts_at(self) -> str:
        return "random"

    @property
    def opening(self) -> tuple[int, int]:
        return 1, 0

    def init(self, q: Query) -> Rows:
        x = self._stripes(q) if q.ball.norm == "linf" else self._tiles(q)
        return Rows(x=x, margin=q.margin(q.scores(x, "first")))

    def advance(self, q: Query, s: Rows) -> Rows:
        x = self._linf(q, s.x) if q.ball.norm == "linf" else self._l2(q, s.x)
        margin = q.margin(q.scores(x))
        return s.where(margin > s.margin, Rows(x=x, margin=margin))

    def _side(self, q: Query, least: int) -> Tensor:
        """(B,) side of the square at this step."""
        height, width = q.clean.shape[2:]
        progress = (q.t.to(torch.float32) / self.steps * 10_000).round()
        halved = (progress[:, None] > torch.tensor(HALVINGS, device=q.t.device)).sum(1)
        area = self.p / 2.0**halved * height * width
        return area.sqrt().round().clamp(least, max(least, min(height, width) - 1)).long()

    @staticmethod
    def _window(u: Tensor, side: Tensor, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The square that two uniform numbers u (B,2) place: (B,1,H,W) bool mask, and the row and column within it."""
        height, width = like.shape[2:]
        top = (u[:, 0] * (height - side + 1).clamp_min(1)).long()
        left = (u[:, 1] * (width - side + 1).clamp_min(1)).long()
        row = torch.arange(height, device=like.device)[None, None, :, None] - per_row(top, like)
        column = torch.arange(width, device=like.device)[None, None, None, :] - per_row(left, like)
        end = per_row(side, like)
        return (row >= 0) & (row < end) & (column >= 0) & (column < end), row, column

    def _stripes(self, q: Query) -> Tensor:
        channels, _, width = q.clean.shape[1:]
        return q.project(q.clean + per_row(q.ball.eps, q.clean) * q.noise("stripes").sign("sign", (channels, 1, width)))

    def _linf(self, q: Query, x: Tensor) -> Tensor:
        u = q.noise("square").uniform("place and sign", (2 + x.shape[1],))  # one call: at small batches it is the cost
        mask, _, _ = self._window(u[:, :2], self._side(q, 1), x)
        sign = 2 * (u[:, 2:, None, None] < 0.5).to(x.dtype) - 1
        # the authors add 2 eps to the best point and clip: the square ends at +-eps where the image allows it
        change = 2 * per_row(q.ball.eps, x) * sign
        return q.project(torch.where(mask, x + change, x))

    def _tiles(self, q: Query) -> Tensor:
        height, width = q.clean.shape[2:]
        side = max(1, min(height, width) // 5)
        row = (torch.arange(height, device=q.clean.device) % side)[None, None, :, None]
        column = (torch.arange(width, device=q.clean.device) % side)[None, None, None, :]
        sides = torch.full_like(q.t, side)
        bump = two_bumps(row, column, per_row(sides, q.clean), torch.zeros_like(q.t).bool())
        tiles = -(-height // side), -(-width // side)
        sign = q.noise("tiles").sign("sign", (q.clean.shape[1], *tiles))
        sign = sign.repeat_interleave(side, 2).repeat_interleave(side, 3)[:, :, :height, :width]
        return self._on_sphere(q, bump * sign)

    def _l2(self, q: Query, x: Tensor) -> Tensor:
        noise, delta, side = q.noise("square"), x - q.clean, self._side(q, 3)
        here, row, column = self._window(noise.uniform("place", (2,)), side, x)
        there, _, _ = self._window(noise.uniform("other", (2,)), side, x)
        flip = noise.uniform("flip", (1,))[:, 0] < 0.5
        bump = two_bumps(row, column, per_row(side, x), flip) * here * noise.sign("sign", (x.shape[1], 1, 1))
        old = delta * here
        per_channel = lambda v: v.square().sum((2, 3), keepdim=True).sqrt()  # noqa: E731
        unit = lambda v: v / per_channel(v).clamp_min(1e-12)  # noqa: E731
        mixed = unit(unit(bump) + old / distance(old, "l2")[:, None, None, None].clamp_min(1e-12))
        # what the ball leaves, and what both windows held, is given to the new square
        spare = (q.ball.eps.square() - delta.flatten(1).square().sum(1)).clamp_min(0) / x.shape[1]
        held = per_channel(delta * (here | there)).square()
        changed = mixed * (per_row(spare, x) + held).sqrt()
        return self._on_sphere(q, torch.where(here, changed, torch.where(there, 0.0, delta)))

    @staticmethod
    def _on_sphere(q: Query, delta: Tensor) -> Tensor:
        if q.ball.mask is not None:
            delta = delta * q.ball.mask
        return q.project(q.clean + delta * per_row(q.ball.eps / distance(delta, "l2").clamp_min(1e-12), delta))


def two_bumps(row: Tensor, column: Tensor, side: Tensor, flip: Tensor) -> Tensor:
    """The l2 attack's shape on a square of ``side`` (paper, eq. 2): two centred bumps of opposite sign, one per half;
    ``flip`` (B,) lies the halves side by side. Each bump at Chebyshev-like rectangle distance r is sum_{k >= r} 1/(k+1)^2.
    """
    turned = flip[:, None, None, None]
    along, across = torch.where(turned, column, row), torch.where(turned, row, column)
    half = side // 2
    second = along >= half
    place = torch.where(second, along - half, along)
    length = torch.where(second, side - half, half)
    reach = (place - length // 2).abs()
    other = (across - side // 2).abs()
    widest = torch.maximum(length // 2, side // 2) + 1
    ring = torch.maximum(reach, other).clamp_min(0)
    sums = torch.cat([torch.zeros(1), (1 / torch.arange(1, 1025).square()).cumsum(0)]).to(row.device)
    value = (sums[widest.clamp(max=1024)] - sums[ring.clamp(max=1024)]).clamp_min(0)
    return torch.where(second, -value, value)
