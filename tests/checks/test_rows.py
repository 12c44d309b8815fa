"""Checks of rows: what an attack that does nothing looks like, and what a legitimate failure does not look like."""

from __future__ import annotations

import math

import pytest
import torch

import sparring
from sparring.checks.controls import images, linear_net
from sparring.checks.rows import run_row_checks, toy_rows
from sparring.evaluation.results.cells import own


def fired(rows) -> set[str]:
    return {f.check for f in run_row_checks(rows) if not f.ok}


def test_an_attack_that_fails_in_earnest_is_no_fault():
    lost = {"source_fooled": False, "margin": -1.0, "correct": True, "k": 1, "p_select": 1.0}
    assert fired(toy_rows(**lost)) == set(), "it moved to the edge of its ball and lost"
    assert fired(toy_rows(linf=0.0, **lost)) == {"R6", "R11"}
    assert fired(toy_rows(eps=math.inf, **lost)) == {"R12"}
    assert fired(toy_rows(eps=0.0, linf=0.0, **lost)) == set(), "at eps 0 nothing may move"


def test_images_that_are_wrong_when_clean_do_not_count():
    """Their points are the clean images, found at once: no fault of the attack, and no distance of zero in the median."""
    wrong = [i < 8 for i in range(20)]
    rows = toy_rows(linf=[0.0 if w else 0.1 for w in wrong], source_clean=[not w for w in wrong])
    assert fired(rows) == set()
    assert own(rows, "none", "adaptive", "a").median_norm == 0.1


def test_one_in_ten_may_stand_still():
    for still, says in ((2, set()), (3, {"R11"})):
        lost = [i < still for i in range(20)]
        rows = toy_rows(linf=[0.0 if s else 0.1 for s in lost], source_fooled=[not s for s in lost], k=0, correct=False)
        assert fired(rows) == says


@pytest.mark.slow
def test_a_step_too_small_for_a_quantizer_is_said():
    """The demo's own row: C&W whose few steps of .0006 never cross a level of four bits read 70.0 of 70.0 in silence."""
    x, net = images(8), linear_net(scale=0.05)
    y = net(x).argmax(1).detach()
    weak = sparring.evaluate(net, (x, y), ["cd:bits=4"], ["adaptive"], ["cw:steps=12,searches=1,c=1,lr=0.0006"])
    said = [f for f in weak.findings if not f.ok and f.check == "R12"]
    assert {f.subject.split(" / ")[0] for f in said} >= {"cd:bits=4"}
    assert "its own failure" in said[0].message
    strong = sparring.evaluate(net, (x, y), ["cd:bits=4"], ["adaptive"], ["cw:steps=60,searches=5,c=1"])
    assert strong.cells[-1].robust_accuracy == 0, "with steps it crosses the quantizer"
    assert not [f for f in strong.findings if not f.ok]
    assert torch.isfinite(torch.tensor(strong.cells[-1].median_norm))


def test_a_view_that_fails_beside_one_that_wins_is_no_fault():
    """An adaptive cell tries every declared backward; those of them that are blind are why there are others."""
    lost = {
        "source_fooled": False,
        "margin": -1.0,
        "correct": True,
        "k": 1,
        "p_select": 1.0,
        "linf": 0.0,
        "view": "blind",
    }
    table = toy_rows(eps=math.inf), toy_rows(eps=math.inf, **lost)
    rows = table[0]
    rows = rows.joined(table[1])
    assert fired(rows) == set()


@pytest.mark.parametrize(("steps", "few"), [(3, True), (9, True), (10, False), (40, False)])
def test_a_few_coarse_steps_are_not_trusted(steps, few):
    lost = {"source_fooled": False, "margin": -1.0, "correct": True, "k": 1, "p_select": 1.0}
    assert ("R13" in fired(toy_rows(**lost, backwards=steps))) == few


@pytest.mark.parametrize(
    ("eps", "healed", "norm", "warns"),
    [
        (8 / 255, 3, "linf", True),
        (8 / 255, 2, "linf", False),
        (1.5 / 255, 20, "linf", False),
        (2 / 255, 20, "linf", True),
        (0.3, 20, "l2", True),
    ],
)
def test_a_number_of_rounded_points_that_reads_higher_is_doubted(eps, healed, norm, warns):
    stored = [1] * healed + [0] * (20 - healed)
    rows = toy_rows(norm=norm, eps=eps, linf=eps, l2=eps, correct=False, k=0, k_8bit=stored, k_truncated=stored)
    assert ("R14" in fired(rows)) == warns


def test_a_budget_between_two_levels_is_told_its_whole_levels():
    rows = toy_rows(eps=0.1, linf=0.1, correct=False, k=0, k_8bit=1, k_truncated=1)
    (found,) = (f for f in run_row_checks(rows) if f.check == "R14")
    assert "in whole levels (25/255)" in found.message
