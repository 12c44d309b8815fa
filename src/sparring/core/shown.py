"""How objects show themselves where somebody looks at a variable: one line, no arrays."""

from __future__ import annotations

import math

WIDTH = 119
REST = "...)"


def shown(owner: object, *parts: str) -> str:
    """``Name(part, part)`` on one line of at most 119 characters; the end of a longer one is left out. Nothing is recognized by it: what identifies has hashes."""
    text = " ".join(f"{type(owner).__name__}({', '.join(part for part in parts if part)})".split())
    return text if len(text) <= WIDTH else text[: WIDTH - len(REST)] + REST


def percent(share: float) -> str:
    """A share in [0,1] as "12.5 %", nan as "n/a"."""
    return "n/a" if math.isnan(share) else f"{100 * share:.1f} %"


def many(count: int, what: str) -> str:
    """ "1 image", "2 images"."""
    return f"{count} {what}{'' if count == 1 else 's'}"
