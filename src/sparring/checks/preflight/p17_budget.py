"""P17 size of budgets."""

from __future__ import annotations

from sparring.attacks.attack import attack
from sparring.checks.base import Answer, Context, check
from sparring.checks.controls import context
from sparring.evaluation.plan.budgets import tiny


@check(
    "P17",
    "size of budgets",
    "A",
    "WARN",
    fires=lambda: context(attacks=[attack("pgd:norm=l2,eps=8/255,steps=3")]),
    silent=context,
)
def size_of_budgets(c: Context) -> list[Answer]:
    """Raised if: the largest l2 budget is below a fifth of what is usual for images of this size, or the largest l1 budget is below 1.

    Why: 8/255 is a habit of linf; the same number in l2 or l1 is a ball in which nearly every image is robust.

    What to do: write the budget that is meant, such as eps=0.5 in l2; a small one beside a larger one is not raised.
    """
    small = tiny(c.attacks, c.x.shape[1:])
    answers = [Answer(False, a.budget, usual, text, norm=a.norm, eps=a.budget) for a, usual, text in small]
    return answers or [Answer(True, 0, 0, "no budget is tiny for its norm")]
