"""R11 no movement."""

from __future__ import annotations

from sparring.checks.base import Answer
from sparring.checks.rows import row_check, toy_rows
from sparring.checks.thresholds import thresholds
from sparring.evaluation.results.cells import attacked_right, cell_keys, images_without
from sparring.evaluation.results.table import RowTable

(SHARE,) = thresholds("R11", "share")


@row_check(
    "R11",
    "no movement",
    "A",
    "FAIL",
    fires=lambda: toy_rows(linf=0.0, source_fooled=False, correct=True, k=1),
    silent=toy_rows,
)
def no_movement(rows: RowTable) -> list[Answer]:
    """Raised if: on more than 10 % of the images that its source has right, an attack returns the clean image itself in all its
    views, and so fools nobody.

    Why: an attack that does not move tests nothing: its gradient is zero, its step too small for a quantizer, or it found no start.

    What to do: look at the attack's gradients (P10) and its step size; for a defense that rounds, use one whose points move by more than a
    level, or declare another backward.
    """
    answers = []
    for defense, threat, attack, norm, eps in cell_keys(rows):
        mask = attacked_right(rows, defense, threat, attack)
        mask &= rows.where(access="gradient")  # a search by queries keeps the image where it finds nothing better
        if eps == 0 or not mask.any():
            continue
        moved = mask & ((rows["linf"] > 0) | rows["source_fooled"])
        still, count = images_without(rows, mask, moved)
        share, subject = still / count, f"{defense} / {threat} / {attack}"
        text = f"the points of {still} of {count} images are the clean image itself"
        if share > SHARE:
            text += ": the attack does not move there, so its failure says nothing of robustness"
        others = rows.where(
            defense=defense, threat=threat, norm=norm, eps=eps, kind="iterative", check=""
        ) & ~rows.where(attack=attack)
        severity = "WARN" if others.any() else None  # another one attacks that number too
        answers.append(Answer(share <= SHARE, share, SHARE, text, subject, severity, defense, threat, norm, eps))
    return answers
