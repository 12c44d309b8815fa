"""R12 unbounded attack that does not win."""

from __future__ import annotations

import math

from sparring.checks.base import Answer
from sparring.checks.rows import row_check, toy_rows
from sparring.checks.thresholds import thresholds
from sparring.evaluation.results.cells import attacked_right, cell_keys, images_without
from sparring.evaluation.results.table import RowTable

(SHARE,) = thresholds("R12", "share")


@row_check(
    "R12",
    "unbounded attack",
    "A",
    "FAIL",
    fires=lambda: toy_rows(eps=math.inf, source_fooled=False, correct=True, k=1),
    silent=lambda: toy_rows(eps=math.inf),
)
def unbounded(rows: RowTable) -> list[Answer]:
    """Raised if: an attack without a ball does not fool its own source, in any of its views, on more than 10 % of the images that the source has right.

    Why: with no bound every image can be turned into one of another class, so what is left is the attack's failure, not robustness.

    What to do: give it more steps or searches, a larger step or first constant; do not read its row as an accuracy.
    """
    answers = []
    for defense, threat, attack, norm, eps in cell_keys(rows):
        mask = attacked_right(rows, defense, threat, attack)
        if math.isfinite(eps) or not mask.any():
            continue
        lost, count = images_without(rows, mask, mask & rows["source_fooled"])
        share, subject = lost / count, f"{defense} / {threat} / {attack}"
        text = f"without a bound it fools its source on all but {lost} of {count} images"
        if share > SHARE:
            text += ": the rest is its own failure, not robustness"
        answers.append(Answer(share <= SHARE, share, SHARE, text, subject, None, defense, threat, norm, eps))
    return answers
