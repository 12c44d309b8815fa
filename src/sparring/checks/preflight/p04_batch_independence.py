"""P4 batch independence."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparring.checks.base import Answer, Context, check
from sparring.checks.controls import FunctionStage, context
from sparring.checks.preflight.p03_determinism import TOLERANCE, relative_change
from sparring.core.noise import Noise


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

    What to do: compute statistics per image; put BatchNorm in eval mode.
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
        ok = change <= TOLERANCE
        message = (
            "an image's logits do not depend on its batch"
            if ok
            else f"prediction of an image depends on its batch-mates (logits move by {change:.2g}); per-image robustness is undefined"
        )
        answers.append(Answer(ok, change, TOLERANCE, message, defended.name, defense=defended.name))
    return answers
