"""A cell in which who knows the defense was the weaker attacker is flagged beside its number, on every page."""

from __future__ import annotations

import pytest

from sparring.recipes.numbers import Number, Replay
from sparring.recipes.recipe import CellAt, Recipe
from sparring.recipes.twins import weak_twins
from sparring.report.front import front_markdown
from sparring.report.page import rendered
from sparring.report.paper import paper_sections
from sparring.report.replays import markdown
from tests.recipes.test_judging import A, recipe, share

LINE = "a/y: 45 (n = 20) under adaptive is above 30 of the paper's attacker: the adaptive attack failed (n = 100)"
CLAIM = {"test": "at_least", "a": A, "value": 1, "where": "sec. 1"}


def replay(*numbers: Number) -> Replay:
    environment = {"sparring": "0"}
    provenance = {
        "command": "sparring recipe run p/t",
        "made": "2026-11-28",
        "seeds": [0],
        "seconds": 1.0,
        "environment": environment,
    }
    return Replay("p/t", "small", {**provenance, "steps": []}, numbers, {})


def cells(*rights: tuple[str, int, int], **more) -> list[Number]:
    """(column, the paper's, the adaptive attacker's right images of 20)."""
    return [
        n
        for column, paper, known in rights
        for n in (
            share(5 * paper, labels=("a", column), **more),
            share(known, 20, labels=("a", column), seat="adaptive", **more),
        )
    ]


def plain(**more) -> Recipe:
    return recipe(CLAIM).model_copy(update={"missing": "", **more})


def test_the_weaker_one_is_found_and_nobody_else():
    found = weak_twins(plain(), replay(*cells(("x", 6, 6), ("y", 6, 9), ("z", 6, 1))))
    assert [twin.line for twin in found] == [LINE]


def test_clean_images_have_no_attacker():
    assert weak_twins(plain(), replay(*cells(("x", 6, 9), threat="clean"))) == []


def test_several_seeds_count_by_their_mean():
    numbers = [*cells(("x", 6, 9)), *cells(("x", 6, 1), seed=1)]
    assert weak_twins(plain(), replay(*numbers)) == [], "30 and 30 are not below 45 and 5"


def test_one_minus_a_quotient_is_read_the_other_way():
    quotient = plain(cell=CellAt(step="s", divisor={"step": "t"}, complement=True))
    (twin,) = weak_twins(quotient, replay(*cells(("x", 6, 9), ("y", 6, 3))))
    assert (twin.labels, twin.flag) == (("a", "y"), "below 30 of the paper's attacker: the adaptive attack failed")


def test_it_stands_beside_its_number_on_every_page():
    run = replay(*cells(("x", 6, 6), ("y", 6, 9)))
    pages = [(plain(), [run])]
    flag = "45.0 [26-66] **(above 30 of the paper's attacker: the adaptive attack failed)**"
    page = markdown("p", pages)
    assert f"- {LINE}" in page.splitlines()
    assert page.count(flag) == 1
    (row,) = [line for line in page.splitlines() if flag in line]
    assert "adaptive" in row
    assert "the adaptive attack failed in 1 cell" in front_markdown(pages)
    html = rendered("p", paper_sections(pages))
    assert html.count("the adaptive attack failed</span>") == 1
    assert "a/y: 45 (n = 20) under adaptive is above 30" in html


@pytest.mark.parametrize("known", [0, 6])
def test_where_none_failed_nothing_is_said(known):
    run = replay(*cells(("x", 6, known)))
    for page in (markdown("p", [(plain(), [run])]), front_markdown([(plain(), [run])])):
        assert "attack failed" not in page
