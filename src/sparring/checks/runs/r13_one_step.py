"""R13 no attack of several steps."""

from __future__ import annotations

import numpy as np

from sparring.checks.base import Answer
from sparring.checks.pool import pools
from sparring.checks.rows import row_check, toy_rows
from sparring.core.victim import Access
from sparring.evaluation.results.table import RowTable


@row_check(
    "R13",
    "attack of several steps",
    "A",
    "FAIL",
    fires=lambda: toy_rows(kind="single step", correct=True, k=1, p_select=1.0, margin=-1.0, source_fooled=False),
    silent=lambda: toy_rows(correct=True, k=1, p_select=1.0, margin=-1.0, source_fooled=False),
)
def several_steps(rows: RowTable) -> list[Answer]:
    """Raised if: images count as robust under a threat that grants gradients, and no gradient attack of several steps went for its ball.

    Why: one step, or a search by queries, leaves much that a few steps along the gradient break.

    What to do: add pgd, apgd or cascade, or leave --attack out: every tier holds one.
    """
    answers = []
    for pool in pools(rows):
        if rows.facts(pool.threat).grants != Access.GRADIENT.name or not pool.survivors:
            continue
        kinds = sorted({str(k) for k in np.unique(rows["kind"][pool.mask])})
        ok = bool(pool.white.any())
        text = (
            "a gradient attack of several steps ran"
            if ok
            else f"no gradient attack of several steps ran ({', '.join(kinds)})"
        )
        answers.append(pool.answer(ok, float(ok), 1, text))
    return answers
