"""P3 determinism."""

from __future__ import annotations

import torch
from torch import Tensor

from sparring.checks.base import Answer, Context, check
from sparring.checks.controls import FunctionStage, context
from sparring.checks.thresholds import thresholds
from sparring.core.noise import Noise
from sparring.core.system import System

(TOLERANCE,) = thresholds("P3", "tolerance")
CALLS = 5
RADII = (0.01, 0.03, 0.1, 0.2)  # of images near those that were asked


def _undeclared(x: Tensor, noise: Noise) -> Tensor:
    return x + 0.1 * noise.normal("hidden", x.shape[1:])


def relative_change(a: Tensor, b: Tensor) -> Tensor:
    """(B,) distance of two sets of logits (B,K), each row scaled to length 1."""
    unit = [z / z.norm(dim=1, keepdim=True).clamp_min(1e-12) for z in (a, b)]
    return (unit[0] - unit[1]).norm(dim=1)


def _recalled(system: System, c: Context) -> float:
    """How much the answer at images that nobody has asked yet changes once others near them were asked: nothing for who keeps no images. (A memory
    may be where no copy of the network reaches it: in a module, a file, another process.)
    """
    fresh = c.x.roll((1, 2), (-2, -1))
    near = fresh.clone()
    for i, radius in enumerate(RADII):
        rows = torch.arange(len(fresh))[i :: len(RADII)]
        near[rows] += radius * c.noise().at(rows).sign("near", c.x.shape[1:]).to(c.x.dtype)
    near = near.clamp(0, 1)
    with torch.no_grad():
        before = system.logits(near, c.noise(), 1)[:, 0]
        system.logits(fresh, c.noise(), 1)
        after = system.logits(near, c.noise(), 1)[:, 0]
    return float(relative_change(before, after).nan_to_num(0.0).max())


def _whose(c: Context) -> str:
    """What to do about noise that nobody declared, by where it is drawn."""
    with torch.no_grad():
        own = float(relative_change(c.network(c.x), c.network(c.x)).nan_to_num(0.0).max())
    if own <= TOLERANCE:
        return "declare it random (EOT, fresh judge draws)"
    return "the network draws this noise itself, where nobody can draw it again: evaluate the network without it, behind a defense that draws it"


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
    random never varies (warning), an answer is no number (fatal), or an answer changes once an image near by was asked (fatal).

    Why: a random system judged once counts lucky misclassifications as broken images; undeclared randomness breaks
    every later number.

    What to do: declare ``random=True`` in the stage's Surrogate, or find what draws random numbers. Noise inside a network or an exported file
    cannot be drawn again from outside: write it as a stage in front of the network.
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
            message = f"declared deterministic, but logits differ by {change:.2g} between calls: {_whose(c)}"
            if change <= TOLERANCE:
                change, message = _recalled(system, c), "deterministic"
            ok = change <= TOLERANCE
            if not ok and message == "deterministic":
                message = f"logits of an image differ by {change:.2g} once an image near it was asked: it keeps what it has seen"
            answers.append(Answer(ok, change, TOLERANCE, message, defended.name, defense=defended.name))
    return answers
