"""Whatever can change an answer is part of its name: run ids, view ids, run folders; and what the ring passes on."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
import torch

import sparring
from sparring.checks.controls import images, linear_net
from sparring.core.errors import SparringError
from sparring.core.victim import Access, Victim
from sparring.defenses.base import Defended, defense
from sparring.evaluation.judge import Judge
from sparring.evaluation.plan.grid import make_plan
from sparring.evaluation.plan.partition import Partition
from sparring.evaluation.records.rows import read_rows
from sparring.evaluation.results.table import RowTable
from sparring.threats import Options, View, threat

BASE = Defended(linear_net(), id="a")


def plan(spec: str = "none", threats: tuple[str, ...] = ("adaptive",), attack: str = "pgd:eps=0.1", **changes: Any):
    fixed: dict[str, Any] = {"seed": 0, "options": Options(draws=4), **changes}
    fixed["options"] = {spec: fixed["options"]}
    return make_plan(
        {spec: defense(spec).install(BASE)},
        threats,
        [sparring.attack(attack)],
        judge=Judge(),
        classes=4,
        values=192,
        **fixed,
    )


def ids(*plans: Any) -> list[str]:
    return [r for p in plans for r in p.runs]


def test_runs_differ_by_everything_that_can_change_their_points():
    noisy = "gauss:std=0.1"
    found = ids(
        plan(),
        plan(seed=1),
        plan(attack="pgd:eps=0.2"),
        plan(attack="pgd:eps=0.1,steps=7"),
        plan(threats=("oblivious",)),  # the same network, but it does not stop at a success
        plan("cd:bits=3"),
        plan("cd:bits=4"),
        plan(noisy),
        plan(noisy, options=Options(draws=8)),
        plan(noisy, options=Options(draws=4, amp=True)),
        plan(noisy, ("known-w:draws=3",)),
        plan(threats=("score:queries=40",), attack="square:eps=0.1,steps=50"),
        plan(threats=("score:queries=41",), attack="square:eps=0.1,steps=50"),
        plan(noisy, ("decision:queries=40",), "boundary:eps=0.1"),
        plan(noisy, ("decision:queries=40,answers=3",), "boundary:eps=0.1"),
    )
    assert len(found) == len(set(found)) == 1 * 5 + 4 + 4 + 2 * 3 + 3 + 4


def test_repeated_draws_of_an_attack_are_runs_of_their_own():
    made = plan(threats=("noise:draws=6",), attack="noise:eps=0.1")
    assert len(made.runs) == len({r.seed for r in made.runs.values()}) == 6


def test_a_view_is_named_by_its_system_its_draws_and_its_change_of_variable():
    system = defense("gauss:std=0.1").install(BASE).system()
    victim = Victim((system,), Access.GRADIENT, 4)
    views = [View("", victim)]
    changes: list[dict[str, Any]] = [
        {"draws": 5},
        {"combine": "loss"},
        {"combine": "logits"},
        {"amp": True},
        {"answers": 3},
    ]
    views += [View("", replace(victim, **c)) for c in [*changes, {"access": Access.SCORES}]]
    views += [View("", replace(victim, systems=(replace(system, frozen=w),))) for w in (1, 2)]
    views.append(View("", replace(victim, systems=(system, system))))
    levels = threat("adaptive").seat(defense("cd:bits=3").install(BASE)).views
    assert len({v.id for v in views} | {v.id for v in levels}) == len(views) + len(levels)


def test_a_plan_costs_no_more_than_the_queries_that_are_granted():
    made = plan(threats=("score:queries=40",), attack="square:eps=0.1,steps=500")
    assert made.cost()["forwards"] == 40
    assert [c.seat.queries for c in made.cells] == [40]


def problem(count: int = 12, seed: int = 0):
    model, x = linear_net(seed=seed, scale=0.1), images(count)
    with torch.no_grad():
        return model, (x, model(x).argmax(1))


OTHER: list[tuple[str, dict[str, Any]]] = [
    ("seed", {"seed": 1}),
    ("draws", {"draws": 3}),
    ("amp", {"amp": True}),
    ("threats", {"threats": ["oblivious"]}),
    ("attacks", {"attacks": ["fgsm:eps=2/255"]}),
    ("defenses", {"defenses": ["cd:bits=4"]}),
    ("tier", {"tier": "standard"}),
    ("sources", {"sources": [linear_net(seed=9)], "threats": ["adaptive", "transfer"]}),
    ("data", {"data": (images(12, seed=5), linear_net(scale=0.1)(images(12, seed=5)).argmax(1))}),
    ("weights", {"model": linear_net(seed=1, scale=0.1)}),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("identity") / "run"
    sparring.evaluate(**arguments(out))
    return out


def arguments(out, **changes: Any) -> dict[str, Any]:
    model, data = problem()
    fixed = {"defenses": ["gauss:std=0.05"], "threats": ["adaptive"], "attacks": ["pgd:eps=2/255,steps=2"], "draws": 2}
    return {"model": model, "data": data, "block": 8, "out": out, **fixed, **changes}


@pytest.mark.slow
@pytest.mark.parametrize(("field", "changes"), OTHER)
def test_a_folder_is_resumed_by_the_same_configuration_alone(field, changes, folder):
    with pytest.raises(SparringError, match=f"differs in .*{field}"):
        sparring.evaluate(**arguments(folder, **changes))


@pytest.mark.slow
def test_what_slots_and_progress_change_is_nothing(folder):
    before = sorted(p.stat().st_mtime_ns for p in folder.rglob("*.parquet"))
    sparring.evaluate(**arguments(folder, slots=3))
    assert sorted(p.stat().st_mtime_ns for p in folder.rglob("*.parquet")) == before


def test_draws_of_the_noise_threat_are_different_points(tmp_path):
    model, data = problem(4)
    sparring.evaluate(model, data, threats=["noise:draws=5"], attacks=["noise:eps=8/255"], out=tmp_path / "run")
    rows = RowTable(read_rows(tmp_path / "run"))
    attacked = rows.where(threat="noise:draws=5")
    assert len(np.unique(rows["l2"][attacked])) == 4 * 5


def test_who_knows_the_draw_is_judged_at_it(tmp_path):
    """What fools the source at a known draw is lost at that draw, for certain; also among draws that differ."""
    model, data = problem(20)
    sparring.evaluate(
        model, data, ["gauss:std=0.5"], ["known-w:draws=4"], ["pgd:eps=4/255,steps=5"], out=tmp_path / "run"
    )
    rows = RowTable(read_rows(tmp_path / "run"))
    mine = rows.where(threat="known-w:draws=4", defense="gauss:std=0.5")
    assert rows["source_fooled"][mine].any()
    assert not (rows["source_fooled"] & rows["correct"])[mine].any()


@pytest.mark.slow
def test_a_stored_image_that_is_the_image_has_the_same_first_draw(tmp_path):
    """A budget of zero: the 8-bit copy is the point itself, so are its labels and counts."""
    model, data = problem(30)
    sparring.evaluate(
        model,
        data,
        ["gauss:std=0.5"],
        ["adaptive"],
        ["pgd:eps=0,steps=1", "fgsm:eps=1/255"],
        draws=1,
        out=tmp_path / "run",
    )
    table = read_rows(tmp_path / "run")
    rows = RowTable(table.filter(pc.field("eps") == 0))
    assert (rows["label_8bit"] == rows["label"]).all()
    assert (rows["k_8bit"] == rows["k"]).all()
    assert (rows["k_truncated"] == rows["k"]).all()
    noisy = rows.where(defense="gauss:std=0.5")
    assert not np.isin(rows["k"][noisy], (0, 20)).all(), "draws differ, or this says nothing"


def test_a_random_system_is_attacked_to_the_end(tmp_path):
    """A lucky draw does not end the attack: every step is paid by every image."""
    model, data = problem(20)
    attack = "pgd:eps=16/255,steps=5"
    sparring.evaluate(model, data, ["gauss:std=0.5"], ["adaptive"], [attack], draws=2, out=tmp_path / "run")
    rows = RowTable(read_rows(tmp_path / "run"))
    mine = rows.where(defense="gauss:std=0.5", threat="adaptive", check="")
    assert rows["source_fooled"][mine].any()
    assert (rows["backwards"][mine] >= 5 * 2).all()


def test_the_queries_of_a_seat_are_all_that_its_attack_gets(tmp_path):
    model, data = problem(6)
    attack = "square:eps=1e-4,steps=100"
    sparring.evaluate(model, data, threats=["score:queries=30"], attacks=[attack], out=tmp_path / "run")
    rows = RowTable(read_rows(tmp_path / "run"))
    named = rows.where(threat="score:queries=30", check="")
    assert rows["forwards"][named].tolist() == [30] * 6
    followed = rows.where(threat="score:queries=30", check="X2")
    assert {str(text).partition(":")[0] for text in rows.at("attack", followed)} == {"rays", "tiles"}
    assert rows["forwards"][followed].max() <= 30


def test_points_are_named_by_their_images_not_by_the_set_they_stand_in(tmp_path):
    """A grown set, or the same images in another set, has the same blocks: issue of who does work twice."""
    x, y = images(24), torch.zeros(24, dtype=torch.int64)

    def names(given: sparring.ImageSet) -> list[str]:
        blocks = Partition.of(given, 8)
        return [blocks.id(rows) for rows in blocks.slices]

    grown = sparring.ImageSet.of(x, y)
    assert names(sparring.ImageSet.of(x[:16], y[:16])) == names(grown)[:2]
    changed = [
        sparring.ImageSet.of(x, 1 - y),
        sparring.ImageSet.of(x, y, ids=[f"other {i}" for i in range(24)]),
        sparring.ImageSet.of(x.flip(0), y),
        sparring.ImageSet.of(x.float() * 0.5 + 0.001, y),
    ]
    assert len({names(s)[0] for s in [grown, *changed]}) == 5


def test_points_of_other_code_are_other_points(monkeypatch):
    """After an upgrade no point that older code made is taken for one of this code."""
    before = ids(plan())
    monkeypatch.setattr("sparring.evaluation.plan.cell.code_hash", lambda: "of an upgrade")
    assert not set(before) & set(ids(plan()))


class ReadsItsEnvironment(torch.nn.Module):
    """A network that another process can change: what it multiplies by stands in an environment variable."""

    def __init__(self) -> None:
        super().__init__()
        self.network = linear_net()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x) * float(os.environ.get("SPARRING_TEST_GAIN", "1"))


@pytest.mark.slow
@pytest.mark.parametrize(("variable", "refused"), [("1", False), ("1.0001", False), ("0.5", True), ("2", True)])
def test_a_folder_is_resumed_only_by_a_system_that_answers_as_it_did(tmp_path, monkeypatch, variable, refused):
    """Its weights and its code are the same; what it reads is not."""

    x = images(12)
    y = linear_net()(x).argmax(1)

    def run() -> Any:
        return sparring.evaluate(**arguments(tmp_path / "run", model=ReadsItsEnvironment().eval(), data=(x, y)))

    before = run()
    monkeypatch.setenv("SPARRING_TEST_GAIN", variable)
    if refused:
        with pytest.raises(SparringError, match=r"run was made while none answered otherwise \(\d+ of 28"):
            run()
    else:
        assert run().closed == before.closed
