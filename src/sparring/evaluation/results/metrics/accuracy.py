"""Accuracy, and accuracy among the images that the deployed system had right."""

from __future__ import annotations

import numpy as np

from sparring.evaluation.results.metrics.base import Points, Quantity, metric


@metric("accuracy", "accuracy")
def accuracy(p: Points) -> Quantity:
    """Right after the attack, over ALL images: robust accuracy; HGD's and the channels' "accuracy", ACE's tables 8 to 10."""
    return Quantity(p.after, np.ones(len(p.after)), "ALL")


@metric("clean_correct", "accuracy over CC")
def clean_correct(p: Points) -> Quantity:
    """Right after the attack, over CC(target), the images that the deployed system has right when clean (first judge draw)."""
    return Quantity(p.after, p.clean_first.astype(float), "CC(target)")


@metric("relative_accuracy", "relative accuracy")
def relative_accuracy(p: Points) -> Quantity:
    """acc(target; x_adv) / acc(target; x) (S2SNet, table 2): a ratio of accuracies of the same system, not conditioned."""
    return Quantity(p.after, p.clean, "acc(target; clean)", "ratio")


@metric("strength", "attack strength")
def strength(p: Points) -> Quantity:
    """Newly wrong over right when clean, on the deployed system (S2SNet). The formula is lost in the paper's text; this reading fits its
    "set of true positives".
    """
    return Quantity(1 - p.after, p.clean_first.astype(float), "TP(target)")
