"""Local search: greedily perturb the pixels whose probe hurts the score most, then look around them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sparring.attacks.method import Method
from sparring.attacks.query import Query
from sparring.core.errors import SparringError
from sparring.core.geometry import per_row
from sparring.core.ranges import Count, Positive
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows
from sparring.core.victim import Access, Goal


@ATTACKS("local_search")
@dataclass(frozen=True, kw_only=True)
class LocalSearch(Method):
    """LocSearchAdv (Narodytska & Kasiviswanathan, arXiv:1612.06299, algorithms 1 and 2). Norm: l0.

    ``probe`` p: a probed pixel is set to p times its sign in an image centred at 0; ``shift`` r: a chosen pixel is
    multiplied by r, wrapping around; ``pixels`` t chosen a round; ``radius`` d of the square searched next;
    ``width``: probes a round. Differs from the paper: the margin is the score; a full round's probes are asked at once.
    """

    needs = Access.SCORES
    goal = Goal.MINIMAL
    norms = ("l0",)
    settled = True
    steps: Count = 150
    probe: Positive = 10.0
    shift: Positive = 1.5
    pixels: Count = 5
    radius: Count = 5
    width: Count = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < self.pixels:
            raise SparringError(f"width={self.width} must be at least pixels={self.pixels}")

    @property
    def asks(self) -> int:
        return self.width + 1

    @property
    def opening(self) -> tuple[int, int]:
        return 1, 0

    def init(self, q: Query) -> Rows:
        free = torch.ones_like(q.clean[:, 0]) if q.ball.mask is None else q.ball.mask.amax(1).expand_as(q.clean[:, 0])
        won = q.margin(q.scores(q.clean, "clean")) > 0
        return Rows(x=q.clean, near=free.bool(), free=free.bool(), fooled=won)

    def advance(self, q: Query, s: Rows) -> Rows:
        channels, height, width = s.x.shape[1:]
        # at most ``width`` pixels of the neighbourhood, at random
        order = torch.where(s.near, q.noise("pick").uniform("pick", (height, width)), 2.0).flatten(1)
        count = min(self.width, height * width)
        drawn, place = order.topk(count, 1, largest=False)
        usable = drawn < 1.5
        centred = s.x.flatten(2) - 0.5

        def probes(first: int, last: int) -> Tensor:
            index = place[:, None, first:last].expand(-1, channels, -1)  # (B,C,k)
            value = (0.5 + self.probe * centred.gather(2, index).sign()).clamp(0, 1)
            many = s.x.flatten(2)[:, None].expand(-1, last - first, -1, -1)
            return many.scatter(3, index.transpose(1, 2)[..., None], value.transpose(1, 2)[..., None]).unflatten(
                3, (height, width)
            )

        margin = torch.where(usable, q.candidates(count, probes, "probes"), -torch.inf)
        chosen = margin.topk(min(self.pixels, count), 1).indices
        spots = torch.zeros_like(order).scatter(1, place.gather(1, chosen), 1.0)
        spots = (spots.reshape(s.near.shape) * s.near)[:, None]
        moved = self.shift * (s.x - 0.5)
        wrapped = torch.where(moved > 0.5, moved - 1, torch.where(moved < -0.5, moved + 1, moved)) + 0.5
        x = torch.where((spots > 0) & s.free[:, None], wrapped.clamp(0, 1), s.x)
        won = q.margin(q.scores(x, "moved")) > 0
        near = functional.max_pool2d(spots, 2 * self.radius + 1, 1, self.radius)[:, 0] > 0
        return s.put(x=torch.where(per_row(s.fooled, x), s.x, x), near=near & s.free, fooled=s.fooled | won)

    def done(self, q: Query, s: Rows) -> Tensor:
        return s.fooled
