"""ACE's two rates (section 4). M is the network without its shift: the source of the oblivious threat."""

from __future__ import annotations

from sparring.evaluation.results.metrics.base import Points, Quantity, metric


@metric("survival", "attack survival rate")
def survival(p: Points) -> Quantity:
    """acc(M; x_adv) / acc(M; x), M the attack's own source: a ratio of accuracies that says nothing of the defense."""
    return Quantity(p.source_after.astype(float), p.source_clean.astype(float), "acc(source; clean)", "ratio")


@metric("defense_success", "defense success rate")
def defense_success(p: Points) -> Quantity:
    """acc(M with shift; x_adv) / acc(M; x): the denominator is the source's, without the shift, so it can exceed 1. Read
    ``clean_correct`` beside it.
    """
    return Quantity(p.after, p.source_clean.astype(float), "acc(source; clean)", "ratio")
