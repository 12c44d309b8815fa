"""P10 graph continuity."""

from __future__ import annotations

import torch
from torch import Tensor

from sparring.checks.base import Answer, Context, check
from sparring.checks.controls import FunctionStage, context, eight_levels
from sparring.checks.thresholds import thresholds
from sparring.core.access import Access, offered
from sparring.core.losses import margin
from sparring.core.system import apply_part
from sparring.defenses.base import Backward

(SHARE,) = thresholds("P10", "share")


def _rounding(backward: Backward) -> Context:
    return context(stages=(FunctionStage(eight_levels, name="round", backward=backward),))


@check(
    "P10",
    "graph continuity",
    "A",
    "FAIL",
    fires=lambda: _rounding("exact"),
    silent=lambda: _rounding("identity"),
)
def graph_continuity(c: Context) -> list[Answer]:
    """Raised if: with its declared default backward, a stage passes no gradient (none, all zero, or not finite) on
    more than 1 % of images.

    Why: an attack through a dead stage fails, and its failure says nothing about robustness (shattered gradients).

    What to do: declare backward = identity or a differentiable stand-in in the stage's Surrogate. The adaptive attacker looks for one itself
    (the view "repaired"), also where logits have no gradient at all.
    """
    answers: list[Answer] = []
    for defended in c.systems:
        if offered(defended.network) < Access.GRADIENT:
            text = "a black box: nobody has its gradients, and threats that grant them are refused"
            answers.append(Answer(True, 0.0, SHARE, text, defended.name, defense=defended.name))
            continue
        system, noise = defended.system(), c.noise()
        points = [c.x.clone().requires_grad_(True)]
        with torch.enable_grad():
            for i, part in enumerate(system.parts):
                points.append(apply_part(part, points[-1], noise.child(f"stage{i}")))
                if not points[-1].requires_grad:
                    points[-1].requires_grad_(True)
            z = system.network(points[-1])
            if not z.requires_grad:
                answers.append(_without_gradient(defended.name))
                continue
            loss = margin(z, c.y).sum()  # which large logits do not saturate
            grads = torch.autograd.grad(loss, points, allow_unused=True)
        names = [*(p.name for p in system.parts), "classifier"]
        dead = [1.0 if g is None else float(_dead(g).double().mean()) for g in grads]
        # the culprit is the last stage whose input is dead while its output is alive
        culprit = next(
            (k for k in reversed(range(len(dead))) if dead[k] > SHARE and (k + 1 == len(dead) or dead[k + 1] <= SHARE)),
            None,
        )
        if culprit is None:
            answers.append(
                Answer(
                    True,
                    max(dead),
                    SHARE,
                    "gradients reach the input through every stage",
                    defended.name,
                    defense=defended.name,
                )
            )
        else:
            message = f"gradient stops at stage {culprit} ({names[culprit]}) on {100 * dead[culprit]:.0f} % of images; declare backward = identity or a stand-in"
            answers.append(Answer(False, dead[culprit], SHARE, message, defended.name, defense=defended.name))
    return answers


def _without_gradient(subject: str) -> Answer:
    message = (
        "the network's logits have no gradient (computed under no_grad, detached, by argmax, in integers or outside torch): gradient attacks see "
        "zero; make it differentiable, or evaluate it with --threat score,decision"
    )
    return Answer(False, 1.0, SHARE, message, subject, defense=subject)


def _dead(grad: Tensor) -> Tensor:
    total = grad.flatten(1).abs().sum(1)
    return (total == 0) | ~torch.isfinite(total)
