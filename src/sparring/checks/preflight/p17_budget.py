"""P17 size of budgets."""

from __future__ import annotations

import math

import torch

from sparring.attacks.attack import attack
from sparring.checks.base import Answer, Context, check
from sparring.checks.controls import context
from sparring.core.spec import show
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
    """Raised if: the largest linf budget is below a tenth of 1/255, the largest l2 budget below a fifth of what is usual for images of this size, or the
    largest l1 budget below 1.

    Why: 8/255 is a habit of linf; the same number in l2 or l1 is a ball in which nearly every image is robust, and so is 8/255/255 in linf.

    What to do: write the budget that is meant, such as eps=0.5 in l2; a small one beside a larger one is not raised. A linf budget between two 8-bit
    levels is said, and no fault.
    """
    small = tiny(c.attacks, c.x.shape[1:])
    answers = [Answer(False, a.budget, usual, text, norm=a.norm, eps=a.budget) for a, usual, text in small]
    return [*answers, *_between_levels(c)] or [Answer(True, 0, 0, "no budget is tiny for its norm")]


def _between_levels(c: Context) -> list[Answer]:
    """A linf budget that is no multiple of 1/255: points that use all of it lie outside any ball of 8-bit images, and are lost when stored."""
    if not torch.equal((c.x * 255).round() / 255, c.x):
        return []
    said: dict[float, Answer] = {}
    for a in c.attacks:
        levels = 255 * a.budget
        if a.norm == "linf" and 1 <= levels <= 255 and abs(levels - round(levels)) > 1e-3:
            whole = math.floor(levels)
            text = f"eps={show(a.budget)} is {levels:.1f}/255: 8-bit images have {whole}/255 of it, and their number is better made with eps={whole}/255"
            said[a.budget] = Answer(True, levels, whole, text, severity="INFO", norm=a.norm, eps=a.budget)
    return list(said.values())
