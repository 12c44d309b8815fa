"""R4 the attacked system is another one."""

from __future__ import annotations

from sparring.checks.base import Answer
from sparring.checks.pool import pools
from sparring.checks.rows import row_check, toy_rows
from sparring.checks.thresholds import thresholds
from sparring.evaluation.results.table import RowTable

(SHARE,) = thresholds("R4", "share")


@row_check(
    "R4",
    "points that do not hold",
    "A",
    "FAIL",
    fires=lambda: toy_rows(correct=True, k=1, p_select=1.0),
    silent=toy_rows,
)
def points_that_do_not_hold(rows: RowTable) -> list[Answer]:
    """Raised if: on more than 2 % of the images every point that fooled the attacker's copy of a deterministic deployed system does not fool
    the system itself.

    Why: then what was attacked is not what is judged: hidden randomness, a state, a copy that differs.

    What to do: look at P2 to P4 and at what preparation did to the network; declare randomness. Source: Pintor et al., arXiv:2106.09947, I5.
    """
    answers = []
    for pool in pools(rows):
        if not rows.facts(pool.threat).deployed:
            continue
        fooled = pool.mask & rows.where(threat=pool.threat, random=False) & rows["source_fooled"]
        held = set(rows.at("image", fooled & (rows["p_select"] < 1)))
        lost = tuple(i for i in sorted(set(rows.at("image", fooled))) if i not in held)
        share = len(lost) / max(1, len(pool.images))
        text = f"on {len(lost)} of {len(pool.images)} images points fooled the attacker's copy and not the system"
        if share > SHARE:
            text += ": the attacked system is not the judged one"
        answers.append(pool.answer(share <= SHARE, share, SHARE, text, lost))
    return answers
