"""Random points of the ball, the worst of many: what breaks a network whose gradient leads nowhere."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attacks.method import Method
from sparring.attacks.query import Query
from sparring.core.geometry import block_signs, distance, per_row
from sparring.core.ranges import Count
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows
from sparring.core.victim import Access

SHARES = (0, 8, 4)  # a block's side is the image's over these; 0: one pixel


class RandomPoints(Method):
    """Fresh random points of the ball, each a draw of its own: nothing is learned from those before."""

    norms = ("linf", "l2")
    settled = True

    @property
    def starts_at(self) -> str:
        return "random"

    def init(self, q: Query) -> Rows:
        return Rows(x=q.clean)


@ATTACKS("random_search")
@dataclass(frozen=True, kw_only=True)
class RandomSearch(RandomPoints):
    """The worst of ``steps`` random points (Carlini et al., arXiv:1902.06705, sec. 3.2: brute-force random search). Norms: linf, l2.

    Odd points are uniform in the ball, even ones its corners: +-eps in blocks of 1 pixel, an eighth and a quarter of the image by turns (l2:
    scaled to length eps). Differs from the paper: the corners, which reach further than uniform noise.
    """

    needs = Access.SCORES
    steps: Count = 50

    def advance(self, q: Query, s: Rows) -> Rows:
        noise = q.noise("point")
        corner = q.project(q.clean + _blocks(q))
        x = torch.where(per_row(q.t % 2 == 0, q.clean), q.ball.random(q.clean, noise), corner)
        q.scores(x)
        return s


def _blocks(q: Query) -> Tensor:
    """(B,C,H,W) +-eps in blocks, one sign a channel and block; for l2 a step of that length."""
    smaller = min(q.clean.shape[2:])
    sides = [max(1, smaller // share) if share else 1 for share in SHARES]
    each = [block_signs(q.clean, q.noise(f"corner{number}"), side) for number, side in enumerate(sides)]
    turn = (q.t // 2) % len(SHARES)
    signs = torch.stack(each)[turn, torch.arange(len(q.t), device=q.t.device)]
    length = distance(signs, q.ball.norm)
    return per_row(q.ball.eps / length, signs) * signs
