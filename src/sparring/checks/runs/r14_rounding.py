"""R14 rounding heals."""

from __future__ import annotations

import math

import numpy as np

from sparring.checks.base import Answer
from sparring.checks.pool import pools
from sparring.checks.rows import row_check, toy_rows
from sparring.checks.thresholds import thresholds
from sparring.evaluation.results.table import RowTable

SHARE, FEWEST, WHOLE = thresholds("R14", "share", "fewest", "whole")


@row_check(
    "R14",
    "rounding that heals",
    "A",
    "WARN",
    fires=lambda: toy_rows(correct=False, k=0, k_8bit=1, k_truncated=1),
    silent=lambda: toy_rows(correct=False, k=0, k_8bit=0, k_truncated=0),
)
def rounding_that_heals(rows: RowTable) -> list[Answer]:
    """Raised if: the number on stored 8-bit images is more than 5 points (and two images) above the number on float images.

    Why: attacks search among float images, and their points are rounded afterwards. Where that heals them, the network answers otherwise at every
    rounding, as one with noise seeded by the image does: an attacker who searches among 8-bit images finds more, and the 8-bit number is too
    high. Nothing is said where rounding takes more than a tenth of a linf budget (1.5/255), for there fewer images are in reach.

    What to do: give a linf budget in whole levels of 255 (25/255, not 0.1): points that just reach a boundary in the larger ball are lost in the smaller.
    Else report the number on float images.
    """
    answers = []
    for pool in pools(rows):
        levels = 255 * pool.eps
        if pool.norm == "linf" and math.floor(levels + 1e-4) < WHOLE * levels:
            continue
        picked = rows.pick(pool.mask | rows.clean(pool.defense))
        gap = float(picked.p_8bit.mean() - picked.p.mean())
        if np.isnan(gap):
            continue
        most = max(SHARE, FEWEST / len(picked.images))
        stored, exact = 100 * picked.p_8bit.mean(), 100 * picked.p.mean()
        text = f"{stored:.1f} % right on stored 8-bit images, {exact:.1f} % on float ones"
        if gap > most:
            text += ": beyond the nearest levels of each point nothing searched among 8-bit images, so that number may be too high"
            whole = pool.norm != "linf" or abs(levels - round(levels)) < 1e-3
            text += "" if whole else f"; give the budget in whole levels ({math.floor(levels)}/255)"
        answers.append(pool.answer(gap <= most, gap, most, text))
    return answers
