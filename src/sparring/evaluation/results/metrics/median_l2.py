"""How far the points lie, as the channels paper says it: in l2, not squared, not by pixel."""

from __future__ import annotations

from sparring.evaluation.results.metrics.base import Points, Quantity, metric


@metric("median_l2", "median |d|_2", percent=False)
def median_l2(p: Points) -> Quantity:
    """Median of |x' - x|_2 over the points that fool their source and moved, pixels in [0,1]: the channels paper's "L2 distortion" (it does not say whether
    mean or median). Of an attack that fails on many images it says nothing of these.
    """
    return Quantity(p.l2, (~p.source_after & (p.l2 > 0)).astype(float), "FOOL(source), moved", "median")
