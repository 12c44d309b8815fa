"""Two runs compared, and what a pipeline asks of one."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import sparring
from sparring.core.errors import SparringError
from sparring.evaluation.results.stats import gain_bounds, mcnemar
from sparring.evaluation.results.verdicts import Verdict
from sparring.report.content import Table, row
from sparring.report.formats import FORMATS, table_as
from sparring.report.terminal import draw_table
from sparring.testing.robust import assert_robust
from sparring.verdict.comparison import compare_runs
from sparring.verdict.gate import Gate
from tests.cli.test_cli import run
from tests.evaluation.test_growing import evaluate, problem


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A weak and a strong attack on overlapping sets, and a run behind another defense."""
    folder = tmp_path_factory.mktemp("runs")
    evaluate(problem(24), folder / "weak", defenses=("cd:bits=5",), attacks=["fgsm:eps=1/255"])
    evaluate(problem(28), folder / "strong", defenses=("cd:bits=5",), attacks=["pgd:eps=1/255,steps=10,step_size=1"])
    evaluate(problem(24), folder / "other", defenses=("cd:bits=3",), attacks=["fgsm:eps=1/255"])
    return folder


def test_the_difference_is_that_of_the_images_of_both(runs):
    compared = compare_runs(runs / "weak", runs / "strong")
    for comparison in compared.comparisons:
        won, lost = len(comparison.won), len(comparison.lost)
        assert comparison.n == 24
        assert comparison.difference == pytest.approx((won - lost) / 24)
        assert comparison.p_value == mcnemar(won, lost)
        assert comparison.low <= comparison.difference <= comparison.high
        assert comparison.low < comparison.high, "where nothing moved the bounds are those of 0 of n"
    assert any("attacks" in note for note in compared.notes)
    assert any("24 and 28 images" in note for note in compared.notes)
    again = compare_runs(runs / "strong", runs / "weak").comparisons
    assert [c.difference for c in again] == pytest.approx([-c.difference for c in compared.comparisons])


def test_bounds_are_of_the_second_minus_the_first():
    import numpy as np

    first, second = np.array([0.0] * 10 + [1.0] * 10), np.array([1.0] * 20)
    low, high, _ = gain_bounds(second, first)
    assert 0 < low < 0.5 < high


def test_one_defense_left_on_each_side_is_compared(runs):
    compared = compare_runs(runs / "weak", runs / "other").comparisons
    assert {c.defenses for c in compared} == {("none", "none"), ("cd:bits=5", "cd:bits=3")}


def test_other_images_and_an_incomplete_run_are_refused(runs, tmp_path):
    from dataclasses import replace

    data = problem(24)
    labels = data.y.clone()
    labels[0] = (labels[0] + 1) % 4
    evaluate(replace(data, y=labels), tmp_path / "relabeled", defenses=(), attacks=["fgsm:eps=1/255"])
    with pytest.raises(SparringError, match="is another one"):
        compare_runs(runs / "weak", tmp_path / "relabeled")
    evaluate(problem(24), tmp_path / "cut", defenses=("cd:bits=5",), attacks=["fgsm:eps=1/255"])
    next((tmp_path / "cut" / "rows").rglob("*.parquet")).unlink()
    with pytest.raises(SparringError, match="incomplete"):
        compare_runs(runs / "weak", tmp_path / "cut")
    evaluate(problem(24), tmp_path / "ball", defenses=(), attacks=["fgsm:eps=2/255"])
    with pytest.raises(SparringError, match="no number in common"):
        compare_runs(runs / "weak", tmp_path / "ball")


def test_the_command_and_its_json(runs):
    said = json.loads(run(runs, "compare", "weak", "strong", "--json").stdout)
    assert len(said["comparisons"]) == 2
    assert "difference" in run(runs, "compare", "weak", "strong", "--images").stdout
    assert "no run.json" in run(runs, "compare", "weak", "nothing", code=2).stderr


def verdict(word, trusted, defense="d"):
    return Verdict(word, 1, "", "", defense=defense, threat="adaptive", norm="linf", eps=0.1, trusted=trusted, n=9)


@pytest.mark.parametrize(
    ("word", "trusted", "gate", "fails"),
    [
        ("HOLDS", 0.5, Gate(40), False),
        ("HOLDS", 0.4, Gate(40), False),
        ("HOLDS", 0.39, Gate(40), True),
        ("BROKEN", 0.5, Gate(40), False),
        ("BROKEN", 0.5, Gate(40, ("BROKEN",)), True),
        ("ATTACK_NOT_TRUSTED", 0.9, Gate(40), True),
        ("ATTACK_NOT_TRUSTED", 0.9, Gate(None, ("BROKEN",)), True),
        ("HOLDS", math.nan, Gate(40), True),
    ],
)
def test_a_gate(word, trusted, gate, fails):
    assert bool(gate.fault(verdict(word, trusted))) == fails


@pytest.mark.parametrize("mark", ["0.4", "1", "101", "-1", "many", "nan"])
def test_a_mark_that_would_let_everything_pass_is_refused(mark):
    with pytest.raises(SparringError, match="fail-under"):
        Gate.of(mark)


def test_the_gate_of_a_command(runs):
    failed = run(runs, "report", "weak", "--fail-under", "100", "--junit", "j.xml", code=4)
    assert "gate failed: cd:bits=5 | adaptive" in failed.stderr
    suite = fromstring((runs / "j.xml").read_text())
    assert (suite.attrib["tests"], suite.attrib["failures"]) == ("1", "1")
    assert suite.find("testcase/failure") is not None
    run(runs, "report", "weak", "--junit", "j.xml", code=2)
    assert "did you mean BROKEN" in run(runs, "report", "weak", "--fail-verdict", "BROKE", code=2).stderr


