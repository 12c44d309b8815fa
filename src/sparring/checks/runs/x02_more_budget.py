"""X2 more budget."""

from __future__ import annotations

from sparring.checks.base import Answer
from sparring.checks.pool import LOST, pools
from sparring.checks.rows import row_check, toy_rows
from sparring.checks.thresholds import thresholds
from sparring.evaluation.results.table import RowTable

(SHARE,) = thresholds("X2", "share")


def _later(**changes: object) -> RowTable:
    first = toy_rows(correct=True, k=1, p_select=1.0, margin=-1.0)
    return first.joined(toy_rows(attack="b", run="later", check="X2", **changes))


@row_check(
    "X2", "more budget", "A", "FAIL", fires=_later, silent=lambda: _later(correct=True, k=1, p_select=1.0, margin=-1.0)
)
def more_budget(rows: RowTable) -> list[Answer]:
    """Raised if: attacking the images that were left once more, with another seed, other losses and more steps, broke more than 1 % of all.

    Why: the attack had not converged, so its number is too high by an unknown amount.

    What to do: a larger tier, more steps and restarts, until this finds nothing. Source: Carlini et al., arXiv:1902.06705, sec. 3.3.
    """
    answers = []
    for pool in pools(rows):
        again = pool.mask & rows.where(check="X2")
        if not again.any():
            continue
        before, after = pool.least(pool.mask & ~again), pool.least(again)
        broken = tuple(i for i in pool.images if before.get(i, 1.0) > LOST and after.get(i, 1.0) < LOST)
        share = len(broken) / len(pool.images)
        text = f"once more with more budget broke {len(broken)} of {len(pool.images)} images"
        answers.append(pool.answer(share <= SHARE, share, SHARE, text))
    return answers
