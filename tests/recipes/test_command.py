"""``sparring recipe`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.commands import say

TOY = Path(__file__).parent / "toy" / "table1.toml"


def test_a_list_is_json_and_every_item_can_be_run(tmp_path):
    said = say(tmp_path, "recipe", "list", "defective", "--json")
    items = {r["id"]: r for r in json.loads(said.out)}
    assert said.code == 0
    assert len(items) == 22
    assert not any(item["missing"] for item in items.values())


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("run", "channels/tabel5"), "unknown recipe 'channels/tabel5'; did you mean channels/table5"),
        (("run", str(TOY), "--scale", "middle"), "scale"),
        (("run", str(TOY), "--scale", "paper", "--only", "nothing"), "has no step 'nothing'"),
        (("run", str(TOY), "--workers", "0"), "workers=0"),
        (("run", "nowhere/table1.toml"), "nowhere/table1.toml cannot be read"),
        (("list", "chanels"), "unknown paper 'chanels'; did you mean channels"),
        (("report", "--rows", "nowhere"), "nowhere is no folder"),
    ],
)
def test_misuse_is_one_line(words, line, tmp_path):
    said = say(tmp_path, "recipe", *words)
    assert said.code == 2
    assert line in said.err
    assert [text for text in said.err.splitlines() if not text.startswith("reading")] == [said.err.splitlines()[-1]]


def test_a_report_without_rows_lists_what_is_not_judged(tmp_path):
    (tmp_path / "rows").mkdir()
    said = say(tmp_path, "recipe", "report", "hgd", "--rows", "rows")
    assert said.code == 0
    page = (tmp_path / "rows" / "hgd.md").read_text()
    assert "Claims, not judged" in page
    assert "| LGD | published | 76.2 | 75.2 | 69.2 | 75.1 | 72.2 |" in page


def test_a_report_names_rows_that_it_says_nothing_of(tmp_path):
    (tmp_path / "rows" / "mine").mkdir(parents=True)
    (tmp_path / "rows" / "mine" / "table1.small.json").write_text("{}")
    said = say(tmp_path, "recipe", "report", "hgd", "--rows", "rows")
    assert said.code == 0
    lines = [line for line in said.out.splitlines() if "not reported" in line]
    assert lines == ["rows/mine/table1.small.json: of no recipe of the five papers, not reported"]
