"""Intervals and paired comparisons (PROTOCOL 2.6). Thin names over scipy; the bootstrap is numpy.

scipy.special, not scipy.stats: the latter takes 1.5 s to import, in every command and every worker.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import bdtr, bdtrc, betaincinv, ndtri

BOOTSTRAPS = 10_000
RESAMPLES = 2_000  # of a statistic that is no mean
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """low <= estimate <= high, as shares in [0,1]; ``kind`` names the method."""

    low: float
    high: float
    kind: str


def wilson(k: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Two-sided Wilson interval of k of n: the error bar of tables. n = 0 gives [0,1]."""
    if n == 0:
        return Interval(0.0, 1.0, "wilson")
    z = float(ndtri(0.5 + confidence / 2))
    share, extra = k / n, z * z / n
    center = (share + extra / 2) / (1 + extra)
    half = z / (1 + extra) * math.sqrt(share * (1 - share) / n + extra / (4 * n))
    return Interval(0.0 if k == 0 else center - half, 1.0 if k == n else center + half, "wilson")


def clopper_pearson(k: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Two-sided exact interval of k of n."""
    if n == 0:
        return Interval(0.0, 1.0, "clopper-pearson")
    one_sided = (1 + confidence) / 2
    return Interval(lower_bound(k, n, one_sided), upper_bound(k, n, one_sided), "clopper-pearson")


def upper_bound(k: int, n: int, confidence: float = CONFIDENCE) -> float:
    """U: one-sided exact upper bound; 1 if k = n."""
    return 1.0 if k >= n else float(betaincinv(k + 1, n - k, confidence))


def lower_bound(k: int, n: int, confidence: float = CONFIDENCE) -> float:
    """L: one-sided exact lower bound; 0 if k = 0."""
    return 0.0 if k <= 0 else float(betaincinv(k, n - k + 1, 1 - confidence))


def at_least(k: int, n: int, p: float) -> float:
    """The probability of k or more of n, each with probability p."""
    return 1.0 if k <= 0 else float(bdtrc(k - 1, n, p))


def bootstrap_means(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """(BOOTSTRAPS,) means of resampled images; ``values`` (n,) one number per image (the cluster)."""
    rng = np.random.default_rng(seed)
    parts = [values[rng.integers(0, len(values), (500, len(values)))].mean(1) for _ in range(BOOTSTRAPS // 500)]
    return np.concatenate(parts)


def rate_interval(p: np.ndarray, first: np.ndarray, random: bool) -> Interval:
    """Two-sided interval of mean(p), p (n,) per-image accuracies, first (n,) bool the first judge draw of each
    image.

    Deterministic: Wilson. Random: cluster bootstrap over images; Clopper-Pearson on first draws where that is
    degenerate (all p equal, n < 50, or 0 or n correct).
    """
    n = len(p)
    if not random:
        return wilson(round(float(p.sum())), n)
    k = int(first.sum())
    if n < 50 or np.ptp(p) == 0 or k in (0, n):
        return clopper_pearson(k, n)
    low, high = np.quantile(bootstrap_means(p), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high), "cluster bootstrap")


def rate_upper(p: np.ndarray, first: np.ndarray, random: bool) -> float:
    """U, the one-sided 95 % upper bound that verdicts use."""
    n, k = len(p), int(first.sum())
    if not random:
        return upper_bound(round(float(p.sum())), n)
    if n < 50 or np.ptp(p) == 0 or k in (0, n):
        return upper_bound(k, n)
    return float(np.quantile(bootstrap_means(p), CONFIDENCE))


def rate_lower(p: np.ndarray, first: np.ndarray, random: bool) -> float:
    """L, the one-sided 95 % lower bound that verdicts use."""
    n, k = len(p), int(first.sum())
    if not random:
        return lower_bound(round(float(p.sum())), n)
    if n < 50 or np.ptp(p) == 0 or k in (0, n):
        return lower_bound(k, n)
    return float(np.quantile(bootstrap_means(p), 1 - CONFIDENCE))


def gain_bounds(a: np.ndarray, b: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """One-sided bounds (of ``confidence`` each) of mean(a) - mean(b), (n,) values of 0 and 1 on the same images.

    The shares of images won and lost have exact bounds each, whose distances are joined as standard deviations are (MOVER, with the correlation
    of two counts of one sample). Where no image differs a bootstrap is certain of 0: here the bounds are those of 0 of n, 8.9 points at n = 32.
    """
    n, won, lost = len(a), int((a > b).sum()), int((a < b).sum())
    p, q = won / n, lost / n
    together = math.sqrt(p * q / ((1 - p) * (1 - q))) if max(p, q) < 1 else 0.0

    def joined(first: float, second: float) -> float:
        return math.sqrt(first**2 + second**2 + 2 * together * first * second)

    more = joined(upper_bound(won, n, confidence) - p, q - lower_bound(lost, n, confidence))
    less = joined(p - lower_bound(won, n, confidence), upper_bound(lost, n, confidence) - q)
    return Interval(max(-1.0, p - q - less), min(1.0, p - q + more), "paired")


def mean_gain_bounds(a: np.ndarray, b: np.ndarray, first_a: np.ndarray, first_b: np.ndarray) -> Interval:
    """The same for random systems: a, b (n,) per-image accuracies, first_* their first judge draws. A bootstrap over images; the exact bounds of
    the first draws where that is degenerate.
    """
    delta = a - b
    if len(a) < 50 or np.ptp(delta) == 0:
        low, high, kind = gain_bounds(first_a.astype(float), first_b.astype(float))
        return Interval(min(low, float(delta.mean())), max(high, float(delta.mean())), kind)
    low, high = np.quantile(bootstrap_means(delta), [1 - CONFIDENCE, CONFIDENCE])
    return Interval(float(low), float(high), "cluster bootstrap")


def bootstrap(statistic: Callable[[np.ndarray], float], n: int, seed: int = 0) -> Interval:
    """Percentile interval of ``statistic(indices (n,) of resampled images)``; where it is nan (an empty denominator) it is left out."""
    rng = np.random.default_rng(seed)
    values = np.array([statistic(rng.integers(0, n, n)) for _ in range(RESAMPLES)])
    values = values[~np.isnan(values)]
    if not len(values):
        return Interval(math.nan, math.nan, "n/a")
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high), "bootstrap")


class Paired(NamedTuple):
    """difference = mean(a) - mean(b) on the same images, its paired bootstrap interval, and McNemar's exact p (or
    nan).
    """

    difference: float
    low: float
    high: float
    p_value: float


def compare(a: np.ndarray, b: np.ndarray, seed: int = 0) -> Paired:
    """Two defenses (or attacks) on the same images, (n,) per-image accuracies each. 0/1 values get exact McNemar."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} images are not paired")
    delta = a.astype(float) - b.astype(float)
    low, high = np.quantile(bootstrap_means(delta, seed), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    binary = bool(np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all())
    return Paired(
        float(delta.mean()),
        float(low),
        float(high),
        mcnemar(int((delta > 0).sum()), int((delta < 0).sum())) if binary else float("nan"),
    )


def mcnemar(b: int, c: int) -> float:
    """Exact two-sided McNemar test of the discordant counts b and c."""
    if b + c == 0:
        return 1.0
    return float(min(1.0, 2 * bdtr(min(b, c), b + c, 0.5)))


def persistent(k: np.ndarray, draws: int, q: int = 10) -> float:
    """R_q: accuracy against an attacker who may resubmit q times: mean of C(k,q)/C(draws,q), unbiased for mean p^q.

    k (n,) correct out of ``draws`` judge draws. nan if draws < q.
    """
    if draws < q:
        return float("nan")
    share = np.ones(len(k))
    for i in range(q):
        share *= np.clip(k - i, 0, None) / (draws - i)
    return float(share.mean())
