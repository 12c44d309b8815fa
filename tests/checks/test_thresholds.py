"""One file holds the thresholds of checks: none is named twice, unused, or of a check that is not there."""

from __future__ import annotations

import inspect
import re
import sys

from sparring.checks.thresholds import all_thresholds, thresholds
from sparring.core.registry import CHECKS


def asked() -> dict[str, set[str]]:
    """What the checks' files take from the table, by the id that they name."""
    found: dict[str, set[str]] = {}
    for name, check in CHECKS.items():
        source = inspect.getsource(sys.modules[check.ask.__module__])
        for given, names in re.findall(r'thresholds\("(\w+)", ([^)]*)\)', source):
            assert given == name, f"{name} decides by the thresholds of {given}"
            found.setdefault(name, set()).update(re.findall(r'"(\w+)"', names))
    return found


def test_every_threshold_is_one_that_its_check_decides_by():
    assert {check: set(values) for check, values in all_thresholds().items()} == asked()


def test_thresholds_come_in_the_order_that_was_asked():
    assert thresholds("S1", "most", "least") == tuple(reversed(thresholds("S1", "least", "most")))
