"""OnePixel: differential evolution over the places and values of k pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from sparring.attacks.method import Method
from sparring.attacks.query import Query
from sparring.core.geometry import per_row
from sparring.core.ranges import Count
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows
from sparring.core.victim import Access


@ATTACKS("one_pixel")
@dataclass(frozen=True, kw_only=True)
class OnePixel(Method):
    """One-pixel attack (Su et al., arXiv:1710.08864, sec. III.B): differential evolution, F = 0.5, no crossover; places
    uniform, values normal around 128 with deviation 127. Norm: l0.

    ``pixels`` changed at once (the ball's radius where eps is not given), ``population``, ``steps`` generations after
    the first. Differs from the paper: the margin of the logits is the fitness, not the probability; a child replaces
    its parent also when equal; under a mask places are counted among the pixels that may change.
    """

    needs = Access.SCORES
    norms = ("l0",)
    settled = True
    steps: Count = 100
    population: Annotated[int, Ge(4), Le(10**6)] = 400
    pixels: Count = 1
    factor: Annotated[float, Gt(0), Le(2)] = 0.5

    @property
    def own_eps(self) -> int:
        return self.pixels

    @property
    def asks(self) -> int:
        return self.population

    @property
    def opening(self) -> tuple[int, int]:
        return self.population, 0

    def init(self, q: Query) -> Rows:
        _, channels, height, width = q.clean.shape
        noise = q.noise("population")
        size = torch.tensor([height, width], device=q.clean.device)
        place = noise.uniform("place", (self.population, self.pixels, 2)) * size
        value = (128 + 127 * noise.normal("value", (self.population, self.pixels, channels))) / 255
        genes = torch.cat([place, value.clamp(0, 1)], 3)
        margin = self._margins(q, genes, "first")
        return Rows(x=self._best(q, genes, margin), genes=genes, margin=margin)

    def advance(self, q: Query, s: Rows) -> Rows:
        pick = q.noise("parents").integers("parents", self.population, (self.population, 3))
        rows = torch.arange(len(s.x), device=s.x.device)[:, None]
        a, b, c = (s.genes[rows, pick[:, :, i]] for i in range(3))
        height, width = s.x.shape[2:]
        high = torch.ones(s.genes.shape[3], device=s.x.device)
        high[0], high[1] = height - 1e-3, width - 1e-3
        child = torch.minimum((a + self.factor * (b - c)).clamp_min(0), high)
        margin = self._margins(q, child, "children")
        better = margin >= s.margin
        genes = torch.where(better[:, :, None, None], child, s.genes)
        margin = torch.where(better, margin, s.margin)
        return Rows(x=self._best(q, genes, margin), genes=genes, margin=margin)

    def _margins(self, q: Query, genes: Tensor, call: str) -> Tensor:
        return q.candidates(genes.shape[1], lambda i, j: self._draw(q, genes[:, i:j]), call)

    def _best(self, q: Query, genes: Tensor, margin: Tensor) -> Tensor:
        rows = torch.arange(len(margin), device=margin.device)
        return self._draw(q, genes[rows, margin.argmax(1)][:, None])[:, 0]

    @staticmethod
    def _draw(q: Query, genes: Tensor) -> Tensor:
        """genes (B,k,P,2+C) -> images (B,k,C,H,W) with P pixels set; of pixels at one place the last counts."""
        rows, many, pixels, _ = genes.shape
        channels, height, width = q.clean.shape[1:]
        image = q.clean[:, None].expand(-1, many, -1, -1, -1).flatten(3)
        place = genes[..., 0].long() * width + genes[..., 1].long()
        if q.ball.mask is not None:
            place = _among(q.ball.mask.amax(1).flatten(1), place)
        for p in range(pixels):
            index = place[:, :, p, None, None].expand(rows, many, channels, 1)
            image = image.scatter(3, index, genes[:, :, p, 2:, None])
        image = image.unflatten(3, (height, width))
        if q.ball.mask is not None:
            image = torch.where(q.ball.mask[:, None] > 0, image, q.clean[:, None])
        small = per_row(q.ball.eps < pixels, image)
        return torch.where(small, q.clean[:, None], image)  # a ball of fewer pixels holds none of these points


def _among(free: Tensor, place: Tensor) -> Tensor:
    """The pixels that may change, free (B,H*W) of 0 and 1, at the same share of their row-major order as place (B,k,P) is of all pixels."""
    share = place / free.shape[1]
    numbers = (share * free.sum(1)[:, None, None]).long().flatten(1)
    return free.sort(dim=1, descending=True, stable=True).indices.gather(1, numbers).view_as(place)
