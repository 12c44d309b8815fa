"""P4 batch independence."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparring.checks.base import Answer, Context, check
from sparring.checks.controls import FunctionStage, context
from sparring.checks.preflight.p03_determinism import TOLERANCE, relative_change
from sparring.checks.thresholds import thresholds
from sparring.core.noise import Noise
from sparring.core.system import System

DIGITS = 2e-6  # of a pixel: what sums of float32 in another order differ by
CALLS = 5
(LAST_DIGITS,) = thresholds("P4", "last_digits")


class _BatchMean(nn.Module):
    def forward(self, x: Tensor, noise: Noise) -> Tensor:
        return x - x.mean(0, keepdim=True)


@check(
    "P4",
    "batch independence",
    "J",
    "FATAL",
    fires=lambda: context(stages=(FunctionStage(_BatchMean()),)),
    silent=context,
)
def batch_independence(c: Context) -> list[Answer]:
    """Raised if: an image's logits change with its batch-mates: alone, in a batch, in a permuted batch, beside
    other images.

    Why: per-image robustness is undefined then; batch norm in train mode, transductive defenses and batch-wise
    quantiles do this.

    What to do: compute statistics per image; put BatchNorm in eval mode. A warning only: logits move as far with the last digits of pixels, as
    those of a network that rounds do, since kernels for other batch sizes sum in another order.
    """
    answers: list[Answer] = []
    count = len(c.x)
    order = torch.arange(count).flip(0)
    half = torch.arange(count) < (count + 1) // 2
    for defended in c.systems:
        system, noise = defended.system(), c.noise()
        with torch.no_grad():
            together = system.logits(c.x, noise, 1)[:, 0]
            alone = torch.cat(
                [system.logits(c.x[i : i + 1], noise.at(torch.tensor([i])), 1)[:, 0] for i in range(min(count, 8))]
            )
            permuted = system.logits(c.x[order], noise.at(order), 1)[:, 0][order]
            mixed = system.logits(torch.where(half[:, None, None, None], c.x, 1 - c.x), noise, 1)[:, 0]
        change = max(
            float(relative_change(together[: len(alone)], alone).max()),
            float(relative_change(together, permuted).max()),
            float(relative_change(together[half], mixed[half]).max()),
        )
        message, severity = "an image's logits do not depend on its batch", None
        if change > TOLERANCE:
            message = f"prediction of an image depends on its batch-mates (logits move by {change:.2g}); per-image robustness is undefined"
            if change <= LAST_DIGITS * (digits := _by_last_digits(system, c.x, noise, together)):
                severity = "WARN"
                message = (
                    f"logits move by {change:.2g} with the batch, and by {digits:.2g} with the last digits of pixels: the system rounds, and images near "
                    "a step may be judged either way"
                )
        answers.append(
            Answer(change <= TOLERANCE, change, TOLERANCE, message, defended.name, severity, defense=defended.name)
        )
    return answers


def _by_last_digits(system: System, x: Tensor, noise: Noise, together: Tensor) -> float:
    """How far logits move, in the same batch, where pixels move by what kernels for other batch sizes differ by."""
    moved = 0.0
    for call in range(CALLS):
        draw = torch.rand(x.shape, generator=torch.Generator().manual_seed(call)).to(x) - 0.5
        near = (x + DIGITS * draw).clamp(0, 1)
        with torch.no_grad():
            moved = max(moved, float(relative_change(together, system.logits(near, noise, 1)[:, 0]).max()))
    return moved
