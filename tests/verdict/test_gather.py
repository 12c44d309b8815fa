"""Evidence from rows and findings: what is suspect, what was answered by a break, what a comparison is worth."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from sparring.evaluation.records.finding import Finding, Severity
from sparring.evaluation.records.rows import SCHEMA
from sparring.evaluation.results.closed import closed
from sparring.evaluation.results.stats import gain_bounds, mean_gain_bounds
from sparring.evaluation.results.table import CLEAN, RowTable
from sparring.verdict.evidence import Evidence
from sparring.verdict.gather import evidence_of
from sparring.verdict.rules import verdict_of

EPS = 0.1
FACTS = {
    "adaptive": {"name": "adaptive", "dominated": ["adaptive", "decision"], "grants": "GRADIENT", "adaptive": True},
    "decision": {"name": "decision", "dominated": ["decision"], "grants": "LABEL"},
}
COUNT = 20


def cell(defense: str, robust: int, threat: str = "adaptive", **changes) -> list[dict]:
    """Rows of one attack on a system: the first ``robust`` of the images stay right."""
    blank = {f.name: "" if f.type == pa.string() else False if f.type == pa.bool_() else 0 for f in SCHEMA}
    about = {**blank, "defense": defense, "norm": "linf", "pooled": True, "feasible": True, "draws": 1, "lattice": True}
    rows = []
    for i in range(COUNT):
        right = i < robust
        clean = {"threat": CLEAN, "attack": "none", "run": CLEAN, "correct": True, "k": 1, "k_8bit": 1, "p_select": 1.0}
        mine = {"threat": threat, "attack": "a", "run": f"r{threat}", "kind": "iterative", "eps": EPS, "linf": EPS}
        judged = {"correct": right, "k": int(right), "k_8bit": int(right), "p_select": float(right)}
        rows += [{**about, "image": f"i{i:02d}", **clean}, {**about, "image": f"i{i:02d}", **mine, **judged, **changes}]
    return rows


def table(*cells: list[dict]) -> RowTable:
    rows = [row for rows in cells for row in rows]
    distinct = {(r["defense"], r["image"], r["threat"], r["run"], r["eps"]): r for r in rows}
    return RowTable(pa.Table.from_pylist(list(distinct.values()), schema=SCHEMA), threats=FACTS)


def fault(check: str = "X6", ok: bool = False, severity: Severity = "FAIL", images=(), **about) -> Finding:
    return Finding(check, about.pop("subject", ""), ok, severity, "A", 0.0, 1.0, "why", images=tuple(images), **about)


def gathered(rows: RowTable, *findings: Finding, defense: str = "d", threat: str = "adaptive", **asked) -> Evidence:
    result = closed(rows, defense, threat, "linf", EPS)
    return evidence_of(rows, findings, result, tier="quick", classes=10, **asked)


def test_a_failed_check_makes_its_surviving_images_suspect():
    rows = table(cell("d", 8))
    e = gathered(rows, fault(images=["i00", "i01", "i19"]), fault("S1", images=["i01"]))
    assert e.suspects == {"i00": ("X6",), "i01": ("X6", "S1")}, "i19 is broken: that answers the check"
    assert e.suspect == pytest.approx(0.1)
    assert e.trusted == pytest.approx(0.3)
    assert {f.check for f in e.open} == {"X6", "S1"}


def test_one_that_names_no_image_speaks_against_all_that_is_left():
    e = gathered(table(cell("d", 8)), fault())
    assert (e.suspect, e.trusted) == (pytest.approx(0.4), pytest.approx(0))


@pytest.mark.parametrize(
    "finding",
    [
        fault(images=["i19"]),
        fault(ok=True),
        fault(severity="WARN"),
        fault(defense="other"),
        fault(threat="oblivious"),
        fault(norm="linf", eps=0.2),
    ],
)
def test_what_a_break_answered_or_is_about_something_else_is_not_open(finding):
    e = gathered(table(cell("d", 8)), finding)
    assert (e.open, e.suspects, e.suspect) == ((), {}, 0)


def test_nothing_is_open_where_nothing_survived():
    assert gathered(table(cell("d", 0)), fault()).open == ()


def test_an_idle_stage_and_a_fatal_check_are_no_faults_of_the_attacks():
    idle = fault("P12", subject="d / blur", defense="d")
    e = gathered(table(cell("d", 8)), idle, fault("R0", severity="FATAL"))
    assert (e.idle, e.open, [f.check for f in e.fatal]) == (("blur",), (), ["R0"])


@pytest.mark.parametrize(("undefended", "suspect"), [(8, 0.0), (4, 0.4)])
def test_an_idle_stage_that_seems_to_gain_has_the_wrong_gradient(undefended, suspect):
    """x.clamp(0, 1) changes no image and read 25 points above the network without it."""
    rows = table(cell("d", 8), cell("none", undefended))
    e = gathered(rows, fault("P12", subject="d / clamp", defense="d"))
    assert e.suspect == pytest.approx(suspect)
    assert verdict_of(e).word == ("ATTACK_NOT_TRUSTED" if suspect else "ADDS_NOTHING")


def test_kinds_and_labels_are_those_that_went_for_this_ball():
    query = {"kind": "query", "run": "q", "access": "label"}
    assert gathered(table(cell("d", 8))).kinds == {"iterative"}
    near = gathered(table(cell("d", 8), cell("d", 9, "decision", **query, linf=0.5, feasible=True)))
    assert (near.kinds, near.labels_only) == ({"iterative", "query"}, True)
    smaller = gathered(table(cell("d", 8), cell("d", 9, "decision", **query, eps=0.01, linf=0.01)))
    assert (smaller.kinds, smaller.labels_only) == ({"iterative"}, False)
    nearest = gathered(table(cell("d", 8), cell("d", 9, "decision", **query, eps=math.inf, linf=0.5)))
    assert (nearest.kinds, nearest.labels_only) == ({"iterative", "query"}, True)


def test_the_gain_is_paired_and_never_over_itself_or_what_was_not_attacked():
    rows = table(cell("d", 8), cell("none", 5))
    e = gathered(rows, baseline="none")
    assert (e.baseline_robust, e.gain) == (0.25, pytest.approx(0.15))
    assert e.gain_lower < 0.15 < e.gain_upper
    assert math.isnan(gathered(rows).gain), "no baseline was named"
    assert math.isnan(gathered(rows, baseline="d").gain)
    assert math.isnan(gathered(rows, defense="none", baseline="d").gain)
    untouched = [row for row in cell("none", 5) if row["threat"] == CLEAN]
    assert math.isnan(gathered(table(cell("d", 8), untouched), baseline="none").gain)


def test_the_suite_is_shown_to_break_the_undefended_model_here_or_in_a_larger_ball():
    assert gathered(table(cell("d", 8), cell("none", 0))).undefended_broken
    assert not gathered(table(cell("d", 8), cell("none", 5))).undefended_broken
    large = cell("none", 0, eps=0.5, linf=0.5, run="large")
    assert gathered(table(cell("d", 8), cell("none", 5), large)).undefended_broken
    assert not gathered(
        table(cell("d", 8), cell("none", 5), cell("d", 0, eps=0.5, linf=0.5, run="l"))
    ).undefended_broken
    assert gathered(table(cell("d", 8), cell("none", 5)), fault("X5", ok=True, defense="none")).undefended_broken


def test_more_budget_converged_or_did_not_or_was_not_tried():
    rows = table(cell("d", 8))
    assert gathered(rows).converged is None
    assert gathered(rows, fault("X2", ok=True)).converged is True
    assert gathered(rows, fault("X2", ok=True), fault("X2", images=["i00"])).converged is False


def test_a_threat_whose_facts_say_nothing_is_not_adaptive():
    assert gathered(table(cell("d", 8))).adaptive
    assert not gathered(table(cell("d", 8, "decision")), threat="decision").adaptive


def test_no_difference_is_no_certainty():
    same = np.ones(32)
    low, high, _ = gain_bounds(same, same)
    assert (low, high) == (pytest.approx(-0.0894, abs=1e-4), pytest.approx(0.0894, abs=1e-4))
    assert mean_gain_bounds(same, same, same, same).high == pytest.approx(high)
    low, high, _ = mean_gain_bounds(np.full(100, 0.5), np.full(100, 0.5), np.arange(100) % 2, np.arange(100) % 2)
    assert low < 0 < high


@pytest.mark.parametrize(("n", "won", "lost"), [(32, 0.02, 0.0), (32, 0.05, 0.05), (128, 0.05, 0.02), (500, 0.3, 0.2)])
def test_bounds_of_a_gain_miss_it_in_one_run_of_twenty_at_most(n, won, lost):
    rng, above, below, runs = np.random.default_rng(0), 0, 0, 1000
    for _ in range(runs):
        delta = rng.choice([1, -1, 0], n, p=[won, lost, 1 - won - lost])
        low, high, _ = gain_bounds((delta > 0).astype(float), (delta < 0).astype(float))
        above, below = above + (won - lost > high), below + (won - lost < low)
    assert max(above, below) <= 0.065 * runs
