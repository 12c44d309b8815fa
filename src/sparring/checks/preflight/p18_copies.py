"""P18 copies."""

from __future__ import annotations

import hashlib

from sparring.checks.base import Answer, Context, check
from sparring.checks.controls import context, images
from sparring.checks.thresholds import thresholds

NAMED = 3
(MOST,) = thresholds("P18", "most")


@check("P18", "copies", "J", "WARN", fires=lambda: context(x=images().repeat(2, 1, 1, 1)), silent=context)
def copies(c: Context) -> list[Answer]:
    """Raised if: images of the set have the same pixels, to the bit, as an earlier one. Fatal from a tenth of the set on.

    Why: every number counts them again, and its interval takes them for independent images, so it is too narrow. Copies with different labels
    cannot all be right.

    What to do: leave the copies out; a file that was read twice or a set that was joined with itself is the common cause.
    """
    x, y = (c.x, c.y) if c.all_x is None or c.all_y is None else (c.all_x, c.all_y)
    first: dict[bytes, int] = {}
    pairs = [
        (i, j)
        for i, image in enumerate(x.cpu().contiguous())
        if (j := first.setdefault(hashlib.sha256(image.numpy().tobytes()).digest(), i)) != i
    ]
    if not pairs:
        return [Answer(True, 0, 0, f"all {len(x)} images differ")]
    torn = sum(int(y[i]) != int(y[j]) for i, j in pairs)
    named = ", ".join(f"{i} of {j}" for i, j in pairs[:NAMED]) + (", ..." if len(pairs) > NAMED else "")
    text = f"{len(pairs)} of {len(x)} images are copies of others ({len(first)} differ; numbers from 0: {named})"
    text += f", {torn} of them under another label" if torn else ""
    text += f": every number counts them again, of {len(x)}, and its interval is too narrow; leave the copies out"
    return [Answer(False, len(pairs), 0, text, severity="FATAL" if len(pairs) >= MOST * len(x) else "WARN")]
