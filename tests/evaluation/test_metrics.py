"""The five papers' metrics: each denominator by hand, published ratios where they are known, and all of them on a real run."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import sparring
from sparring.checks.controls import images, linear_net
from sparring.cli.app import app
from sparring.core.errors import SparringError
from sparring.core.registry import METRICS
from sparring.evaluation.results.load import load_rows
from sparring.evaluation.results.metrics.base import Points, Quantity, measure
from sparring.evaluation.results.stats import wilson

CLEAN = np.array([1, 1, 1, 1, 0, 0], bool)
ADV = np.array([1, 1, 0, 0, 1, 0], bool)
FOOLED = np.array([1, 0, 1, 0, 1, 1], bool)


def points(**changes) -> Points:
    count = len(changes.get("after", ADV))
    fixed = {
        "after": ADV.astype(float),
        "after_first": ADV,
        "clean": CLEAN.astype(float),
        "clean_first": CLEAN,
        "source_after": ~FOOLED,
        "source_clean": CLEAN,
        "l2": np.ones(count),
        "clean_l2": np.full(count, 10.0),
        "size": np.full(count, 3072),
        "random": False,
    }
    return Points(**{**fixed, **changes})


def ask(name: str, **changes) -> Quantity:
    return METRICS[name].ask(points(**changes))


@pytest.mark.parametrize(
    ("name", "top", "over"),
    [
        ("accuracy", 3, 6),
        ("clean_correct", 2, 4),
        ("success_defense", 1, 2),
        ("strength", 2, 4),
        ("survival", 2, 4),
        ("conditional_recovery", 1, 2),
        ("relative_accuracy", 3, 4),
        ("defense_success", 3, 4),
    ],
)
def test_each_rate_has_its_own_denominator(name, top, over):
    quantity = ask(name)
    assert quantity.n == over
    assert quantity.value == pytest.approx(top / over)


def test_every_metric_has_a_hand_count():
    assert set(METRICS) == {
        "accuracy",
        "boundary_score",
        "clean_correct",
        "conditional_recovery",
        "defense_success",
        "dissimilarity",
        "median_l2",
        "relative_accuracy",
        "strength",
        "success_defense",
        "survival",
    }


def test_a_ratio_of_accuracies_can_exceed_one():
    """C5: ACE prints 100.4 %, possible only if images wrong when clean become right."""
    assert ask("defense_success", after=np.ones(6)).value == 1.5


def test_ace_table_8_over_clean_is_table_3():
    """91.7/92.0 = 99.7 and so on: the denominator is the accuracy without the shift."""
    source = np.arange(1000) < 920
    for after, printed in ((917, 99.7), (915, 99.5), (913, 99.2), (904, 98.3)):
        right = (np.arange(1000) < after).astype(float)
        assert round(100 * ask("defense_success", after=right, source_clean=source).value, 1) == printed


def test_s2snet_relative_accuracy_of_appendix_a():
    after, clean = np.full(4, 0.672041), np.full(4, 0.75004)
    assert ask("relative_accuracy", after=after, clean=clean).value == pytest.approx(0.8960, abs=5e-5)


def test_boundary_score_in_l2():
    """PROTOCOL 2.5: S = 7.3e-6 is a median L2 of 0.150, 3.5e-5 of 0.328, at N = 3072."""
    for score, l2 in ((7.3e-6, 0.150), (3.5e-5, 0.328)):
        assert ask("boundary_score", l2=np.full(6, l2)).value == pytest.approx(score, rel=0.01)
    far = np.where(FOOLED, 2.0, 99.0)
    assert ask("boundary_score", l2=far).value == pytest.approx(4 / 3072), "points that fool nobody do not count"


def test_median_distance_is_of_the_points_that_moved_and_fool():
    far = np.where(FOOLED, 2.0, 99.0)
    assert ask("median_l2", l2=far).value == 2.0
    still = far * (np.cumsum(FOOLED) > 1)  # the first that fools was wrong when clean, and stays where it is
    assert ask("median_l2", l2=still).n == FOOLED.sum() - 1
    assert math.isnan(ask("median_l2", source_after=np.ones(6, bool)).value)


def test_dissimilarity_and_empty_sets():
    assert ask("dissimilarity", l2=np.array([1.0, 3.0] * 3)).value == pytest.approx(0.2)
    for name in ("strength", "clean_correct"):
        nobody = ask(name, clean_first=np.zeros(6, bool))
        assert math.isnan(nobody.value)
        assert math.isnan(nobody.interval(ADV, False).low)
    assert math.isnan(ask("boundary_score", source_after=np.ones(6, bool)).value)


def test_intervals_are_those_of_the_denominator():
    right = np.arange(400) % 4 > 0
    quantity = Quantity(right.astype(float), (np.arange(400) < 100).astype(float), "CC")
    assert quantity.interval(right, False)[:2] == wilson(75, 100)[:2]
    ratio = Quantity(right.astype(float), np.ones(400), "ratio", "ratio").interval(right, False)
    assert ratio.low < 0.75 < ratio.high
    assert ratio[:2] == pytest.approx(wilson(300, 400)[:2], abs=0.01)
    median = Quantity(np.arange(400.0), np.ones(400), "ALL", "median").interval(right, False)
    assert median.low < 199.5 < median.high
    assert median.high - median.low < 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out, net, x = tmp_path_factory.mktemp("metrics") / "run", linear_net(scale=0.2), images(40)
    y = net(x).argmax(1).detach()
    y[:8] = (y[:8] + 1) % 4  # wrong when clean
    attacks = ["pgd:eps=8/255,steps=5", "ddn:steps=5"]
    defenses = ["cd:bits=3", "gauss:std=0.05"]
    sparring.evaluate(
        net, (x, y), defenses, ["oblivious", "adaptive", "noise:draws=3"], [*attacks, "noise"], eps=[8 / 255], out=out
    )
    return out, net, x, y


@pytest.mark.slow
def test_all_metrics_of_a_run(folder):
    out, net, x, y = folder
    rows, evaluation = load_rows(out), sparring.load_evaluation(out)
    for name in METRICS:
        measured = measure(rows, name)
        assert len(measured) == len(evaluation.cells)
        for m in measured:
            assert math.isnan(m.value) or m.ci_low - 1e-9 <= m.value <= m.ci_high + 1e-9, (name, m)
            assert 0 <= m.n <= m.images == 40
            assert m.over
    robust = {(c.defense, c.threat, c.attack): c.robust_accuracy for c in evaluation.cells}
    for m in measure(rows, "accuracy"):
        assert m.value == robust[m.defense, m.threat, m.attack], "the same number as the table's"
    # 32 of 40 are right when clean; the source of the oblivious threat is the classifier itself
    with torch.no_grad():
        right = net(x).argmax(1) == y
    assert int(right.sum()) == 32
    oblivious = [m for m in measure(rows, "survival") if m.threat == "oblivious"]
    assert {m.n for m in oblivious} == {32}
    ddn = next(m for m in measure(rows, "dissimilarity") if m.attack == "ddn:steps=5" and m.defense == "none")
    assert 0 < ddn.value < 0.2


def test_metrics_are_asked_for_on_the_command_line(folder):
    out = str(folder[0])
    said = json.loads(CliRunner().invoke(app, ["report", out, "--metric", "success_defense,strength", "--json"]).stdout)
    assert {m["metric"] for m in said} == {"success_defense", "strength"}
    assert "own points only" in CliRunner().invoke(app, ["report", out, "--metric", "dissimilarity"]).stdout
    with pytest.raises(SparringError, match=r"unknown metric 'strenght'; did you mean strength"):
        measure(load_rows(out), "strenght")


def test_rows_of_an_older_edition_say_so(folder):
    rows = load_rows(folder[0])
    rows.columns["clean_l2"] = np.array([None] * rows.size, dtype=object)
    with pytest.raises(SparringError, match="older edition"):
        measure(rows, "accuracy")
