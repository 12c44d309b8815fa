"""Pointwise: salt-and-pepper noise that is taken back as long as the label stays wrong."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attacks.label_search import LabelSearch
from sparring.attacks.query import Query
from sparring.core.geometry import distance, per_row
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows

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
class Pointwise(LabelSearch):
    """Pointwise attack (Schott et al., ICLR 2019, arXiv:1805.09190, sec. 4 and appendix). Norms: l0, l1.

    It starts at salt-and-pepper noise of growing share and puts random groups of pixels (l1: of values) back to the clean
    image as long as the label stays wrong. ``queries`` an image may spend. Differs from the paper: groups, not one value at
    a time, a fifth larger after a success and three tenths smaller after a failure; where single ones fail as often as
    there are any, noise on about as many others is added to the nearest point so far, and taken back in turn (the paper
    begins anew); no bisection of single values; the first question is about a given start.
    """

    norms = ("l0", "l1")

    @property
    def opening(self) -> tuple[int, int]:
        return 1, 0

    def init(self, q: Query) -> Rows:
        q.labels(q.clean, "clean")
        none = torch.zeros_like(q.t)
        return Rows(x=q.clean, nearest=q.clean, wrong=none.bool(), group=none + 1, failed=none)

    def advance(self, q: Query, s: Rows) -> Rows:
        stuck = s.failed >= self._count(q, s.x)
        lessening = s.wrong & ~stuck
        point = torch.where(per_row(lessening, s.x), self._less(q, s), self._noise(q, s))
        if q.start is not None:
            point = torch.where(per_row(q.t == 0, point), q.start, point)
        point = point if q.ball.mask is None else torch.where(q.ball.mask > 0, point, q.clean)
        fooled = q.fooled(q.labels(point))
        near = distance(point - q.clean, q.ball.norm) <= distance(s.nearest - q.clean, q.ball.norm)
        resized = (s.group * torch.where(fooled, GROWN, SHRUNK)).long().clamp_min(1)
        group = torch.where(lessening, resized, (self._count(q, point) // 4).clamp_min(1))
        failed = torch.where(fooled, 0, s.failed + (lessening & (s.group == 1)))
        s = s.where(fooled & (near | ~s.wrong), Rows(nearest=point))
        return s.where(fooled, Rows(x=point, wrong=s.wrong | fooled)).put(group=group, failed=failed)

    @staticmethod
    def _changed(q: Query, x: Tensor) -> Tensor:
        """The units of x (B,C,H,W) that differ from the clean image: pixels (B,1,H,W), or for l1 values (B,C,H,W)."""
        return x != q.clean if q.ball.norm == "l1" else (x - q.clean).abs().amax(1, keepdim=True) > 0

    def _count(self, q: Query, x: Tensor) -> Tensor:
        """(B,) how many units differ."""
        return self._changed(q, x).flatten(1).sum(1)

    def _noise(self, q: Query, s: Rows) -> Tensor:
        """Salt and pepper on the nearest point so far, on as many units as differ there; before there is one, on the clean image."""
        noise, unchanged = q.noise("noise"), self._changed(q, q.clean)
        shape = unchanged.shape[1:]
        growing = torch.tensor(SHARES, device=q.t.device)[q.t % len(SHARES)]
        share = torch.where(s.wrong, self._count(q, s.nearest) / unchanged[0].numel(), growing)
        chosen = noise.uniform("chosen", shape) < per_row(share, q.clean)
        return torch.where(chosen, (noise.uniform("value", shape) < 0.5).to(q.clean.dtype), s.nearest)

    def _less(self, q: Query, s: Rows) -> Tensor:
        """x with a random group of its changed units put back."""
        changed = self._changed(q, s.x)
        key = q.noise("group").uniform("order", changed.shape[1:]) + 2 * (~changed).float()
        rank = key.flatten(1).argsort(dim=1, stable=True).argsort(1).view_as(changed)
        return torch.where(rank < per_row(s.group, s.x), q.clean, s.x)
