"""X6 closure gap."""

from __future__ import annotations

import math

from sparring.checks.base import Answer
from sparring.checks.pool import LOST, pools
from sparring.checks.rows import row_check, toy_rows
from sparring.checks.thresholds import thresholds
from sparring.evaluation.results.table import RowTable

FEWEST, SHARE = thresholds("X6", "fewest", "share")


def _half_by_query() -> RowTable:
    """Half of the images are lost to a query attack alone."""
    white, query = toy_rows(correct=True, k=1, p_select=1.0, margin=-1.0), toy_rows(attack="b", run="q", kind="query")
    return white.joined(query)


@row_check("X6", "closure gap", "A", "FAIL", fires=_half_by_query, silent=toy_rows)
def closure_gap(rows: RowTable) -> list[Answer]:
    """Raised if: attacks that know or do less (one step, scores, labels, noise, another model, a threat that this one dominates) broke at
    least 2 images and 1 % of all that the threat's own iterative gradient attacks left. Random systems: from at least .7 of the selection
    draws to less than half.

    Why: who knows more must do better; where it does not, its gradients are masked or it began at the wrong place, and what it leaves
    may fall to the next search (Carlini et al., arXiv:1902.06705, sec. 3.2).

    What to do: read S1, PL and P10 for the culprit; the follow-up has searched the survivors once more.
    """
    answers = []
    for pool in pools(rows):
        if not pool.white.any():
            continue
        missed = pool.missed
        most = max(FEWEST, math.ceil(SHARE * len(pool.images)))
        lost = pool.mask & ~pool.white & (rows["p_select"] < LOST)
        kinds = rows.distinct("kind", lost & rows.among("image", missed)) if missed else []
        ok = len(missed) < most
        text = f"{len(missed)} of {len(pool.images)} images fell to less than the threat's own gradient attacks"
        if not ok:
            text += f" ({', '.join(kinds)}): gradients are masked, or the attack begins at the wrong place"
        answers.append(pool.answer(ok, len(missed), most, text))
    return answers
