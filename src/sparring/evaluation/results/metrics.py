"""The five papers' metrics from raw counts, each with its own denominator (PROTOCOL 2.5). Pure functions of arrays.

Arrays are (n,), one entry per image of ALL: bool "is it classified right", or numbers where said.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Rate(NamedTuple):
    """k of n in denominator ``over``. ``value`` is nan for an empty denominator, and may exceed 1 for ratios."""

    k: float
    n: float
    over: str

    @property
    def value(self) -> float:
        return float("nan") if self.n == 0 else self.k / self.n


def accuracy(correct: np.ndarray) -> Rate:
    """Accuracy over ALL: robust accuracy, HGD's, ACE's tables 8-10, the channels' "accuracy after recovery"."""
    return Rate(float(correct.sum()), len(correct), "ALL")


def survival_rate(source_adv: np.ndarray, source_clean: np.ndarray) -> Rate:
    """ACE attack survival rate: acc(M; x_adv) / acc(M; x), M without its shift. A ratio of accuracies, not
    conditioned.
    """
    return Rate(float(source_adv.sum()), float(source_clean.sum()), "acc(M; clean)")


def defense_success_rate(target_adv: np.ndarray, source_clean: np.ndarray) -> Rate:
    """ACE defense success rate: acc(M+shift; x_adv) / acc(M; x). Can exceed 1 (C5): print survival over CC beside
    it.
    """
    return Rate(float(target_adv.sum()), float(source_clean.sum()), "acc(M without shift; clean)")


def clean_correct_rate(target_adv: np.ndarray, target_clean: np.ndarray) -> Rate:
    """Share of CC(target) still right after the attack."""
    return Rate(float((target_adv & target_clean).sum()), float(target_clean.sum()), "CC(target)")


def success_defense_rate(target_adv: np.ndarray, target_clean: np.ndarray, source_fooled: np.ndarray) -> Rate:
    """Defective CNN: right after the attack, over images right when clean *and* whose point fools its source."""
    over = target_clean & source_fooled
    return Rate(float((target_adv & over).sum()), float(over.sum()), "CC(target) and FOOL(source)")


def boundary_score(l2: np.ndarray, size: int) -> float:
    """S(M) of Brendel et al.: median of |d|_2^2 / N; size N = C*H*W. L2 = sqrt(N S)."""
    return float(np.median(np.square(l2) / size)) if len(l2) else float("nan")


def dissimilarity(l2: np.ndarray, image_l2: np.ndarray) -> float:
    """S2SNet / Guo: mean of |d|_2 / |x|_2 in [0,1] without mean subtraction."""
    return float(np.mean(l2 / image_l2)) if len(l2) else float("nan")


def strength(target_adv: np.ndarray, target_clean: np.ndarray) -> Rate:
    """S2SNet attack strength: newly misclassified over true positives."""
    return Rate(float((~target_adv & target_clean).sum()), float(target_clean.sum()), "TP(target)")


def relative_accuracy(target_adv: np.ndarray, target_clean: np.ndarray) -> Rate:
    """S2SNet relative accuracy: acc(x_adv) / acc(x) of the same system; a ratio."""
    return Rate(float(target_adv.sum()), float(target_clean.sum()), "acc(target; clean)")


def conditional_recovery(recovered: np.ndarray, bare_clean: np.ndarray, bare_adv: np.ndarray) -> Rate:
    """Channels: f(C(x_adv)) right, over images f had right when clean and wrong when attacked, ADV(f)."""
    over = bare_clean & ~bare_adv
    return Rate(float((recovered & over).sum()), float(over.sum()), "ADV(bare)")
