"""P1 pixel range."""

from __future__ import annotations

import torch

from sparring.checks.base import Answer, Context, check
from sparring.checks.controls import context, images
from sparring.checks.thresholds import thresholds

(TOLERANCE,) = thresholds("P1", "tolerance")


@check("P1", "pixel range", "J", "FATAL", fires=lambda: context(x=(images() - 0.45) / 0.23), silent=context)
def pixel_range(c: Context) -> list[Answer]:
    """Raised if: a pixel lies outside [0,1] by more than 1e-6 or is not a number.

    Why: budgets are distances between pixels; on normalised or 0-255 data an eps of 8/255 means something else.

    What to do: undo mean/std in the data and put them into the model (mean=, std=); pass 0-255 data as uint8.
    """
    low, high = float(c.x.min()), float(c.x.max())
    ok = bool(torch.isfinite(c.x).all()) and low >= -TOLERANCE and high <= 1 + TOLERANCE
    message = (
        f"pixels in [{low:.3g}, {high:.3g}]"
        if ok
        else (
            f"inputs are not pixels in [0,1] (min {low:.3g}, max {high:.3g}); move mean/std into the model: budgets are meaningless otherwise"
        )
    )
    return [Answer(ok, max(-low, high - 1), TOLERANCE, message)]
