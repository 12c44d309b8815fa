"""Defective CNNs' success defense rate."""

from __future__ import annotations

from sparring.evaluation.results.metrics.base import Points, Quantity, metric


@metric("success_defense", "success defense rate")
def success_defense(p: Points) -> Quantity:
    """Right after the attack, over images that are right when clean *and* whose point fools its source: CC(target) and FOOL(source). The set
    differs by source, so columns are over different images.
    """
    over = p.clean_first & ~p.source_after
    return Quantity(p.after, over.astype(float), "CC(target) and FOOL(source)")
