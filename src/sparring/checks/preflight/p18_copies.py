"""P18 copies."""

from __future__ import annotations

from sparring.checks.base import Answer, Context, check
from sparring.checks.controls import context, images
from sparring.checks.thresholds import thresholds
from sparring.data.images import ImageSet

NAMED = 3
(MOST,) = thresholds("P18", "most")


@check("P18", "copies", "J", "WARN", fires=lambda: context(x=images().repeat(2, 1, 1, 1)), silent=context)
def copies(c: Context) -> list[Answer]:
    """Raised if: images of the set have the same pixels, to the bit, as an earlier one. Fatal from a tenth of the set on.

    Why: every number counts them again, and its interval takes them for independent images, so it is too narrow. Copies with different labels
    cannot all be right.

    What to do: leave the copies out; a file that was read twice or a set that was joined with itself is the common cause.
    """
    whole = ImageSet.of(c.x, c.y) if c.whole is None else c.whole
    first: dict[str, int] = {}
    pairs = [(i, j) for i, digest in enumerate(whole.digests) if (j := first.setdefault(digest, i)) != i]
    y, count = whole.y, len(whole)
    if not pairs:
        return [Answer(True, 0, 0, f"all {count} images differ")]
    torn = sum(int(y[i]) != int(y[j]) for i, j in pairs)
    named = ", ".join(f"{i} of {j}" for i, j in pairs[:NAMED]) + (", ..." if len(pairs) > NAMED else "")
    text = f"{len(pairs)} of {count} images are copies of others ({len(first)} differ; numbers from 0: {named})"
    text += f", {torn} of them under another label" if torn else ""
    text += f": every number counts them again, of {count}, and its interval is too narrow; leave the copies out"
    return [Answer(False, len(pairs), 0, text, severity="FATAL" if len(pairs) >= MOST * count else "WARN")]
