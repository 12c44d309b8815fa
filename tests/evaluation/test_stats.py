"""Intervals against printed values of the protocol and closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from sparring.evaluation.results.stats import (
    at_least,
    clopper_pearson,
    compare,
    lower_bound,
    mcnemar,
    persistent,
    rate_interval,
    rate_upper,
    upper_bound,
    wilson,
)


@pytest.mark.parametrize(("n", "bound"), [(128, 0.023), (1000, 0.0030)])
def test_upper_bound_of_zero_survivors(n, bound):
    """PROTOCOL 2.6: U = 1 - 0.05^(1/n): 2.3 % at 128, 0.30 % at 1000."""
    assert upper_bound(0, n) == pytest.approx(1 - 0.05 ** (1 / n))
    assert upper_bound(0, n) == pytest.approx(bound, abs=5e-4)


def test_bounds_at_the_ends():
    assert upper_bound(10, 10) == 1
    assert lower_bound(0, 10) == 0
    assert lower_bound(10, 10) == pytest.approx(0.05**0.1)


@pytest.mark.parametrize(("n", "half"), [(128, 0.085), (1000, 0.031), (10_000, 0.010)])
def test_wilson_half_widths(n, half):
    low, high, _ = wilson(n // 2, n)
    assert (high - low) / 2 == pytest.approx(half, abs=6e-4)


@given(st.integers(1, 200), st.data())
@settings(max_examples=60, deadline=None)
def test_intervals_contain_the_estimate_and_exact_ones_are_wider_than_one_sided(n, data):
    k = data.draw(st.integers(0, n))
    for interval in (wilson(k, n), clopper_pearson(k, n)):
        assert interval.low - 1e-12 <= k / n <= interval.high + 1e-12
    assert clopper_pearson(k, n).high >= upper_bound(k, n) - 1e-12
    assert clopper_pearson(k, n).low <= lower_bound(k, n) + 1e-12


@given(st.integers(1, 2000), st.sampled_from([0.9, 0.95, 0.99]), st.data())
@settings(max_examples=60, deadline=None)
def test_intervals_are_those_of_scipy(n, confidence, data):
    k = data.draw(st.integers(0, n))
    test = scipy_stats.binomtest(k, n)
    for ours, method in ((wilson, "wilson"), (clopper_pearson, "exact")):
        theirs = test.proportion_ci(confidence, method)
        assert ours(k, n, confidence)[:2] == pytest.approx((theirs.low, theirs.high), abs=1e-10), method
    assert at_least(k, n, 0.3) == pytest.approx(scipy_stats.binom.sf(k - 1, n, 0.3), abs=1e-12)


def test_clopper_pearson_covers():
    """At least 95 % of the time, for a proportion of 0.8 and n = 60: summed over the binomial, no simulation."""
    n, p = 60, 0.8
    covered = sum(
        scipy_stats.binom.pmf(k, n, p)
        for k in range(n + 1)
        if clopper_pearson(k, n).low <= p <= clopper_pearson(k, n).high
    )
    assert covered >= 0.95


def test_persistent_attacker_estimate_is_unbiased():
    """PROTOCOL 2.4: the plug-in (k/T)^q is biased upwards: 0.2197 against 0.2079 at q = 10."""
    draws, q = 20, 10
    rng = np.random.default_rng(0)
    p = rng.beta(8, 1.5, 200_000)
    k = rng.binomial(draws, p)
    truth = (p**q).mean()
    assert persistent(k, draws, q) == pytest.approx(truth, abs=0.003)
    assert ((k / draws) ** q).mean() > truth + 0.01
    assert np.isnan(persistent(k, 5, q))


def test_random_systems_get_a_cluster_bootstrap_and_fall_back_where_it_degenerates():
    rng = np.random.default_rng(0)
    p = rng.beta(2, 2, 200)
    first = rng.random(200) < p
    interval = rate_interval(p, first, random=True)
    assert interval.kind == "cluster bootstrap"
    error = p.std() / np.sqrt(200)
    assert interval.low == pytest.approx(p.mean() - 1.96 * error, abs=0.01)
    assert interval.high == pytest.approx(p.mean() + 1.96 * error, abs=0.01)
    assert rate_upper(p, first, True) == pytest.approx(p.mean() + 1.645 * error, abs=0.01)
    same = np.full(200, 0.8)
    assert rate_interval(same, first, True).kind == "clopper-pearson"
    assert rate_interval(p[:40], first[:40], True).kind == "clopper-pearson"
    assert rate_interval((p > 0.5).astype(float), p > 0.5, False).kind == "wilson"


def test_mcnemar_against_scipy_and_by_hand():
    assert mcnemar(0, 0) == 1
    assert mcnemar(5, 5) == 1
    assert mcnemar(1, 9) == pytest.approx(scipy_stats.binomtest(1, 10).pvalue)


def test_paired_comparison():
    a, b = np.array([1, 1, 1, 0, 1] * 40), np.array([1, 0, 1, 0, 1] * 40)
    found = compare(a, b)
    assert found.difference == pytest.approx(0.2)
    assert found.low < 0.2 < found.high
    assert found.p_value == pytest.approx(scipy_stats.binomtest(0, 40).pvalue)
    assert np.isnan(compare(a * 0.5, b * 0.25).p_value)
