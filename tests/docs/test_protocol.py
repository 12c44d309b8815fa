"""What the code cites exists: sections, cards, threats and checks in docs/protocol.md, tests in docs/design."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sparring.core.registry import CHECKS, THREATS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "protocol.md"
DESIGN = sorted((ROOT / "docs" / "design").glob("*.md"))

SECTION = r"\d+(?:\.\d+)?"
CODE = r"[A-Z]{1,2}\d+|PL"
# PROTOCOL 1.2 | PROTOCOL 4.2, D3 | PROTOCOL 4.4 card L1 | PROTOCOL 4.1, 4.3 | PROTOCOL 1.2 and T3 | PROTOCOL B4
CITATION = re.compile(
    rf"PROTOCOL\s+((?:{SECTION}|{CODE})(?:(?:,|\s+and)?\s+(?:cards?\s+)?(?:{SECTION}|{CODE})\b(?!\.\d))*)"
)


def citations(text: str) -> set[str]:
    """Sections and codes that a text cites: ``PROTOCOL 4.4, card L1`` -> {"4.4", "L1"}."""
    # a citation may go on in the next line of a comment
    flat = re.sub(r"\s*\n\s*#?\s*", " ", text)
    return {name for found in CITATION.findall(flat) for name in re.findall(rf"\b(?:{SECTION}|{CODE})\b", found)}


def anchors(page: str) -> set[str]:
    """What a page has a heading or a table row for: ``### 4.2 Title``, ``#### D3 Title``, ``| **P6** title |``."""
    name = rf"({SECTION}|{CODE})"
    headings = re.findall(rf"^#{{2,5}} {name}\b", page, re.M)
    rows = re.findall(rf"^\| \*\*{name}\*\*", page, re.M)
    return {*headings, *rows}


def uncovered(cited: set[str], page: str) -> set[str]:
    """Citations without a heading or row."""
    return cited - anchors(page)


def named_tests(text: str) -> set[str]:
    return set(re.findall(r"\b(test_\w+)\b(?!\.py|/|\w)", text))


def sources() -> list[Path]:
    code = [f for folder in ("src", "tests", "benchmarks") for f in (ROOT / folder).rglob("*.py")]
    return [f for f in [*code, *(ROOT / "docs").rglob("*.md")] if f not in (PAGE, Path(__file__))]


@pytest.mark.parametrize(
    ("text", "cited"),
    [
        ("see PROTOCOL 1.2: at most 16", {"1.2"}),
        ("(PROTOCOL 4.2, D3): see", {"4.2", "D3"}),
        ("(PROTOCOL 4.4, card L1)", {"4.4", "L1"}),
        ("threat T9, PROTOCOL 4.4 card L1).", {"4.4", "L1"}),
        ("(PROTOCOL 4.1, 4.3, 4.5).", {"4.1", "4.3", "4.5"}),
        ("(PROTOCOL 1.2 and T3)", {"1.2", "T3"}),
        ("the null control (PROTOCOL\n    # B4)", {"B4"}),
        ("PROTOCOL T0).", {"T0"}),
        ("PROTOCOL 5.4, without the verdict word", {"5.4"}),
        ("PROTOCOL 4.4: at 4 bits 93 % of values", {"4.4"}),
        ("Differs from PROTOCOL: an evaluation stops", set()),
    ],
)
def test_citations_are_read(text, cited):
    assert citations(text) == cited


def test_a_citation_without_a_heading_is_found():
    page = "### 4.2 Defective\n\n#### D3 Ghosts\n\n| **P6** scale | x |\n\nprose about D9 and 4.3\n"
    assert anchors(page) == {"4.2", "D3", "P6"}
    assert uncovered(citations("PROTOCOL 4.2, D3 and P6"), page) == set()
    assert uncovered(citations("PROTOCOL 4.2, D9"), page) == {"D9"}
    assert uncovered(citations("PROTOCOL 4.3"), page) == {"4.3"}
    assert uncovered(citations("PROTOCOL 4"), page) == {"4"}


def test_every_citation_leads_to_a_heading():
    page = PAGE.read_text()
    missing = {str(f.relative_to(ROOT)): uncovered(citations(f.read_text()), page) for f in sources()}
    assert sum(len(citations(f.read_text())) for f in sources()) >= 20, (
        "the pattern still finds the citations there are"
    )
    assert not {f: m for f, m in missing.items() if m}


@pytest.mark.parametrize("name", list(THREATS))
def test_every_threat_has_its_heading(name):
    """The docstring begins with the protocol's numbers: "T4, T5: gradients of ..."."""
    codes = re.findall(r"T\d+", (THREATS[name].__doc__ or "").partition(":")[0])
    assert codes, f"the docstring of {name} begins with its number in the protocol"
    assert not uncovered(set(codes), PAGE.read_text())


@pytest.mark.parametrize("name", list(CHECKS))
def test_every_check_has_its_heading(name):
    assert not uncovered({name}, PAGE.read_text())


def test_all_cards_and_threats_of_the_protocol_are_there():
    """The numbering that the code relies on has no holes."""
    series = {
        "T": range(15),
        "A": range(1, 10),
        "D": range(1, 8),
        "S": range(1, 10),
        "L": range(1, 7),
        "H": range(1, 6),
    }
    series |= {"B": range(1, 5), "P": range(1, 15), "E": range(1, 14)}
    sections = {f"{major}.{minor}" for major, last in ((1, 6), (2, 6), (4, 7), (5, 5)) for minor in range(1, last + 1)}
    expected = sections | {f"{letter}{i}" for letter, numbers in series.items() for i in numbers} | {"PL"}
    assert not uncovered(expected, PAGE.read_text())


@pytest.mark.parametrize("page", DESIGN, ids=lambda p: p.name)
def test_design_pages_name_tests_that_exist(page):
    homes = (ROOT / "tests", ROOT / "src" / "sparring" / "testing")
    text = "\n".join(f.read_text() for home in homes for f in home.rglob("*.py"))
    there = set(re.findall(r"^\s*def (test_\w+)", text, re.M))
    named = named_tests(page.read_text())
    assert named - there == set()
    assert named or page.name == "README.md", f"{page.name} names the test that proves it"


def test_the_list_of_design_pages_is_complete():
    text = (ROOT / "docs" / "design" / "README.md").read_text()
    assert {p.name for p in DESIGN} - {"README.md"} == set(re.findall(r"\]\(([\w-]+\.md)\)", text))


@pytest.mark.parametrize("page", [PAGE, *DESIGN], ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_contents_links_of_the_protocol_are_its_headings():
    """GitHub's anchors: lower case, punctuation dropped, spaces to hyphens."""
    text = PAGE.read_text()
    slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.+)$", text, re.M)}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= slugs
