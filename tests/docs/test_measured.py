"""No new number in docs/measured.md without a row: marked tables are made from docs/measured, lines typed by hand may only become fewer."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
TYPED = 569  # lines with a digit that no row holds: lower it where rows take their place, never raise it


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("make_measured", DOCS / "make_measured.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_numbers_without_rows_only_become_fewer(generator):
    typed = generator.typed_lines((DOCS / "measured.md").read_text())
    assert len(typed) <= TYPED, (
        "a number was typed into docs/measured.md: write its rows to docs/measured/NAME.json, a mark into the document, and run "
        "python docs/make_measured.py"
    )
    assert len(typed) == TYPED, f"fewer lines are typed by hand now: set TYPED to {len(typed)}"


def test_marked_tables_are_their_rows(generator):
    text = (DOCS / "measured.md").read_text()
    assert generator.made_from_rows(text, DOCS / "measured") == text, "run python docs/make_measured.py"


def test_a_number_that_no_row_holds_is_seen(generator, tmp_path):
    facts = {"command": "c --n 3", "commit": "abc1234", "date": "2026-11-28", "machine": "2 cores"}
    (tmp_path / "toy.json").write_text(json.dumps({**facts, "columns": ["eps", "robust"], "rows": [["8/255", 41.5]]}))
    text = generator.made_from_rows("# Toy\n<!-- rows: toy -->\nanything\n<!-- end -->\n", tmp_path)
    assert "| 8/255 | 41.5 |" in text
    assert generator.typed_lines(text) == []
    changed = text.replace("41.5", "51.5")
    assert generator.made_from_rows(changed, tmp_path) == text, "a changed number is not what the rows give"
    assert generator.typed_lines(text + "It withstands 99 %.\n") == ["It withstands 99 %."]
    (tmp_path / "toy.json").write_text(json.dumps({**facts, "columns": ["eps"], "rows": [["8/255", 41.5]]}))
    with pytest.raises(ValueError, match=r"toy\.json: a row of 2 entries under 1 columns"):
        generator.made_from_rows(text, tmp_path)
