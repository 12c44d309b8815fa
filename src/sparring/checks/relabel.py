"""Is a clean accuracy that of guessing, and would other labels fit better? The tests of P8, on predictions and labels alone.

Both keep silent of an honest model with a probability of over 99 % together: each has half of that error. ``at_chance`` by construction, for
any accuracy of at least ``learned``; ``better_labels`` where the label given is at least as frequent an answer as that of any one other
labelling, and else because a small gain is not reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import bdtr

from sparring.evaluation.results.stats import at_least

ALPHA = 0.01  # above guessing
ERROR = 0.005  # of each of the two refusals


def learned(classes: int) -> float:
    """The accuracy that a network which has learned its classes is taken to reach: 3/K + 0.1, for few classes half way from 1/K to 1."""
    return min(3 / classes + 0.1, (1 + 1 / classes) / 2)


def at_chance(right: int, count: int, classes: int) -> Literal["chance", "few", ""]:
    """ "chance": not above 1/K, and below what has been learned; "few": not above 1/K, and too few images to say more; "": neither."""
    if at_least(right, count, 1 / classes) < ALPHA or right >= learned(classes) * count:
        return ""
    return "chance" if bdtr(right, count, learned(classes)) < ERROR else "few"


@dataclass(frozen=True)
class Better:
    """Labels that fit better than those given, and the accuracy that they give."""

    text: str
    accuracy: float


def better_labels(predicted: np.ndarray, labels: np.ndarray, classes: int) -> Better | None:
    """A shift of all labels, or a permutation of them, that fits significantly and far better: it doubles the accuracy or halves the error,
    and not by one label alone, which may just be one hard class.
    """
    return _shift(predicted, labels, classes) or _permutation(predicted, labels, classes)


def _shift(predicted: np.ndarray, labels: np.ndarray, classes: int) -> Better | None:
    """The shift that fits best. Half of the error goes to the two by one, which is how labels go wrong; the others share the rest."""
    hits = np.bincount((predicted - labels) % classes, minlength=classes)
    near = {1, classes - 1}
    for shift in sorted(range(1, classes), key=lambda s: -int(hits[s])):
        tries = 2 * (len(near) if shift in near else max(1, classes - 1 - len(near)))
        if classes <= 3:
            tries = classes - 1
        if hits[shift] <= hits[0]:
            return None
        moved = (labels + shift) % classes
        if beats(predicted == labels, predicted == moved, labels, ERROR / 2 / tries):
            step = shift if shift <= classes // 2 else shift - classes
            by = f"labels off by {abs(step)} (y{step:+d} modulo {classes})"
            return Better(f"{by} would give {100 * hits[shift] / len(labels):.1f} %", int(hits[shift]) / len(labels))
    return None


def _permutation(predicted: np.ndarray, labels: np.ndarray, classes: int) -> Better | None:
    """The permutation that fits the images of even number best, tried on the others."""
    chosen, tested = np.arange(len(labels)) % 2 == 0, np.arange(len(labels)) % 2 == 1
    present, row = np.unique(labels, return_inverse=True)
    confusion = np.zeros((len(present), classes))
    np.add.at(confusion, (row[chosen], predicted[chosen]), 1)
    confusion[np.arange(len(present)), present] += 0.5  # where it makes no difference, labels stay
    _, columns = linear_sum_assignment(-confusion)
    moved = columns[row]
    if not beats((predicted == labels)[tested], (predicted == moved)[tested], labels[tested], ERROR / 2):
        return None
    accuracy = float((predicted == moved)[tested].mean())
    changed = [f"{a}->{b}" for a, b in zip(present.tolist(), columns.tolist(), strict=True) if a != b]
    more = ", ..." if len(changed) > 4 else ""
    return Better(
        f"labels in another order ({', '.join(changed[:4])}{more}) would give {100 * accuracy:.1f} %", accuracy
    )


def beats(old: np.ndarray, new: np.ndarray, labels: np.ndarray, error: float) -> bool:
    """Are the answers that are right by ``new`` (n,) bool far more than by ``old``, in two classes at least, beyond an exact test of the images that
    only one of the two gets right?
    """
    lost, won, count = int((old & ~new).sum()), int((new & ~old).sum()), len(labels)
    if not count or at_least(won, won + lost, 0.5) >= error:
        return False
    far = new.sum() >= 2 * old.sum() or (count - new.sum()) <= (count - old.sum()) / 2
    classes = np.unique(labels)
    gain = [int((new & ~old & (labels == c)).sum()) - int((old & ~new & (labels == c)).sum()) for c in classes]
    return bool(far) and sum(g > 0 for g in gain) >= 2
