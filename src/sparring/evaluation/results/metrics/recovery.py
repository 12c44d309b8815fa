"""Lossy channels' conditional recovery."""

from __future__ import annotations

from sparring.evaluation.results.metrics.base import Points, Quantity, metric


@metric("conditional_recovery", "recovery over ADV")
def conditional_recovery(p: Points) -> Quantity:
    """f(C(x_adv)) right, over ADV(f): images that the source f has right when clean and wrong after the attack. With the oblivious threat f is the
    classifier without its channel. One minus it is no attack's success against who knows the channel.
    """
    over = p.source_clean & ~p.source_after
    return Quantity(p.after, over.astype(float), "ADV(source)")
