"""The five papers' metrics from raw counts: each denominator by hand, published ratios where they are known."""

import math

import numpy as np
import pytest

from sparring.evaluation.results import metrics

CLEAN = np.array([1, 1, 1, 1, 0, 0], bool)
ADV = np.array([1, 1, 0, 0, 1, 0], bool)
FOOLED = np.array([1, 0, 1, 0, 1, 1], bool)


def test_each_rate_has_its_own_denominator():
    assert metrics.accuracy(ADV) == (3, 6, "ALL")
    assert metrics.clean_correct_rate(ADV, CLEAN)[:2] == (2, 4)
    assert metrics.success_defense_rate(ADV, CLEAN, FOOLED)[:2] == (1, 2)
    assert metrics.strength(ADV, CLEAN)[:2] == (2, 4)
    assert metrics.survival_rate(ADV, CLEAN)[:2] == (3, 4)
    assert metrics.conditional_recovery(np.array([1, 0, 1, 1, 1, 1], bool), CLEAN, ADV)[:2] == (2, 2)


def test_a_ratio_of_accuracies_can_exceed_one():
    """C5: ACE prints 100.4 %, possible only if images wrong when clean become right."""
    assert metrics.defense_success_rate(np.ones(6, bool), CLEAN).value == 1.5


def test_ace_table_8_over_clean_is_table_3():
    """91.7/92.0 = 99.7 and so on: the denominator is the accuracy without the shift."""
    for after, printed in ((91.7, 99.7), (91.5, 99.5), (91.3, 99.2), (90.4, 98.3)):
        assert round(100 * metrics.Rate(after, 92.0, "").value, 1) == printed


def test_s2snet_relative_accuracy_of_appendix_a():
    assert metrics.Rate(0.672041, 0.75004, "").value == pytest.approx(0.8960, abs=5e-5)


def test_boundary_score_in_l2():
    """PROTOCOL 2.5: S = 7.3e-6 is a median L2 of 0.150, 3.5e-5 of 0.328, at N = 3072."""
    for score, l2 in ((7.3e-6, 0.150), (3.5e-5, 0.328)):
        assert metrics.boundary_score(np.array([l2] * 3), 3072) == pytest.approx(score, rel=0.01)


def test_dissimilarity_and_empty_sets():
    assert metrics.dissimilarity(np.array([1.0, 3.0]), np.array([10.0, 10.0])) == pytest.approx(0.2)
    assert math.isnan(metrics.strength(ADV[:0], CLEAN[:0]).value)
    assert math.isnan(metrics.boundary_score(np.array([]), 3072))
