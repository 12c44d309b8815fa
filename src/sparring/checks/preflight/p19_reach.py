"""P19 reach of steps."""

from __future__ import annotations

import math

from sparring.attacks.attack import attack
from sparring.checks.base import Answer, Context, check
from sparring.checks.controls import context
from sparring.checks.thresholds import thresholds
from sparring.core.access import Access
from sparring.core.spec import ball

(CROSSED,) = thresholds("P19", "radii")


@check(
    "P19",
    "reach of steps",
    "A",
    "WARN",
    fires=lambda: context(attacks=[attack("pgd:eps=8/255,steps=10")]),
    silent=lambda: context(attacks=[attack("pgd:eps=8/255,steps=10,step_size=0.25"), attack("fgsm:eps=8/255")]),
)
def reach_of_steps(c: Context) -> list[Answer]:
    """Raised if: the steps of every gradient attack in a ball lead less than two radii far, so that none can cross it.

    Why: ten steps of a tenth of eps use the ball only where every gradient says the same. On a CIFAR network at 1/255 such a PGD left 60 % where APGD left 15 % (n=20).

    What to do: more steps or longer ones (steps times step_size of at least 2, usual are 2.5 to 10), or apgd or cascade, which choose their own.
    """
    balls: dict[tuple[str, float], list[float]] = {}
    for a in c.attacks:
        if a.method.needs is Access.GRADIENT and math.isfinite(a.budget):
            balls.setdefault((a.norm, a.budget), []).append(a.method.travel)
    answers: list[Answer] = []
    for (norm, eps), each in balls.items():
        most = max(each)
        text = f"in {ball(norm, eps)} the steps of an attack cross the ball"
        if most < CROSSED:
            text = f"in {ball(norm, eps)} no attack's steps can cross the ball: together they lead {most:.3g} radii far"
        answers.append(Answer(most >= CROSSED, min(most, 1e9), CROSSED, text, norm=norm, eps=eps))
    return answers or [Answer(True, 0, CROSSED, "no gradient attack has a ball")]
