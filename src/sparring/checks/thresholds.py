"""The thresholds of checks, from one file: ``thresholds.toml``."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files


@cache
def all_thresholds() -> dict[str, dict[str, float]]:
    """Every threshold by the id of its check and its name."""
    return tomllib.loads(files("sparring.checks").joinpath("thresholds.toml").read_text())


def thresholds(check: str, *names: str) -> tuple[float, ...]:
    """The named thresholds of a check, in this order."""
    mine = all_thresholds()[check]
    return tuple(mine[name] for name in names)
