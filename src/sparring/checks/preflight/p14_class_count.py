"""P14 class count."""

from __future__ import annotations

from sparring.checks.base import Answer, Context, check
from sparring.checks.controls import context, linear_net


@check("P14", "class count", "A", "INFO", fires=lambda: context(linear_net(classes=2)), silent=context)
def class_count(c: Context) -> list[Answer]:
    """Raised if: there are fewer than four classes, so that DLR losses need a substitute.

    Why: DLR divides by a third logit and targeted DLR by a fourth; the number of targets is at most classes - 1.

    What to do: nothing; the plan changes as printed.
    """
    classes = c.logits().shape[1]
    targets = min(9, classes - 1)
    change = {2: "dlr and targeted dlr become the margin", 3: "targeted dlr becomes the margin"}.get(
        classes, "no change"
    )
    return [Answer(classes >= 4, classes, 4, f"K={classes}: at most {targets} targets; {change}")]