def test_an_assertion_of_a_test_suite():
    about: dict[str, Any] = {"attacks": ["fgsm:eps=1/255"], "threats": ["adaptive"]}
    from sparring.testing.networks import linear_net

    with pytest.raises(AssertionError, match="its verdict is ATTACK_NOT_TRUSTED"):
        assert_robust(linear_net(scale=0.1), problem(24), at_least=0.1, **about)
    with pytest.raises(SparringError, match="40 %"):
        assert_robust(linear_net(scale=0.1), problem(24), at_least=40, **about)
    with pytest.raises(SparringError, match="nothing is asked"):
        assert_robust(linear_net(scale=0.1), problem(24), **about)


TABLE = Table("A & B", ("name", "value"), (row("a|b_1", "1.0"), row("c,d", "2.0")), ("value",))


def test_formats_escape_what_their_readers_would_take_for_their_own():
    assert list(csv.reader(io.StringIO(table_as(TABLE, "csv")))) == [
        ["name", "value"],
        ["a|b_1", "1.0"],
        ["c,d", "2.0"],
    ]
    assert r"| a\|b_1 | 1.0 |" in table_as(TABLE, "markdown")
    assert r"a|b\_1 & 1.0 \\" in table_as(TABLE, "latex")
    assert r"\caption{A \& B}" in table_as(TABLE, "latex")
    assert "<caption>A &amp; B</caption>" in table_as(TABLE, "html")
    with pytest.raises(SparringError, match="did you mean markdown"):
        table_as(TABLE, "markdow")


def test_an_evaluation_shows_itself(runs):
    result = sparring.load_evaluation(runs / "weak")
    for form in FORMATS:
        assert "cd:bits=5" in result.table(form)
    assert result.verdicts[0].line in result.table("markdown")
    last = [line["verdict"] for line in csv.DictReader(io.StringIO(result.table("csv")))]
    assert last == [result.word_on(c) or "NO_VERDICT" for c in result.closed]
    assert "<table>" in result._repr_html_()
    frame = result.to_pandas()
    assert list(frame["robust_accuracy"]) == [c.robust_accuracy for c in result.closed]
    assert sum(map(bool, frame["verdict"].tolist())) == len(result.verdicts)


words = st.text("abcdefgh:=.", min_size=1, max_size=11)
specs = st.lists(words, min_size=1, max_size=4).map(",".join)


@given(st.lists(st.tuples(specs, specs, st.just("12.5")), min_size=1, max_size=4), st.integers(40, 120))
def test_no_word_is_broken_however_narrow_the_terminal_is(rows, width):
    table = Table("t", ("defense", "attack", "robust at most"), tuple(row(*r) for r in rows), ("robust at most",))
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as said:
        console.print(draw_table(table))
    drawn = said.get()
    assert all(len(line) <= width for line in drawn.splitlines())
    for cell in (text for r in rows for text in r):
        assert all(part in drawn for part in cell.split(",") if part)


def test_columns_that_are_left_out_are_named(runs, monkeypatch):
    monkeypatch.setattr("sparring.cli.output.WIDTH", 80)
    assert "left out here: attacks" in run(runs, "report", "weak").stdout
    assert "left out here" not in run(runs, "report", "weak", "--wide").stdout


def test_the_json_keeps_to_its_published_schema(runs):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((Path(__file__).parents[2] / "docs" / "schema" / "evaluation.json").read_text())
    for name in ("weak", "strong", "other"):
        said = json.loads(run(runs, "report", name, "--json").stdout)
        jsonschema.validate(said, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**said, "cells": [{}]}, schema)


def test_a_gate_is_never_passed_by_what_it_does_not_look_at(runs, tmp_path):
    assert (
        "give one of them"
        in run(runs, "report", "weak", "--metric", "success_defense", "--fail-under", "50", code=2).stderr
    )
    dry = (
        "evaluate",
        "mnist_cnn",
        "--data",
        "mnist5k:limit=4",
        "--attack",
        "pgd:eps=0.1",
        "--dry-run",
        "--fail-under",
        "99",
    )
    assert "a dry run makes none" in run(runs, *dry, code=2).stderr
    evaluate(problem(24), tmp_path / "unbounded", attacks=["deepfool:steps=1"], defenses=("cd:bits=5",))
    unbounded = sparring.load_evaluation(tmp_path / "unbounded")
    assert all("no budget" in fault for fault in Gate(0).failures(unbounded).values())
    assert Gate(0).failures(unbounded)
    assert all("no robust accuracy" in v.line and v.word != "HOLDS" for v in unbounded.verdicts)


def test_metrics_of_a_run_that_lacks_rows_end_as_its_report_does(tmp_path):
    evaluate(problem(24), tmp_path / "cut", defenses=("cd:bits=5",), attacks=["fgsm:eps=1/255"])
    next((tmp_path / "cut" / "rows").rglob("*.parquet")).unlink()
    run(tmp_path, "report", "cut", "--metric", "success_defense", code=3)


def test_numbers_that_only_one_run_has_are_named(runs, tmp_path):
    evaluate(
        problem(24),
        tmp_path / "wide",
        defenses=("cd:bits=5", "cd:bits=4"),
        attacks=["fgsm:eps=1/255", "fgsm:eps=2/255"],
    )
    notes = compare_runs(runs / "weak", tmp_path / "wide").notes
    assert any("only in run 2: cd:bits=4, adaptive, linf 1/255" in note for note in notes)
    assert any("only in run 2: cd:bits=5, adaptive, linf 2/255" in note for note in notes)
