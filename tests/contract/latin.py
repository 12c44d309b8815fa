"""Latin squares over the factors of a contract: few cases for each attack, all pairs of levels over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zlib import crc32


def latin(name: str, *factors: Sequence[Any]) -> list[tuple[Any, ...]]:
    """As many cases as the longest factor has levels; ``name`` meets every level of every factor in them.

    The factors run beside one another, each from a level that the name decides, so that two names pair the levels differently.
    Nothing else decides: another attack, or a plug-in's, changes nobody's cases. That all attacks together meet every pair is
    for the caller to assert (``unmet``).
    """
    turn, columns = crc32(name.encode()), []
    rows = max(len(levels) for levels in factors)
    for levels in factors:
        turn, first = divmod(turn, len(levels))
        columns.append([levels[(first + row) % len(levels)] for row in range(rows)])
    return list(zip(*columns, strict=True))


def unmet(cases: Sequence[tuple[Any, ...]], *factors: Sequence[Any]) -> list[tuple[Any, Any]]:
    """The pairs of levels of two of the factors that none of the cases has."""
    return [
        (a, b)
        for i, first in enumerate(factors)
        for j, second in enumerate(factors[:i])
        for a in first
        for b in second
        if not any(case[i] == a and case[j] == b for case in cases)
    ]
