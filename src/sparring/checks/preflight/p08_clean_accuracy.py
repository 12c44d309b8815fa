"""P8 clean accuracy."""

from __future__ import annotations

import torch

from sparring.checks.base import Answer, Context, check
from sparring.checks.controls import context
from sparring.core.victim import ROW_BUDGET
from sparring.evaluation.results.stats import clopper_pearson

SLACK = 0.01


@check(
    "P8",
    "clean accuracy",
    "J",
    "FATAL",
    fires=lambda: context(expected_clean=0.5),
    silent=lambda: context(expected_clean=1.0),
)
def clean_accuracy(c: Context) -> list[Answer]:
    """Raised if: a declared clean accuracy lies outside the 99 % interval of the measured one, widened by a point.

    Why: wrong weights, preprocessing or labels make a model look fragile or robust for the wrong reason.

    What to do: check mean/std, channel order, label order and the weight file; or correct the declared value.
    """
    x, y = (c.x, c.y) if c.all_x is None or c.all_y is None else (c.all_x, c.all_y)
    size = max(1, ROW_BUDGET // x[0].numel())
    with torch.no_grad():
        right = torch.cat([c.network(x[i : i + size]).argmax(1) == y[i : i + size] for i in range(0, len(x), size)])
    k, n = int(right.sum()), len(y)
    text = f"clean accuracy {100 * k / n:.1f} % ({k} of {n})"
    if c.expected_clean is None:
        return [Answer(True, k / n, float("nan"), f"{text}; none was declared (--expect-clean)", severity="INFO")]
    low, high, _ = clopper_pearson(k, n, 0.99)
    ok = low - SLACK <= c.expected_clean <= high + SLACK
    return [
        Answer(
            ok,
            k / n,
            c.expected_clean,
            text if ok else f"{text}, declared {100 * c.expected_clean:.1f} %: wrong weights, preprocessing or labels",
        )
    ]
