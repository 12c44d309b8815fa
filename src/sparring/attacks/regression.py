"""The slope of answers over random patterns of tiles, fitted over all queries: a search that no single lucky answer misleads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attacks.method import Method
from sparring.attacks.query import Query
from sparring.core.geometry import distance, per_row
from sparring.core.ranges import Count, NonNegative
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows
from sparring.core.victim import Access


@dataclass(frozen=True, kw_only=True)
class _Regression(Method):
    """Each step asks ``pairs`` of opposite sign patterns, constant on ``grid`` x ``grid`` tiles, ``reach`` budgets away from the image (clipped to the
    box: a question need not lie in the ball), and adds each pattern by the difference of its two answers: the least-squares slope of the answers, as
    patterns are independent. The point is the end of the ball along the slope; it alone is asked as a candidate, at the end.

    NES (arXiv:1804.08598) in one step over the whole ball, on the tiles of Bandits (arXiv:1807.07978). On random systems a random search stands
    still behind its luckiest answer, where a fit over all answers averages the noise.
    """

    norms = ("linf", "l2")
    steps: Count = 49
    pairs: Count = 10
    grid: Count = 7
    reach: NonNegative = 1.0

    @property
    def asks(self) -> int:
        return 2 * self.pairs

    def init(self, q: Query) -> Rows:
        return Rows(x=q.clean, slope=torch.zeros_like(q.clean))

    def advance(self, q: Query, s: Rows) -> Rows:
        patterns = self._tiles(q)
        flat = q.ball.norm == "linf"
        length = q.ball.eps if flat else q.ball.eps / q.clean[0].numel() ** 0.5
        far = (self.reach * length)[:, None, None, None, None] * patterns
        points = torch.cat([q.clean[:, None] + far, q.clean[:, None] - far], 1).clamp(0, 1)
        plus, minus = self._answers(q, points).split(self.pairs, 1)
        slope = s.slope + ((plus - minus)[:, :, None, None, None] * patterns).mean(1)
        way = slope.sign() if flat else slope / per_row(distance(slope, "l2").clamp_min(1e-12), slope)
        return Rows(x=q.project(q.clean + per_row(q.ball.eps, s.x) * way), slope=slope)

    def done(self, q: Query, s: Rows) -> Tensor:
        return q.affords < 2 * self.pairs + 1  # one is kept for the point itself

    def _answers(self, q: Query, points: Tensor) -> Tensor:
        """(B,k) what speaks for the goal at points (B,k,C,H,W)."""
        raise NotImplementedError

    def _tiles(self, q: Query) -> Tensor:
        """(B,pairs,C,H,W) of +-1, constant on tiles."""
        channels, height, width = q.clean.shape[1:]
        down, across = -(-height // self.grid), -(-width // self.grid)
        tiles = self.pairs, channels, -(-height // down), -(-width // across)
        sign = q.noise("tiles").sign("sign", tiles).to(q.clean.dtype)
        sign = sign.repeat_interleave(down, 3).repeat_interleave(across, 4)[..., :height, :width]
        return sign if q.ball.mask is None else sign * q.ball.mask[:, None]


@ATTACKS("regression")
@dataclass(frozen=True, kw_only=True)
class Regression(_Regression):
    """Regression of the success margin over random patterns of tiles, from scores: NES (Ilyas et al., arXiv:1804.08598, algorithm 1). Norms: linf, l2.

    ``steps`` of ``pairs`` of opposite patterns on ``grid`` x ``grid`` tiles, ``reach`` budgets away from the image (questions need not lie in the
    ball). The point is the end of the ball along the fitted slope. For random systems, whose single answers mislead a random search.
    Differs from the paper: one step over the whole ball in place of many small ones, on tiles.
    """

    needs = Access.SCORES

    def _answers(self, q: Query, points: Tensor) -> Tensor:
        return q.margin(q.scores(points, "patterns", probe=True))


@ATTACKS("label_regression")
@dataclass(frozen=True, kw_only=True)
class LabelRegression(_Regression):
    """The same regression of success itself, from labels: the label-only NES (Ilyas et al., arXiv:1804.08598, section 2.4). Norms: linf, l2.

    Its questions lie further away (``reach``), where labels change.
    Differs from the paper: one step over the whole ball, on tiles; each label counts as it is, no score is estimated from its neighbors.
    """

    needs = Access.LABEL
    reach: NonNegative = 2.0

    def _answers(self, q: Query, points: Tensor) -> Tensor:
        return q.fooled(q.labels(points, "patterns", probe=True)).to(points.dtype)
