"""P3 determinism."""

from __future__ import annotations

import torch
from torch import Tensor

from sparring.checks.base import Answer, Context, check
from sparring.checks.controls import FunctionStage, context
from sparring.checks.thresholds import thresholds
from sparring.core.noise import Noise

(TOLERANCE,) = thresholds("P3", "tolerance")
CALLS = 5


def _undeclared(x: Tensor, noise: Noise) -> Tensor:
    return x + 0.1 * noise.normal("hidden", x.shape[1:])


def relative_change(a: Tensor, b: Tensor) -> Tensor:
    """(B,) distance of two sets of logits (B,K), each row scaled to length 1."""
    unit = [z / z.norm(dim=1, keepdim=True).clamp_min(1e-12) for z in (a, b)]
    return (unit[0] - unit[1]).norm(dim=1)


@check(
    "P3",
    "determinism",
    "J",
    "FATAL",
    fires=lambda: context(stages=(FunctionStage(_undeclared),)),
    silent=context,
)
def determinism(c: Context) -> list[Answer]:
    """Raised if: five forward passes of a system declared deterministic disagree (fatal), a system declared
    random never varies (warning), or an answer is no number (fatal).

    Why: a random system judged once counts lucky misclassifications as broken images; undeclared randomness breaks
    every later number.

    What to do: declare ``random=True`` in the stage's Surrogate, or find what draws random numbers.
    """
    answers: list[Answer] = []
    for defended in c.systems:
        system = defended.system()
        with torch.no_grad():
            outputs = [system.logits(c.x, c.noise().repeat(1, j), 1)[:, 0] for j in range(CALLS)]
        lost = int((~torch.isfinite(outputs[0]).all(1)).sum())
        if lost:
            message = f"logits of {lost} of {len(c.x)} images are not finite: damaged weights, a wrong input range, or a forward that divides by 0"
            answers.append(Answer(False, lost, 0, message, defended.name, defense=defended.name))
            continue
        change = float(torch.stack([relative_change(outputs[0], z) for z in outputs[1:]]).max())
        if defended.random:
            message = "declared random, and it is" if change > 0 else "declared randomness is not active"
            answers.append(Answer(change > 0, change, 0.0, message, defended.name, "WARN", defended.name))
        else:
            ok = change <= TOLERANCE
            message = (
                "deterministic"
                if ok
                else f"declared deterministic, but logits differ by {change:.2g} between calls: declare it random (EOT, fresh judge draws)"
            )
            answers.append(Answer(ok, change, TOLERANCE, message, defended.name, defense=defended.name))
    return answers
