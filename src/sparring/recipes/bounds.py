"""A difference of numbers with one-sided bounds at any level: exact where that is known, a bootstrap over images, Student's t over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtrc, stdtrit

from sparring.evaluation.results.stats import CONFIDENCE, at_least, gain_bounds, lower_bound, upper_bound
from sparring.recipes.numbers import Number

RESAMPLES = 4000
SAME = 1e-9  # differences nearer than this differ by rounding alone
FEW = 50  # images below which a bootstrap is not believed
MANY = 10_000  # discordant images beyond which nobody looks for how many the sign test needs


@dataclass(frozen=True)
class Discordant:
    """Of two shares of the same images, how many the first alone has right, and the second alone: the exact sign test is about these."""

    won: int
    lost: int

    @property
    def swapped(self) -> Discordant:
        """Of the difference the other way."""
        return Discordant(self.lost, self.won)

    @property
    def p(self) -> float:
        """One-sided p of "the first is not better"."""
        return at_least(self.won, self.won + self.lost, 0.5)

    def growth(self, level: float) -> float:
        """How many times as many images, of the same shares, the test proves at ``level``; inf beyond MANY."""
        total = self.won + self.lost
        if self.won <= self.lost:
            return math.inf
        totals = np.arange(total, MANY + total)
        enough = bdtrc(np.round(totals * self.won / total) - 1, totals, 0.5) <= 1 - level
        return float(totals[enough][0] / total) if enough.any() else math.inf


@dataclass(frozen=True)
class Bounds:
    """An estimate; ``low(level)`` and ``high(level)``: its one-sided bounds. ``n``: images (or ``seeds``) behind it. ``how``: the method. ``discordant``:
    of a paired difference of shares. ``extreme``: of none or all of n, what a share is multiplied with (else 0): such a bound shrinks as 1/n.
    """

    value: float
    low: Callable[[float], float]
    high: Callable[[float], float]
    n: int
    how: str
    discordant: Discordant | None = None
    extreme: float = 0.0

    def p_above(self, threshold: float) -> float:
        """One-sided p of "it is not above ``threshold``": the smallest level at which the bound still says so. What is above zero or more is above zero:
        of pairs the exact sign test must agree, as joined bounds prove too much from few.
        """
        p = _p(lambda level: self.low(level) > threshold)
        return max(p, self.discordant.p) if self.discordant and threshold > -SAME else p

    def p_below(self, threshold: float) -> float:
        """The same of "it is not below"."""
        return self.negative.p_above(-threshold)

    @property
    def negative(self) -> Bounds:
        """Of the estimate with the other sign."""
        swapped = self.discordant and self.discordant.swapped
        low, high = self.low, self.high
        return Bounds(-self.value, lambda v: -high(v), lambda v: -low(v), self.n, self.how, swapped, self.extreme)

    def needed(self, threshold: float, level: float) -> float:
        """Images (or seeds) at which an estimate like this would be proven at ``level`` to be on its side of ``threshold``; inf where it stands on it, or
        has no interval.
        """
        gap = self.value - threshold
        half = abs(self.value - (self.low(level) if gap > 0 else self.high(level)))
        if abs(gap) < SAME or math.isinf(half) or math.isnan(half):
            return math.inf
        if 0 < abs(gap) < self.extreme:  # 1 - half is (1 - level) ** (1 / n)
            return self.n * math.log1p(-half / self.extreme) / math.log1p(-abs(gap) / self.extreme)
        needed = self.n * (half / gap) ** 2
        if self.discordant and abs(threshold) < SAME:
            return max(needed, self.n * (self.discordant if gap > 0 else self.discordant.swapped).growth(level))
        return needed


def _p(proven: Callable[[float], bool]) -> float:
    """1 - the highest level at which it is proven, by bisection; 1 where not even at one half."""
    low, high = 0.5, 1 - 1e-6
    if not proven(low):
        return 1.0
    if proven(high):
        return 1 - high
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if proven(middle) else (low, middle)
    return 1 - low


def difference(a: Sequence[Number], b: Sequence[Number], paired: bool = True, factor: float = 1.0) -> Bounds:
    """mean(a) - ``factor`` * mean(b), or mean(a) where b is empty; each may hold cells of several seeds, as many of each. Several seeds are a sample of
    trainings: their differences are judged by t, as the noise of images is not the noise of training.
    """
    seeds = sorted({x.seed for x in a})
    each = [_of_seed([x for x in a if x.seed == s], [x for x in b if x.seed == s], paired, factor) for s in seeds]
    if len(each) == 1:
        return each[0]
    values = np.array([bounds.value for bounds in each])
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    if np.ptp(values) < SAME:  # of seeds that agree to rounding t would be certain: the images still say how sure
        return each[0]

    def reach(level: float) -> float:
        return error * float(stdtrit(len(values) - 1, level))

    return Bounds(
        mean, lambda v: mean - reach(v), lambda v: mean + reach(v), len(values), f"t over {len(values)} seeds"
    )


def _of_seed(a: Sequence[Number], b: Sequence[Number], paired: bool, factor: float) -> Bounds:
    value = _mean(a) - (factor * _mean(b) if b else 0.0)
    if all(x.exact for x in (*a, *b)):
        return Bounds(value, lambda _: value, lambda _: value, 0, "exact")
    if not all(x.columns for x in (*a, *b)) or math.isnan(value):
        return Bounds(value, lambda _: -math.inf, lambda _: math.inf, 0, "one number without an interval")
    if factor == 1 and len(a) == len(a[0].columns) == 1 and (not b or len(b) == len(b[0].columns) == 1):
        exact = _exact(a[0], b[0] if b else None, paired)
        if exact:
            return exact
    samples = np.sort(_samples(a, b, paired, factor))
    n = min(x.n for x in (*a, *b))
    scale = max(x.scale for x in (*a, *b))
    # where no image differs a bootstrap is certain: the bounds of 0 of n, and for few images always
    least = scale if n < FEW or np.ptp(samples) == 0 else 0.0

    def low(level: float) -> float:
        return min(float(np.quantile(samples, 1 - level)), value - least * upper_bound(0, n, level))

    def high(level: float) -> float:
        return max(float(np.quantile(samples, level)), value + least * upper_bound(0, n, level))

    extreme = scale if np.ptp(samples) == 0 else 0.0
    return Bounds(value, low, high, n, "bootstrap over images", extreme=extreme)


def _mean(numbers: Sequence[Number]) -> float:
    return float(np.mean([x.value for x in numbers]))


def _exact(a: Number, b: Number | None, paired: bool) -> Bounds | None:
    """Closed bounds of one share of all images, or of the paired difference of two; None where there are none."""
    columns = [x.columns[0] for x in (a, b) if x]
    if any(c.kind != "share" or not c.over.all() for c in columns):
        return None
    if not all(c.is_binary for c in columns) and a.n >= FEW and all(np.ptp(c.top) > 0 for c in columns):
        return None
    firsts = [c.top if c.is_binary else c.first.astype(float) for c in columns]
    scale, n = a.scale, a.n
    if b is None:
        value, k = a.value, int(firsts[0].sum())
        extreme = scale if (k, value) in ((0, 0.0), (n, scale)) else 0.0
        return Bounds(
            value,
            lambda v: min(value, scale * lower_bound(k, n, v)),
            lambda v: max(value, scale * upper_bound(k, n, v)),
            n,
            "exact",
            extreme=extreme,
        )
    if not paired or a.images != b.images:
        return None
    value = a.value - b.value
    discordant = Discordant(int((firsts[0] > firsts[1]).sum()), int((firsts[0] < firsts[1]).sum()))
    return Bounds(
        value,
        lambda v: min(value, scale * gain_bounds(firsts[0], firsts[1], v).low),
        lambda v: max(value, scale * gain_bounds(firsts[0], firsts[1], v).high),
        n,
        "paired",
        discordant,
        scale if discordant == Discordant(0, 0) and value == 0 else 0.0,
    )


def _samples(a: Sequence[Number], b: Sequence[Number], paired: bool, factor: float) -> np.ndarray:
    """(RESAMPLES,) of the difference: images are drawn with repetition, the same for all cells of the same images, or for each side where not ``paired``."""
    rng = np.random.default_rng(0)
    total = np.zeros(RESAMPLES)
    drawn: dict[tuple[str, str], np.ndarray] = {}
    for side, numbers, sign in (("a", a, 1.0), ("b", b, -factor)):
        for x in numbers:
            key = ("" if paired else side, x.images)
            if key not in drawn:
                drawn[key] = rng.integers(0, x.n, (RESAMPLES, x.n), dtype=np.int32)
            for column in x.columns:
                values = _resampled(column.top, column.over, column.kind, drawn[key])
                total += sign * x.scale * values / len(x.columns) / len(numbers)
    return total[~np.isnan(total)] if np.isnan(total).any() else total


def _resampled(top: np.ndarray, over: np.ndarray, kind: str, at: np.ndarray) -> np.ndarray:
    inside = over > 0
    if kind == "median":
        values = np.where(inside, top, np.nan)
        return np.array([np.nanmedian(values[i]) if inside[i].any() else np.nan for i in at])
    above, below = (top, over) if kind == "ratio" else (np.where(inside, top, 0.0), inside.astype(float))
    with np.errstate(invalid="ignore", divide="ignore"):
        return above[at].sum(1) / below[at].sum(1)


def holm(p: Sequence[float], level: float = 1 - CONFIDENCE) -> list[bool]:
    """Holm's step-down test: which hypotheses of a family are rejected at ``level`` for all of them together."""
    rejected = [False] * len(p)
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[i] > level / (len(p) - rank):
            break
        rejected[i] = True
    return rejected
