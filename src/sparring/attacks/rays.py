"""RayS: the nearest of the corner directions, by labels alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attacks.label_search import LabelSearch
from sparring.attacks.query import Query
from sparring.core.geometry import per_row
from sparring.core.ranges import Inner
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows


@ATTACKS("rays")
@dataclass(frozen=True, kw_only=True)
class RayS(LabelSearch):
    """RayS (Chen & Gu, KDD 2020, arXiv:2006.12792, algorithms 1 to 3). Norm: linf.

    A direction of signs is flipped block by block, blocks halving from the whole image to single values; a direction that is
    wrong at the best radius is kept, and its radius bisected. ``queries`` an image may spend; ``tolerance``: where a
    bisection stops. Differs from the paper: after single values it starts again with the whole image; the radius is that
    of the clipped image, at first 1; a given start lends its signs to the first direction.
    """

    norms = ("linf",)
    tolerance: Inner = 1e-3

    @property
    def opening(self) -> tuple[int, int]:
        return 1, 0

    def init(self, q: Query) -> Rows:
        q.labels(q.clean, "clean")
        sign, low = torch.ones_like(q.clean), torch.zeros_like(q.ball.eps)
        if q.start is not None:
            sign = torch.where(q.start < q.clean, -sign, sign)
        size = torch.full_like(q.t, q.clean[0].numel())
        # the first block lies before the image: the first direction is asked about as it is
        return Rows(x=q.clean, sign=sign, low=low, high=low + 1, bisecting=low > 0, first=-size, size=size)

    def advance(self, q: Query, s: Rows) -> Rows:
        place = torch.arange(s.sign[0].numel(), device=q.t.device).view_as(s.sign[0])
        first, size = per_row(s.first, s.sign), per_row(s.size, s.sign)
        block = (place >= first) & (place < first + size) & per_row(~s.bisecting, s.sign)
        sign = torch.where(block, -s.sign, s.sign)
        radius = torch.where(s.bisecting, (s.low + s.high) / 2, s.high)
        point = (q.clean + per_row(radius, sign) * sign).clamp(0, 1)
        point = point if q.ball.mask is None else torch.where(q.ball.mask > 0, point, q.clean)
        fooled = q.fooled(q.labels(point))
        high = torch.where(fooled, radius, s.high)
        low = torch.where(s.bisecting, torch.where(fooled, s.low, radius), 0.0)
        bisecting = (s.bisecting | fooled) & (high - low > self.tolerance)
        s = s.where(fooled, Rows(x=point, sign=sign))
        return self._onward(s, ~s.bisecting).put(low=low, high=high, bisecting=bisecting)

    @staticmethod
    def _onward(s: Rows, now: Tensor) -> Rows:
        """The next block of this size, or the first of half the size; after the single values, the whole image."""
        values = s.sign[0].numel()
        first = s.first + s.size
        through = first >= values
        halved = torch.where(s.size > 1, (s.size + 1) // 2, values)
        return s.where(now, Rows(first=torch.where(through, 0, first), size=torch.where(through, halved, s.size)))
