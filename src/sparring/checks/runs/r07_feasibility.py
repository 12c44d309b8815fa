"""R7 points outside the ball."""

from __future__ import annotations

from sparring.checks.base import Answer
from sparring.checks.rows import row_check, toy_rows
from sparring.checks.thresholds import thresholds
from sparring.core.columns import STOPS
from sparring.evaluation.results.cells import attacked_right, cell_keys, images_without
from sparring.evaluation.results.table import RowTable

OUTSIDE = STOPS.index("outside the ball")
(SHARE,) = thresholds("R7", "share")


@row_check(
    "R7",
    "points outside the ball",
    "A",
    "FAIL",
    fires=lambda: toy_rows(stopped=OUTSIDE, source_fooled=False, correct=True, k=1, p_select=1.0, margin=-1.0),
    silent=toy_rows,
)
def points_outside(rows: RowTable) -> list[Answer]:
    """Raised if: an attack of another library returned points that are not finite or lie outside its ball or the box [0,1], on images that its
    source has right; a warning up to 10 % of them, and where another attack went for the same ball.

    Why: such a point is no attack in this ball. It was judged at the nearest point that is allowed, where nothing was searched: that the label
    stands there says nothing of robustness.

    What to do: give the attack the norm, the units and the budget of this evaluation, or use one of ours in its place (docs/migration.md).
    """
    answers = []
    for defense, threat, attack, norm, eps in cell_keys(rows):
        mask = attacked_right(rows, defense, threat, attack)
        if not mask.any():
            continue
        inside, count = images_without(rows, mask, mask & (rows["stopped"] == OUTSIDE))
        outside = count - inside  # in any of its views
        share, subject = outside / count, f"{defense} / {threat} / {attack}"
        text = f"on {outside} of {count} images it returned points that are not finite or outside ball or box"
        if outside:
            text += ": they were judged at the nearest point that is allowed, where nothing was searched"
        others = rows.where(defense=defense, threat=threat, norm=norm, eps=eps, kind="iterative", check="")
        other = bool((others & ~rows.where(attack=attack)).any())
        severity = "WARN" if other or share <= SHARE else None
        answers.append(Answer(not outside, share, 0.0, text, subject, severity, defense, threat, norm, eps))
    return answers
