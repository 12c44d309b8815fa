"""F1 what the follow-up found."""

from __future__ import annotations

from sparring.checks.base import Answer
from sparring.checks.pool import LOST, pools
from sparring.checks.rows import row_check, toy_rows
from sparring.evaluation.results.table import RowTable


def _found(**changes: object) -> RowTable:
    first = toy_rows(correct=True, k=1, p_select=1.0, margin=-1.0)
    return first.joined(toy_rows(attack="square", run="later", view="default", kind="query", check="S1", **changes))


@row_check(
    "F1", "follow-up", "A", "WARN", fires=_found, silent=lambda: _found(correct=True, k=1, p_select=1.0, margin=-1.0)
)
def follow_up(rows: RowTable) -> list[Answer]:
    """Raised if: an attack that was tried because a check failed (every stage passed by, smoothed gradients, search) broke images that all
    attacks before had left.

    Why: these breaks stand, and they show that the attacks of the tier were not up to this system.

    What to do: nothing for the number, which holds them; the message says which attack broke how many.
    """
    answers = []
    for pool in pools(rows):
        later = pool.mask & ~rows.where(check="") & ~rows.where(check="X2")
        if not later.any():
            continue
        before = pool.least(pool.mask & rows.where(check=""))
        left, parts = {i for i in pool.images if before.get(i, 1.0) > LOST}, []
        names = dict.fromkeys(zip(rows.at("attack", later), rows.at("view", later), strict=True))
        for attack, view in names:
            broken = left & {i for i, p in pool.least(later & rows.where(attack=attack, view=view)).items() if p < LOST}
            parts.append(f"{attack} ({view}) {len(broken)}")
        total = left & {i for i, p in pool.least(later).items() if p < LOST}
        text = f"of {len(left)} images that were left the follow-up broke {len(total)}: {', '.join(parts)}"
        answers.append(pool.answer(not total, len(total), 0, text, tuple(sorted(total))))
    return answers
