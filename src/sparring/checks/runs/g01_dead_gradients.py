"""G1 dead gradients."""

from __future__ import annotations

from sparring.checks.base import Answer
from sparring.checks.pool import pools
from sparring.checks.rows import row_check, toy_rows
from sparring.checks.thresholds import thresholds
from sparring.evaluation.results.table import RowTable

SHARE, HALF = thresholds("G1", "share", "half")


@row_check(
    "G1",
    "dead gradients",
    "A",
    "FAIL",
    fires=lambda: toy_rows(correct=True, k=1, p_select=1.0, margin=-1.0, backwards=20, zero_gradients=20),
    silent=lambda: toy_rows(correct=True, k=1, p_select=1.0, margin=-1.0, backwards=20),
)
def dead_gradients(rows: RowTable) -> list[Answer]:
    """Raised if: on more than 1 % of the images that count as robust at least half of the gradients were zero everywhere or not finite, in every
    view of every iterative attack.

    Why: an attack without gradient stands still, and what it leaves is unproven (Athalye et al., arXiv:1802.00420, sec. 3).

    What to do: declare a backward for the stage that P10 names; look for saturated outputs (softmax, large logits) in the model.
    """
    answers = []
    for pool in pools(rows):
        mask = pool.white & (rows["backwards"] > 0) & rows.among("image", pool.survivors)
        if not mask.any():
            continue
        bad = rows["zero_gradients"][mask] + rows["nonfinite_gradients"][mask] >= HALF * rows["backwards"][mask]
        alive = set(rows.at("image", mask)[~bad])
        dead = tuple(i for i in sorted(set(rows.at("image", mask))) if i not in alive)
        share = len(dead) / len(pool.survivors)
        text = f"{len(dead)} of {len(pool.survivors)} images that count as robust gave the attack no gradient"
        answers.append(pool.answer(share <= SHARE, share, SHARE, text, dead))
    return answers
