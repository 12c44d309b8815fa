"""R6 unused budget."""

from __future__ import annotations

import numpy as np

from sparring.checks.base import Answer
from sparring.checks.pool import pools
from sparring.checks.rows import row_check, toy_rows
from sparring.checks.thresholds import thresholds
from sparring.core.access import Access
from sparring.evaluation.results.table import RowTable

LEAST, SPARSE = thresholds("R6", "least", "sparse")
ASKING = (Access.SCORES.name, Access.LABEL.name)


@row_check(
    "R6",
    "unused budget",
    "A",
    "FAIL",
    fires=lambda: toy_rows(linf=0.05, correct=True, k=1, p_select=1.0, margin=-1.0, source_fooled=False),
    silent=lambda: toy_rows(linf=0.1, correct=True, k=1, p_select=1.0, margin=-1.0, source_fooled=False),
)
def unused_budget(rows: RowTable) -> list[Answer]:
    """Raised if: in the median over the images that count as robust no point of the threat's own attacks used 95 % of the budget
    (half of it in l0, where places that were drawn twice change once).

    Why: a larger step was allowed and not tried: steps too short or too few, wrong units, an early stop.

    What to do: more steps, a larger step, and look at the budget's units.
    """
    answers = []
    for pool in pools(rows):
        # of a search by answers the nearest point may lie outside
        asking = rows.facts(pool.threat).grants in ASKING
        own = pool.aimed if asking else pool.white & rows.where(norm=pool.norm, eps=pool.eps)
        mask = own & rows.among("image", pool.survivors)
        if not mask.any() or pool.eps == 0:
            continue
        used: dict[str, float] = {}
        for image, length in zip(rows.at("image", mask), rows[pool.norm][mask], strict=True):
            used[image] = max(used.get(image, 0.0), float(length) / pool.eps)
        share = float(np.median(list(used.values())))
        text = f"images that count as robust were attacked with {100 * share:.0f} % of the budget (median)"
        least = SPARSE if pool.norm == "l0" else LEAST
        answers.append(pool.answer(share >= least, share, least, text))
    return answers
