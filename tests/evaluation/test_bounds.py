"""Bounds of random systems: one-sided at 95 %, exact where the bootstrap degenerates, resampled at the sample's size."""

import numpy as np
import pytest

from sparring.evaluation.results.stats import clopper_pearson, compare, rate_interval, rate_upper, upper_bound


def test_bootstrap_bounds_are_those_of_the_normal_limit():
    """Within a tenth of the standard error: 1.645 and 1.96 of it, not of another sample size."""
    p = np.random.default_rng(1).beta(2, 2, 2000)
    first = p > 0.5
    error = p.std() / np.sqrt(len(p))
    low, high, _ = rate_interval(p, first, random=True)
    assert (low - p.mean()) / error == pytest.approx(-1.96, abs=0.1)
    assert (high - p.mean()) / error == pytest.approx(1.96, abs=0.1)
    assert (rate_upper(p, first, True) - p.mean()) / error == pytest.approx(1.645, abs=0.1)


@pytest.mark.parametrize(
    ("p", "right"), [(np.full(200, 0.8), 160), (np.linspace(0.5, 1, 40), 30), (np.linspace(0, 1, 80), 80)]
)
def test_degenerate_samples_get_exact_bounds_of_their_first_draws(p, right):
    first = np.arange(len(p)) < right
    assert rate_upper(p, first, True) == upper_bound(right, len(p))
    assert rate_interval(p, first, True) == clopper_pearson(right, len(p))


def test_mcnemar_counts_discordant_pairs_only():
    a, b = np.array([1, 1, 0, 0, 0] * 8), np.array([1, 0, 0, 0, 1] * 8)
    assert compare(a, b).p_value == 1.0, "8 against 8; 16 images on which both are wrong say nothing"
