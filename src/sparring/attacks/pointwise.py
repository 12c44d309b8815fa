"""Pointwise: salt-and-pepper noise that is taken back as long as the label stays wrong."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attacks.method import Method
from sparring.attacks.query import Query
from sparring.core.geometry import per_row
from sparring.core.ranges import Count
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows
from sparring.core.victim import Access, Goal

SHARES = (
    0.05,
    0.08,
    0.12,
    0.18,
    0.25,
    0.35,
    0.5,
    0.7,
)  # of the units that noise changes, in turn, until a label is wrong
GROWN, SHRUNK = 1.2, 0.7  # what a success and a failure do to the size of the next group


@ATTACKS("pointwise")
@dataclass(frozen=True, kw_only=True)
class Pointwise(Method):
    """Pointwise attack (Schott et al., ICLR 2019, arXiv:1805.09190, sec. 4 and appendix). Norms: l0, l1.

    It starts at salt-and-pepper noise of growing share and puts random groups of pixels (l1: of values) back to the clean
    image as long as the label stays wrong. ``queries`` an image may spend, shared evenly by ``searches`` from noise of
    their own. Differs from the paper: groups, not one value at a time, a fifth larger after a success and three tenths
    smaller after a failure; no bisection of single values; the first search begins at a given start.
    """

    needs = Access.LABEL
    goal = Goal.MINIMAL
    norms = ("l0", "l1")
    settled = True
    queries: Count = 5000
    searches: Count = 3

    @property
    def iterations(self) -> int:
        return self.queries

    @property
    def query_cap(self) -> int:
        return self.queries

    @property
    def opening(self) -> tuple[int, int]:
        return 1, 0

    @property
    def starts_at(self) -> str:
        return "search"

    def init(self, q: Query) -> Rows:
        q.labels(q.clean, "clean")
        zero = torch.zeros_like(q.ball.eps)
        return Rows(x=q.clean, wrong=zero.bool(), group=zero, tried=torch.zeros_like(q.t))

    def advance(self, q: Query, s: Rows) -> Rows:
        begins = q.t % -(-self.queries // self.searches) == 0
        s = s.where(begins, Rows(x=q.clean, wrong=torch.zeros_like(s.wrong), tried=torch.zeros_like(s.tried)))
        point = torch.where(per_row(s.wrong, s.x), self._less(q, s), self._noise(q, s.tried))
        if q.start is not None:
            point = torch.where(per_row(q.t == 0, point), q.start, point)
        point = point if q.ball.mask is None else torch.where(q.ball.mask > 0, point, q.clean)
        fooled = q.fooled(q.labels(point))
        quarter = self._changed(q, point).flatten(1).sum(1) / 4
        group = torch.where(s.wrong, s.group * torch.where(fooled, GROWN, SHRUNK), quarter).floor().clamp_min(1)
        return s.where(fooled, Rows(x=point, wrong=s.wrong | fooled)).put(group=group, tried=s.tried + 1)

    @staticmethod
    def _changed(q: Query, x: Tensor) -> Tensor:
        """The units of x (B,C,H,W) that differ from the clean image: pixels (B,1,H,W), or for l1 values (B,C,H,W)."""
        return x != q.clean if q.ball.norm == "l1" else (x - q.clean).abs().amax(1, keepdim=True) > 0

    def _noise(self, q: Query, tried: Tensor) -> Tensor:
        noise = q.noise("noise")
        shape = self._changed(q, q.clean).shape[1:]
        share = torch.tensor(SHARES, device=tried.device)[tried % len(SHARES)]
        chosen = noise.uniform("chosen", shape) < per_row(share, q.clean)
        return torch.where(chosen, (noise.uniform("value", shape) < 0.5).to(q.clean.dtype), q.clean)

    def _less(self, q: Query, s: Rows) -> Tensor:
        """x with a random group of its changed units put back."""
        changed = self._changed(q, s.x)
        key = q.noise("group").uniform("order", changed.shape[1:]) + 2 * (~changed).float()
        rank = key.flatten(1).argsort(dim=1, stable=True).argsort(1).view_as(changed)
        return torch.where(rank < per_row(s.group, s.x), q.clean, s.x)
