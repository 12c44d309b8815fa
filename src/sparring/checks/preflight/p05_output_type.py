"""P5 output type."""

from __future__ import annotations

from torch import nn

from sparring.checks.base import Answer, Context, check
from sparring.checks.controls import context, linear_net
from sparring.checks.thresholds import thresholds
from sparring.core.network import off_probabilities

(TOLERANCE,) = thresholds("P5", "tolerance")


@check(
    "P5",
    "output type",
    "A",
    "WARN",
    fires=lambda: context(nn.Sequential(linear_net(), nn.Softmax(1)).eval()),
    silent=context,
)
def output_type(c: Context) -> list[Answer]:
    """Raised if: all outputs lie in [0,1] and every row sums to 1.

    Why: losses on probabilities saturate, and a weak attack looks like a robust model.

    What to do: expose the logits (drop the softmax). The adaptive attacker looks for them itself and also attacks those it finds on the way to
    the answer (the view "repaired").
    """
    z = c.logits()
    worst = off_probabilities(z)
    ok = worst > TOLERANCE
    return [
        Answer(
            ok,
            worst,
            TOLERANCE,
            "logits"
            if ok
            else "the model returns probabilities; expose logits (drop the softmax): losses on probabilities saturate",
        )
    ]
