"""R13 no attack of several steps."""

from __future__ import annotations

import numpy as np

from sparring.checks.base import Answer
from sparring.checks.pool import pools
from sparring.checks.rows import row_check, toy_rows
from sparring.checks.thresholds import thresholds
from sparring.core.victim import Access
from sparring.evaluation.results.table import RowTable

(LEAST,) = thresholds("R13", "least")


@row_check(
    "R13",
    "attack of several steps",
    "A",
    "FAIL",
    fires=lambda: toy_rows(kind="single step", correct=True, k=1, p_select=1.0, margin=-1.0, source_fooled=False),
    silent=lambda: toy_rows(correct=True, k=1, p_select=1.0, margin=-1.0, source_fooled=False),
)
def several_steps(rows: RowTable) -> list[Answer]:
    """Raised if: images count as robust under a threat that grants gradients, and no gradient attack of at least ten steps went for its ball:
    in the median over them, the attack that looked at most gradients looked at fewer.

    Why: one step, a few coarse ones, or a search by queries, leaves much that more steps along the gradient break.

    What to do: add pgd, apgd or cascade, or leave --attack out: every tier holds one.
    """
    answers = []
    for pool in pools(rows):
        if rows.facts(pool.threat).grants != Access.GRADIENT.name or not pool.survivors:
            continue
        kinds = sorted({str(k) for k in np.unique(rows.at("kind", pool.mask))})
        most = dict.fromkeys(pool.survivors, 0)
        for image, count in zip(rows.at("image", pool.white), rows["backwards"][pool.white], strict=True):
            if str(image) in most:
                most[str(image)] = max(most[str(image)], int(count))
        steps = float(np.median(list(most.values())))
        ok = steps >= LEAST
        text = (
            f"a gradient attack looked at {steps:g} gradients"
            if ok
            else f"no gradient attack of {LEAST:g} or more steps ran ({', '.join(kinds)}; {steps:g} gradients)"
        )
        answers.append(pool.answer(ok, steps, LEAST, text))
    return answers
