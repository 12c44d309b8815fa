"""P8 without a declared accuracy: silent of honest networks, loud of guessing and of labels that another labelling beats."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom

from sparring.checks.base import Finding
from sparring.checks.controls import context, images
from sparring.checks.relabel import ALPHA, ERROR, at_chance, better_labels, learned
from sparring.core.registry import CHECKS

KINDS = ("uniform", "balanced", "few", "next", "collapsed", "pair", "uneven")


def honest(kind: str, n: int, k: int, accuracy: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and labels of a network of some accuracy. Errors are anywhere; of three classes only; all in the next class; all in one
    class; of every class in one other; or unevenly spread, with class accuracies that differ.
    """
    y = np.arange(n) % k if kind == "balanced" else rng.integers(0, k, n)
    right = rng.random(n) < accuracy
    wrong = (y + rng.integers(1, k, n)) % k
    if kind == "few":
        y = rng.choice(rng.choice(k, min(k, 3), replace=False), n)
        wrong = (y + rng.integers(1, k, n)) % k
    elif kind == "next":
        wrong = (y + 1) % k
    elif kind == "collapsed":
        wrong = np.where(y == 0, 1, 0)
    elif kind == "pair":
        twin = rng.permutation(k)[y]
        wrong = np.where(twin == y, (y + 1) % k, twin)
    elif kind == "uneven":
        by_class = np.zeros(k)
        while by_class.mean() < accuracy:
            by_class = np.clip(rng.beta(3 * accuracy, 3 * (1 - accuracy), k) + 0.01, 0, 1)
        right = rng.random(n) < by_class[y]
        wrong = (y + 1 + np.minimum(rng.geometric(min(0.5, accuracy / 2), n) - 1, k - 2)) % k
    return np.where(right, y, wrong), y


@pytest.mark.parametrize("classes", [2, 3, 4, 5, 7, 10, 43, 100, 200, 1000])
def test_guessing_is_said_of_at_most_half_a_percent_of_networks_that_have_learned(classes):
    """Exact, not simulated: the chance that the verdict falls on an accuracy of ``learned``; it is smaller above it."""
    for n in (8, 12, 20, 32, 50, 100, 333, 1000):
        k = np.arange(n + 1)
        stopped = np.array([at_chance(int(i), n, classes) == "chance" for i in k])
        assert (binom.pmf(k, n, learned(classes))[stopped]).sum() < ERROR
        silent = np.array([at_chance(int(i), n, classes) == "" for i in k])
        least = float(binom.sf(np.ceil(learned(classes) * n) - 1, n, 1 / classes))
        assert (binom.pmf(k, n, 1 / classes)[silent]).sum() <= max(ALPHA, least) + 1e-9


def test_honest_networks_are_not_told_to_relabel():
    """7 kinds of errors, n of 8 to 300, K of 2 to 1000, accuracies from the lowest: under 1 % false alarms in all."""
    rng, verdicts = np.random.default_rng(0), Counter()
    for kind in KINDS:
        for classes in (2, 3, 10, 100, 1000):
            for n in (8, 32, 100, 300):
                for accuracy in (learned(classes), 0.9):
                    accuracy = max(accuracy, 0.5) if kind in ("next", "collapsed", "pair") else accuracy
                    for _ in range(3):
                        predicted, y = honest(kind, n, classes, accuracy, rng)
                        verdicts[better_labels(predicted, y, classes) is not None] += 1
    assert verdicts[True] <= 0.005 * verdicts.total(), verdicts


@pytest.mark.parametrize(
    ("classes", "n", "accuracy"),
    [(4, 32, 0.9), (10, 20, 0.9), (10, 100, 0.5), (10, 300, 0.4), (100, 100, 0.5), (1000, 20, 0.9), (1000, 1000, 0.3)],
)
@pytest.mark.parametrize("shift", [1, -1])
def test_labels_off_by_one_are_named(classes, n, accuracy, shift):
    predicted, y = honest("uniform", n, classes, accuracy, np.random.default_rng(1))
    better = better_labels(predicted, (y - shift) % classes, classes)
    assert better is not None
    assert f"off by 1 (y{shift:+d} modulo {classes})" in better.text
    assert better.accuracy == pytest.approx(accuracy, abs=0.2)


def test_labels_in_another_order_are_named():
    """Sorted as text, 10 comes before 2; two of ten classes swapped; ten classes at random."""
    rng = np.random.default_rng(2)
    as_text = np.array(sorted(range(100), key=str))
    swapped = np.arange(10)
    swapped[[3, 5]] = 5, 3
    for order, n in ((as_text, 1000), (swapped, 300), (rng.permutation(10), 60)):
        predicted, y = honest("uniform", n, len(order), 0.9, rng)
        better = better_labels(predicted, np.argsort(order)[y], len(order))
        assert better is not None
        assert "another order" in better.text
        assert better.accuracy > 0.75


def test_one_hard_class_is_no_other_labelling():
    assert better_labels(np.full(50, 4), np.full(50, 3), 10) is None


def ask(predicted: int | torch.Tensor, **changes: Any) -> Finding:
    seen = context()
    y = (seen.y + predicted) % 4
    return CHECKS["P8"].run(context(y=y, **changes))[0]


def test_the_check_says_what_was_compared():
    assert ask(0).ok
    assert ask(0).severity == "INFO"
    assert "100.0 % (24 of 24), not checked against a declared value (--expect-clean)" in ask(0).message
    shifted = ask(1)
    assert shifted.stops
    assert "labels off by 1 (y-1 modulo 4) would give 100.0 %" in shifted.message
    assert "--expect-clean" in shifted.message
    guess = ask(torch.arange(24) // 6)
    assert guess.stops
    assert "25.0 % (6 of 24) is no better than guessing, and guessing among 4 classes is 25 %" in guess.message


def test_a_declared_accuracy_that_fits_is_not_compared_with_guessing():
    assert ask(torch.arange(24) // 6, expected_clean=0.25).ok
    assert ask(1, expected_clean=0.0).ok
    assert ask(1, expected_clean=0.9).stops


def test_four_images_are_too_few_to_stop():
    x = images(4)
    y = (context(x=x).y + 1) % 4
    found = CHECKS["P8"].run(context(x=x, y=y))[0]
    assert (found.ok, found.severity) == (False, "WARN")
    assert "take more images" in found.message
    assert CHECKS["P8"].run(context(x=x))[0].ok
