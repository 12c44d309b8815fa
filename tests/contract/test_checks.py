"""Every registered check fires on its own bad fixture, stays silent on its good one, and has a section in the docs."""

from pathlib import Path

import pytest

from sparring.core.registry import CHECKS

DOCS = Path(__file__).parents[2] / "docs" / "checks.md"
EXPECTED = {"P1", "P2", "P3", "P4", "P5", "P8", "P9", "P10", "P12", "P13", "P14"}


def test_all_preflight_checks_of_this_release_are_there():
    assert set(CHECKS) >= EXPECTED


@pytest.mark.parametrize("name", list(CHECKS))
def test_it_fires(name):
    findings = CHECKS[name].run(CHECKS[name].fires())
    assert any(not f.ok for f in findings), [f.message for f in findings]


@pytest.mark.parametrize("name", list(CHECKS))
def test_it_stays_silent(name):
    findings = CHECKS[name].run(CHECKS[name].silent())
    assert all(f.ok for f in findings), [f.message for f in findings if not f.ok]


@pytest.mark.parametrize("name", list(CHECKS))
def test_it_has_its_section_in_the_docs(name):
    text = DOCS.read_text()
    check = CHECKS[name]
    assert f"## {name} {check.title}" in text
    for word in ("Raised if:", "Why:", "What to do:"):
        assert word in check.doc
    first = check.doc.split("\n\n")[0].removeprefix("Raised if:").split()
    assert " ".join(first) in " ".join(text.split()), "docs/checks.md is out of date: run python docs/make_checks.py"
