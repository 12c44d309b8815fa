"""R10 luck gap."""

from __future__ import annotations

from sparring.checks.base import Answer
from sparring.checks.pool import pools
from sparring.checks.rows import row_check, toy_rows
from sparring.checks.thresholds import thresholds
from sparring.evaluation.results.table import RowTable

SOME, MUCH = thresholds("R10", "some", "much")


@row_check(
    "R10",
    "luck gap",
    "A",
    "FAIL",
    fires=lambda: toy_rows(random=True, draws=20, k=10, p_select=0.1, correct=True),
    silent=lambda: toy_rows(random=True, draws=20, k=2, p_select=0.1),
)
def luck_gap(rows: RowTable) -> list[Answer]:
    """Raised if: on a random system the chosen points are right more often in the judge's draws than in those they were chosen by, by 5 points
    (warning) or 15 points (failure) in the mean.

    Why: points were chosen by luck; the number printed is the judge's and is not biased, but better points may have been passed over.

    What to do: a larger tier (more selection draws), more draws per gradient. Differs from PROTOCOL: 2 and 5 points there, which chance alone
    reaches with ten selection draws.
    """
    answers = []
    for pool in pools(rows):
        picked = rows.pick(pool.mask | rows.clean(pool.defense))
        if not rows["random"][picked.rows].any():
            continue
        gap = float((picked.p - picked.p_select).mean())
        text = f"chosen points are right {100 * gap:.1f} points more often in the judge's draws than in the selection's"
        answers.append(pool.answer(gap <= SOME, gap, MUCH if gap > MUCH else SOME, text, warn=gap <= MUCH))
    return answers
