"""How far the points lie: the boundary attack's score, dissimilarity."""

from __future__ import annotations

import numpy as np

from sparring.evaluation.results.metrics.base import Points, Quantity, metric


@metric("boundary_score", "S(M), median |d|^2/N", percent=False)
def boundary_score(p: Points) -> Quantity:
    """S(M) of Brendel et al.: median over images of |x' - x|_2^2 / N, N = C*H*W; L2 = sqrt(N S). Over the points that fool their source: an upper
    bound that falls with queries.
    """
    return Quantity(np.square(p.l2) / p.size, (~p.source_after).astype(float), "FOOL(source)", "median")


@metric("dissimilarity", "dissimilarity |d|/|x|", percent=False)
def dissimilarity(p: Points) -> Quantity:
    """Mean of |x' - x|_2 / |x|_2 (Guo et al.; S2SNet), images in [0,1] without mean subtraction, over ALL: scale does not matter, an offset does."""
    return Quantity(p.l2 / p.clean_l2, np.ones(len(p.l2)), "ALL", "mean")
