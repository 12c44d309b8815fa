"""A page is content first: sections as data, drawn as a page and on a terminal; a new section is one registered function."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import sparring
from sparring.checks.controls import images, linear_net
from sparring.core.registry import SECTIONS
from sparring.evaluation.records.files import read_run
from sparring.report.content import Evaluated, Section, Table, Text, section, sections_of
from sparring.report.page import write_report


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out, net, x = tmp_path_factory.mktemp("sections") / "run", linear_net(scale=0.2), images(12)
    y = net(x).argmax(1).detach()
    attacks = ["pgd:eps=2/255,steps=2", "pgd:eps=8/255,steps=2"]
    sparring.evaluate(net, (x, y), ["cd:bits=3"], ["oblivious", "adaptive"], attacks, out=out)
    return out


def run_of(folder) -> Evaluated:
    return Evaluated(str(folder), read_run(folder), sparring.load_evaluation(folder))


@pytest.mark.slow
def test_all_of_a_page_is_plain_data(folder):
    sections = sections_of(run_of(folder))
    assert [s.title for s in sections] == [
        "Verdict",
        "",
        "Worst case per image",
        "Accuracy against budget",
        "Each attack in each seat",
        "Image by image",
        "Checks",
        "What the attacker was told",
        "Provenance",
    ]
    content = json.loads(json.dumps([s.json() for s in sections]))
    kinds = {item["kind"] for s in content for item in s["items"]}
    assert kinds == {"text", "card", "table", "figure", "strip", "fold"}
    tables = [item for s in sections for item in s.items if isinstance(item, Table)]
    assert all(len(row) == len(t.columns) for t in tables for row in t.rows)
    evaluation = sparring.load_evaluation(folder)
    worst = next(t for t in tables if t.title.startswith("Worst case"))
    robust = [row[4].text for row in worst.rows]
    assert robust == [f"{100 * r.robust_accuracy:.1f}" for r in evaluation.closed]


@pytest.mark.slow
def test_every_rate_of_a_page_has_its_interval_n_and_threat(folder):
    for s in sections_of(run_of(folder)):
        for table in (i for i in s.items if isinstance(i, Table) and i.numbers):
            assert {"threat", "ball", "95 % interval", "n"} <= set(table.columns)


def test_a_new_section_is_one_function(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(SECTIONS, "_entries", dict(SECTIONS._entries))

    @section("toy", 15)
    def toy(run: Evaluated) -> Section:
        """A toy."""
        return Section("Toys", (Text(f"<b>{run.record['images']}</b> toys"),))

    text = write_report([folder], tmp_path / "page.html").read_text()
    assert "&lt;b&gt;12&lt;/b&gt; toys" in text, "what a plug-in says is text, never markup"
    assert text.index("Toys") < text.index("Worst case per image")
    assert "http" not in text.replace("http-equiv", "").split("<body>")[0], "opens offline"


def test_an_evaluation_prints_as_what_is_to_be_read_first(folder):
    result = sparring.load_evaluation(folder)
    lines = str(result).splitlines()
    failed = [f for f in result.findings if not f.ok]
    said = 2 * len(result.verdicts)  # a line and a sentence each
    assert lines[:said:2] == [v.line for v in result.verdicts]
    assert [line.split()[1] for line in lines[said:-1]] == [f.check for f in failed]
    assert lines[-1] == f"rows: {folder}"
    bare = replace(result, verdicts=(), findings=[], folder=None)
    assert str(bare).splitlines() == result.headlines
    assert str(replace(bare, missing="interrupted: 3 of 12 images")) == "interrupted: 3 of 12 images"
    assert result.headlines, "there is something to print"
