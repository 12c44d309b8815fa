"""Sparse-RS: random search over the places and corner colors of a few pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attacks.method import Method
from sparring.attacks.query import Query
from sparring.core.noise import Noise
from sparring.core.ranges import Count, Part
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows
from sparring.core.victim import Access

ENDS = (0, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries: from each on the share is that below
PARTS = (1, 2, 4, 5, 6, 8, 10, 12, 15, 20)  # alpha over these


@ATTACKS("sparse_rs")
@dataclass(frozen=True, kw_only=True)
class SparseRS(Method):
    """Sparse-RS (Croce et al., arXiv:2006.12834, algorithm 1 and sec. 4). Norms: l0, l1.

    Of as many pixels as the ball holds, each black or white in every channel, a share is moved elsewhere and colored anew,
    and kept where the margin grows. ``steps``: queries after the first; ``alpha``: the first share, which falls.
    Differs from the paper: its schedule is rescaled to ``steps``, as in its authors' code; l1 is ours: as many pixels as
    fit into the ball whatever their change.
    """

    needs = Access.SCORES
    norms = ("l0", "l1")
    settled = True
    steps: Count = 5000
    alpha: Part = 0.3

    @property
    def starts_at(self) -> str:
        return "random"

    @property
    def opening(self) -> tuple[int, int]:
        return 1, 0

    def init(self, q: Query) -> Rows:
        noise = q.noise("pixels")
        rank, free = self._ranks(q, noise, torch.zeros_like(q.clean[:, 0]).bool())
        return self._asked(q, (rank < self._pixels(q)) & free, _corners(q, noise), "first")

    def advance(self, q: Query, s: Rows) -> Rows:
        noise = q.noise("pixels")
        pixels = self._pixels(q)
        moved = (self._share(q) * pixels).long().clamp_min(1)
        rank, free = self._ranks(q, noise, s.chosen)
        # chosen pixels come first: a window over the ranks drops ``moved`` of them and takes up as many others, going
        # round where no other is left, so that every color can change
        round_ = free.sum((1, 2), keepdim=True).clamp_min(1)
        chosen = ((rank - moved) % round_ < pixels) & free
        anew = (rank - pixels) % round_ < moved
        color = torch.where(anew[:, None], _corners(q, noise), s.color)
        new = self._asked(q, chosen, color, "")
        return s.where(new.margin > s.margin, new)

    def _share(self, q: Query) -> Tensor:
        """(B,1,1) share of the pixels that move at this step."""
        progress = (q.t + 1).to(torch.float32) / self.steps * 10_000
        part = (progress[:, None] > torch.tensor(ENDS, device=q.t.device)).sum(1)
        return (self.alpha / torch.tensor(PARTS, device=q.t.device)[part])[:, None, None]

    @staticmethod
    def _pixels(q: Query) -> Tensor:
        """(B,1,1) how many pixels the ball holds, whatever their change."""
        free = q.clean[0, 0].numel() if q.ball.mask is None else _free(q).sum((1, 2))
        each = q.clean.shape[1] if q.ball.norm == "l1" else 1
        most = torch.zeros_like(q.ball.eps) + free
        return torch.minimum(q.ball.eps / each, most).long()[:, None, None]

    @staticmethod
    def _ranks(q: Query, noise: Noise, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """(B,H,W) the place of every pixel in a random order, the chosen ones first and those that may not change last; and
        which may change.
        """
        free = _free(q)
        key = noise.uniform("order", chosen.shape[1:]) + 2 * (~chosen).float() + 4 * (~free).float()
        order = key.flatten(1).argsort(dim=1, stable=True)
        return order.argsort(1).view_as(chosen), free

    @staticmethod
    def _asked(q: Query, chosen: Tensor, color: Tensor, call: str) -> Rows:
        x = torch.where(chosen[:, None], color, q.clean)
        return Rows(x=x, chosen=chosen, color=color, margin=q.margin(q.scores(x, call)))


def _free(q: Query) -> Tensor:
    """(B,H,W) bool: the pixels that may change."""
    if q.ball.mask is None:
        return torch.ones_like(q.clean[:, 0]).bool()
    return q.ball.mask.expand_as(q.clean).amin(1) > 0


def _corners(q: Query, noise: Noise) -> Tensor:
    """(B,C,H,W) of 0 and 1."""
    return (noise.uniform("color", q.clean.shape[1:]) < 0.5).to(q.clean.dtype)
