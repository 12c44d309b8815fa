"""Decision-based attacks that walk along the boundary: the boundary attack and HopSkipJump. They see labels only.

Both first seek an adversarial start (given points, else random images, fine and coarse), then bisect towards the clean image. Each row is
in a phase of its own; a row asks at most one question of its phase per iteration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attacks.label_search import LabelSearch
from sparring.attacks.query import Query
from sparring.core.geometry import distance, per_row
from sparring.core.noise import signs
from sparring.core.ranges import Count, Inner, Rate, Step
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows

SEEK, BISECT, WALK, PROBE, JUMP = range(5)
GRIDS = (0, 1, 2, 4, 8)  # random starts in turn: noise in every pixel, then one color, 2x2, 4x4, 8x8 colors


@dataclass(frozen=True, kw_only=True)
class Walk(LabelSearch):
    """What the two share: finding a start and bisecting. ``queries`` an image may spend, ``tries`` to find a start (a row
    without one ends unsuccessful), ``tolerance``: where a bisection between clean and adversarial stops.
    """

    norms = ("l2",)
    tries: Count = 100
    tolerance: Rate = 1e-3

    def init(self, q: Query) -> Rows:
        zero = torch.zeros_like(q.ball.eps)
        return Rows(x=q.clean, phase=torch.zeros_like(q.t), far=q.clean, low=zero, high=zero + 1, failed=zero.bool())

    def done(self, q: Query, s: Rows) -> Tensor:
        return s.failed

    def seek(self, q: Query, s: Rows, point: Tensor) -> Tensor:
        """``point`` with the rows that still seek a start replaced by the next one to try."""
        rows = (s.phase == SEEK).nonzero()[:, 0]
        if not len(rows):  # noise is not free, and rows seek for a few steps only
            return point
        given = int(q.start is not None)
        t, clean = q.t[rows], q.clean[rows]
        tried = _coarse(q.noise("seek").at(rows).uniform("start", clean.shape[1:]), t - 1 - given)
        if q.start is not None:
            tried = torch.where(per_row(t == 0, tried), q.start[rows], tried)
        # an image that is wrong when clean is its own start
        tried = torch.where(per_row(t == given, tried), clean, tried)
        if q.ball.mask is not None:
            tried = torch.where(q.ball.mask[rows] > 0, tried, clean)
        return point.index_copy(0, rows, tried)

    def between(self, q: Query, far: Tensor, share: Tensor) -> Tensor:
        """The point at ``share`` of the way from clean to ``far`` (linf: of the largest change)."""
        if q.ball.norm == "linf":
            reach = per_row(share * distance(far - q.clean, "linf"), far)
            return q.clean + (far - q.clean).clamp(-reach, reach)
        return q.clean + per_row(share, far) * (far - q.clean)

    def settle(self, s: Rows, point: Tensor, fooled: Tensor, after: int) -> Rows:
        """The phases SEEK and BISECT after the answer about ``point``; a finished bisection goes on to ``after``."""
        seeking, bisecting = s.phase == SEEK, s.phase == BISECT
        middle = (s.low + s.high) / 2
        high = torch.where(bisecting & fooled, middle, s.high)
        low = torch.where(bisecting & ~fooled, middle, s.low)
        x = torch.where(per_row((seeking | bisecting) & fooled, point), point, s.x)
        far = torch.where(per_row(seeking & fooled, point), point, s.far)
        over = bisecting & (high - low <= (self.tolerance or s.x[0].numel() ** -1.5))
        phase = torch.where(seeking & fooled, BISECT, torch.where(over, after, s.phase))
        return s.put(x=x, far=far, low=low, high=high, phase=phase)


def _coarse(noise: Tensor, number: Tensor) -> Tensor:
    """Noise (B,C,H,W) on the grid of try ``number`` (B,). A network may see one class in all noise of single pixels, and images
    of that class would never find a start.
    """
    side = torch.tensor(GRIDS, device=noise.device)[number.clamp_min(0) % len(GRIDS)]
    for dim in (2, 3):
        size = noise.shape[dim]
        cells = torch.where(side == 0, size, side.clamp_max(size))[:, None]
        index = torch.arange(size, device=noise.device) * cells // size
        shape = [len(noise), 1, 1, 1]
        shape[dim] = size
        noise = noise.gather(dim, index.view(shape).expand_as(noise))
    return noise


@ATTACKS("boundary")
@dataclass(frozen=True, kw_only=True)
class Boundary(Walk):
    """Boundary attack (Brendel et al., arXiv:1712.04248, algorithm 1). Norm: l2. The defective paper's S(M) is the median
    of its squared l2 distances over the number of values.

    ``orthogonal``, ``source``: first relative steps along the sphere and towards the image. Differs from the paper: a
    start is bisected towards the image first; both steps adapt after every query, to 1/2 and 1/4 success.
    """

    orthogonal: Step = 0.25
    source: Step = 0.25
    rate: Inner = 0.15

    def init(self, q: Query) -> Rows:
        s = super().init(q)
        return s.put(orthogonal=s.low + math.log(self.orthogonal), source=s.low + math.log(self.source), k=s.low)

    def advance(self, q: Query, s: Rows) -> Rows:
        walking = s.phase == WALK
        check = walking & (s.k % 5 == 0)  # a step along the sphere only: does the boundary look flat from here?
        point = self.seek(q, s, self.between(q, s.far, (s.low + s.high) / 2))
        point = torch.where(per_row(walking, s.x), self._step(q, s, check), point)
        fooled = q.fooled(q.labels(point))
        closer = distance(point - q.clean, "l2") < distance(s.x - q.clean, "l2")
        x = torch.where(per_row(walking & ~check & fooled & closer, point), point, s.x)
        orthogonal = s.orthogonal + self.rate * 2 * check * (fooled.to(s.low.dtype) - 0.5)
        source = s.source + self.rate * (walking & ~check) * (fooled.to(s.low.dtype) - 0.25)
        orthogonal, source = (v.clamp(-16, -0.1) for v in (orthogonal, source))
        s = s.put(x=x, orthogonal=orthogonal, source=source, k=s.k + walking.to(s.k.dtype))
        return self.settle(s.put(failed=(s.phase == SEEK) & ~fooled & (q.t + 1 >= self.tries)), point, fooled, WALK)

    def _step(self, q: Query, s: Rows, check: Tensor) -> Tensor:
        away = s.x - q.clean
        radius = distance(away, "l2").clamp_min(1e-12)
        normal = q.noise("direction").normal("direction", q.clean.shape[1:])
        if q.ball.mask is not None:
            normal = normal * q.ball.mask
        unit = away / per_row(radius, away)
        normal = normal - per_row((normal * unit).flatten(1).sum(1), unit) * unit
        size = s.orthogonal.exp()
        along = normal * per_row(size * radius / distance(normal, "l2").clamp_min(1e-12), normal)
        sphere = (away + along) / per_row((1 + size.square()).sqrt(), away)
        shrink = torch.where(check, 1.0, 1 - s.source.exp())
        return (q.clean + per_row(shrink, sphere) * sphere).clamp(0, 1)


@ATTACKS("hopskipjump")
@dataclass(frozen=True, kw_only=True)
class HopSkipJump(Walk):
    """HopSkipJump (Chen et al., arXiv:1904.02144, algorithm 2). Norms: l2, linf.

    ``samples``: probes of the first gradient estimate, growing with the square root of the iteration to at most 10,000;
    ``chunk``: probes asked together; ``tolerance`` 0: number of values to the power -1.5. Differs from the paper: their
    number is rounded up to a multiple of ``chunk``; probes are random signs, not normal (as good, and far cheaper).
    """

    norms = ("l2", "linf")
    tolerance: Rate = 0.0
    samples: Count = 100
    chunk: Count = 20

    def init(self, q: Query) -> Rows:
        s = super().init(q)
        blank = torch.zeros_like(q.clean)
        one = torch.ones_like(q.t)
        return s.put(
            turn=one, asked=0 * one, votes=s.low, ahead=blank, total=blank, way=blank, reach=s.low, width=s.low + 0.1
        )

    def advance(self, q: Query, s: Rows) -> Rows:
        asked = s.phase  # the phase that this step's question belongs to; a row may leave it below
        middle = self.between(q, s.far, (s.low + s.high) / 2)
        jump = (s.x + per_row(s.reach, s.x) * s.way).clamp(0, 1)
        point = torch.where(per_row(asked == JUMP, s.x), jump, self.seek(q, s, middle))
        fooled = q.fooled(q.labels(point, "point", only=asked != PROBE))
        failed = (asked == SEEK) & ~fooled & (q.t + 1 >= self.tries)
        s = self.settle(s.put(failed=failed), point, fooled, PROBE)
        s = self._begin(q, s, (asked == BISECT) & (s.phase == PROBE))
        s = self._jump(s, point, fooled, asked == JUMP)
        return self._probe(q, s, asked == PROBE)

    def _begin(self, q: Query, s: Rows, now: Tensor) -> Rows:
        """Rows that reached the boundary start a new estimate, its probes as wide as the distance over the dimension."""
        size = distance(s.x - q.clean, q.ball.norm)
        width = torch.where(s.turn == 1, 0.1, size / q.clean[0].numel()).clamp_min(1e-5)
        blank = torch.zeros_like(s.x)
        return s.where(
            now, Rows(asked=torch.zeros_like(s.asked), votes=s.low * 0, ahead=blank, total=blank, width=width)
        )

    def _probe(self, q: Query, s: Rows, probing: Tensor) -> Rows:
        """One chunk of the Monte-Carlo estimate (paper, eq. 9 and 16) for the rows in phase PROBE."""
        noise = signs(q.noise("probe"), self.chunk, q.clean)
        if q.ball.mask is not None:
            noise = noise * q.ball.mask[:, None]
        unit = noise / noise.flatten(2).square().sum(2).sqrt()[:, :, None, None, None].clamp_min(1e-12)
        points = (s.x[:, None] + s.width[:, None, None, None, None] * unit).clamp(0, 1)
        vote = 2 * q.fooled(q.labels(points, "probe", only=probing)).to(s.low.dtype) - 1
        unit = (points - s.x[:, None]) / s.width[:, None, None, None, None]
        new = Rows(
            asked=s.asked + self.chunk,
            votes=s.votes + vote.sum(1),
            ahead=s.ahead + (vote[:, :, None, None, None] * unit).sum(1),
            total=s.total + unit.sum(1),
        )
        s = s.where(probing, new)
        wanted = (self.samples * s.turn.to(s.low.dtype).sqrt()).clamp(max=10_000)
        full = probing & (s.asked >= wanted)
        mean = s.votes / s.asked.clamp_min(1)
        # all probes alike: their sum is the direction; else the mean vote is a baseline that lowers the variance
        same = mean.abs() >= 1
        way = torch.where(per_row(same, s.ahead), s.ahead, s.ahead - per_row(mean, s.total) * s.total)
        way = way.sign() if q.ball.norm == "linf" else way / per_row(distance(way, "l2").clamp_min(1e-12), way)
        reach = distance(s.x - q.clean, q.ball.norm) / s.turn.to(s.low.dtype).sqrt()
        jumping = torch.full_like(s.phase, JUMP)
        return s.where(full, Rows(way=way, reach=reach, phase=jumping, turn=s.turn + 1))

    @staticmethod
    def _jump(s: Rows, point: Tensor, fooled: Tensor, jumping: Tensor) -> Rows:
        """Geometric step search: halve until the point is adversarial, then bisect from there (or stay, if hopeless)."""
        landed = jumping & fooled
        hopeless = jumping & ~fooled & (s.reach < 1e-4)
        far = torch.where(per_row(landed, point), point, torch.where(per_row(hopeless, s.x), s.x, s.far))
        x = torch.where(per_row(landed, point), point, s.x)
        again = landed | hopeless
        return s.put(
            x=x,
            far=far,
            reach=torch.where(jumping & ~fooled, s.reach / 2, s.reach),
            low=torch.where(again, 0.0, s.low),
            high=torch.where(again, 1.0, s.high),
            phase=torch.where(again, BISECT, s.phase),
        )
