"""A difference of numbers with one-sided bounds at any level: exact where that is known, a bootstrap over images, Student's t over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from sparring.evaluation.results.stats import CONFIDENCE, gain_bounds, lower_bound, upper_bound
from sparring.recipes.numbers import Number

RESAMPLES = 4000
SAME = 1e-9  # differences nearer than this differ by rounding alone
FEW = 50  # images below which a bootstrap is not believed


@dataclass(frozen=True)
class Bounds:
    """An estimate; ``low(level)`` and ``high(level)``: its one-sided bounds. ``n``: images (or ``seeds``) behind it. ``how``: the method."""

    value: float
    low: Callable[[float], float]
    high: Callable[[float], float]
    n: int
    how: str

    def p_above(self, threshold: float) -> float:
        """One-sided p of "it is not above ``threshold``": the smallest level at which the bound still says so."""
        return _p(lambda level: self.low(level) > threshold)

    def p_below(self, threshold: float) -> float:
        """The same of "it is not below"."""
        return _p(lambda level: self.high(level) < threshold)


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
    least = scale * upper_bound(0, n) if n < FEW or np.ptp(samples) == 0 else 0.0

    def low(level: float) -> float:
        return min(float(np.quantile(samples, 1 - level)), value - least)

    def high(level: float) -> float:
        return max(float(np.quantile(samples, level)), value + least)

    return Bounds(value, low, high, n, "bootstrap over images")


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
        return Bounds(
            value,
            lambda v: min(value, scale * lower_bound(k, n, v)),
            lambda v: max(value, scale * upper_bound(k, n, v)),
            n,
            "exact",
        )
    if not paired or a.images != b.images:
        return None
    value = a.value - b.value
    return Bounds(
        value,
        lambda v: min(value, scale * gain_bounds(firsts[0], firsts[1], v).low),
        lambda v: max(value, scale * gain_bounds(firsts[0], firsts[1], v).high),
        n,
        "paired exact",
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
