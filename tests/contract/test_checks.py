"""Every registered check keeps the contract in ``sparring.testing`` (fires on its bad fixture, silent on its good one) and has a section in the docs."""

from pathlib import Path

import pytest

from sparring.core.registry import CHECKS
from sparring.testing.checks import CheckContract

DOCS = Path(__file__).parents[2] / "docs" / "checks.md"
EXPECTED = {
    "P1",
    "P2",
    "P3",
    "P4",
    "P5",
    "P7",
    "P8",
    "P9",
    "P10",
    "P12",
    "P13",
    "P14",
    "P15",
    "P16",
    "P17",
    "P18",
    "P19",
}
AFTER = {
    "S1",
    "S2",
    "S3",
    "S4",
    "C3",
    "PL",
    "X5",
    "X13",
    "G3",
    "G1",
    "R4",
    "R6",
    "R7",
    "R12",
    "R13",
    "R10",
    "R11",
    "R15",
    "R16",
    "X2",
    "X6",
    "F1",
}


def test_all_checks_of_this_release_are_there():
    assert set(CHECKS) >= EXPECTED | AFTER


@pytest.mark.parametrize("spec", list(CHECKS))
class TestChecks(CheckContract):
    pass


@pytest.mark.parametrize("name", list(CHECKS))
def test_it_has_its_section_in_the_docs(name):
    text = DOCS.read_text()
    check = CHECKS[name]
    assert f"## {name} {check.title}" in text
    first = check.doc.split("\n\n")[0].removeprefix("Raised if:").split()
    assert " ".join(first) in " ".join(text.split()), "docs/checks.md is out of date: run python docs/make_checks.py"
