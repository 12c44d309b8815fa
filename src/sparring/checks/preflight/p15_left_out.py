"""P15 images left out."""

from __future__ import annotations

from sparring.checks.base import Answer, Context, check
from sparring.checks.controls import context

NAMED = 20


@check("P15", "images left out", "J", "WARN", fires=lambda: context(left_out=("a/1.png", "b/2.png")), silent=context)
def left_out(c: Context) -> list[Answer]:
    """Raised if: images of the set could not be read and were left out on request (--skip-bad).

    Why: every number is of the images that are left; files that break together (one camera, one class) bend it.

    What to do: repair the files that the message names, or say in the paper that they are missing.
    """
    count, total = len(c.left_out), len(c.left_out) + len(c.ids if c.whole is None else c.whole)
    if not count:
        return [Answer(True, 0, 0, "no image was left out")]
    more = f" and {count - NAMED} more" if count > NAMED else ""
    named = ", ".join(c.left_out[:NAMED]) + more
    return [
        Answer(
            False, count, 0, f"{count} images cannot be read and were left out, {total - count} are evaluated: {named}"
        )
    ]
