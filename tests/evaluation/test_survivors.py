"""Attacks on survivors alone: equal numbers, in which order, what an attack's own number is of, and that a mask is still seen."""

from __future__ import annotations

import math
import shutil
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

import sparring
from sparring.attacks.attack import Attack
from sparring.checks.controls import images, linear_net
from sparring.checks.rows import toy_rows
from sparring.defenses.base import Defended, defense
from sparring.evaluation.judge import Judge
from sparring.evaluation.plan.budgets import with_budgets
from sparring.evaluation.plan.grid import make_plan
from sparring.evaluation.plan.stages import ORDER
from sparring.evaluation.records.rows import SCHEMA, read_rows
from sparring.evaluation.results.load import load_rows
from sparring.evaluation.results.metrics.base import measure
from sparring.evaluation.results.table import CLEAN
from sparring.evaluation.run.survivors import Survivors
from sparring.evaluation.run.trial import white_cells
from sparring.report.sections.attacks import cells_table
from sparring.testing.networks import labels

ATTACKS = ["fgsm", "square:steps=30", "random_search:steps=20", "pgd:steps=5"]
BASE = linear_net(scale=0.1)


def problem(count: int = 24) -> tuple[torch.nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    x = images(count)
    y = labels(BASE, x)
    y[::9] = (y[::9] + 1) % 4  # some wrong when clean
    return BASE, (x, y)


def evaluated(out=None, **changes: Any) -> sparring.Evaluation:
    fixed = {"defenses": ["cd:bits=4"], "attacks": ATTACKS, "eps": ["2/255", "6/255"], "out": out}
    return sparring.evaluate(*problem(), **{**fixed, **changes})


def numbers(result: sparring.Evaluation) -> dict[tuple[Any, ...], tuple[float, float]]:
    return {(c.defense, c.threat, c.eps): (c.robust_accuracy, c.clean_accuracy) for c in result.closed}


def test_numbers_are_those_of_attacks_on_all_images():
    all_images, left = evaluated(survivors=False), evaluated(survivors=True)
    assert numbers(all_images) == numbers(left)
    assert any(0 < robust < clean for robust, clean in numbers(left).values())

    def spent(result):
        return sum(c.n * c.forwards_per_image for c in result.cells)

    assert spent(left) < 0.7 * spent(all_images)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"block": 5}, {"slots": 3}, {"limit": 11}])
def test_an_image_is_attacked_the_same_way_in_any_company(tmp_path, changes):
    places = tmp_path / "one", tmp_path / "two"
    evaluated(places[0], survivors=True)
    evaluated(places[1], survivors=True, **changes)
    keys = ["defense", "threat", "attack", "view", "run", "image"]
    what = [*keys, "linf", "forwards", "stopped", "label"]
    # whom a check asks to attack once more is named by all survivors
    tables = [
        read_rows(p).filter(pc.field("check") == "").sort_by([(k, "ascending") for k in keys]).select(what).to_pylist()
        for p in places
    ]
    there = {r["image"] for r in tables[1]}
    assert [r for r in tables[0] if r["image"] in there] == tables[1]


@pytest.mark.slow
def test_points_that_are_gone_are_made_as_they_were(tmp_path):
    """Whom a run spares is read off the rows of what ran before it, never of what came after."""
    evaluated(tmp_path / "run", survivors=True)
    before = {f: f.read_bytes() for f in (tmp_path / "run").glob("points/*/*")}
    assert before
    for file in before:
        file.write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="is made anew"):
        evaluated(tmp_path / "run", survivors=True)
    assert {f: f.read_bytes() for f in (tmp_path / "run").glob("points/*/*")} == before


def test_who_was_spared_for_an_attack_that_is_weaker_when_it_is_made_again_is_attacked_after_all(tmp_path, monkeypatch):
    """On another machine, say. What stood in the later rows would be a number that nothing had attacked."""
    small = {"survivors": True, "eps": ["6/255"], "attacks": ["pgd:steps=5", "square:steps=30"], "limit": 12}
    evaluated(tmp_path / "run", **small)
    ours, on = sparring.attack("pgd").method, Attack.on

    def weak(self, victim, batch, options=None):
        outcome = on(self, victim, batch, options)
        return outcome.put(x=batch.clean.clone()) if type(self.method) is type(ours) else outcome

    monkeypatch.setattr(Attack, "on", weak)
    fresh = evaluated(tmp_path / "fresh", **small)
    first = {r["run"] for r in read_rows(tmp_path / "run").to_pylist() if r["attack"].startswith("pgd")}
    for run in first:
        for file in (tmp_path / "run" / "points" / run).glob("*"):
            file.write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="spared images that are right now"):
        again = evaluated(tmp_path / "run", **small)
    assert numbers(again) == numbers(fresh)
    what = ["defense", "threat", "attack", "run", "image", "stopped", "p_select"]
    said = [
        sorted(map(str, read_rows(tmp_path / folder).filter(pc.field("check") == "").select(what).to_pylist()))
        for folder in ("run", "fresh")
    ]
    assert said[0] == said[1]


@pytest.mark.slow
def test_a_folder_without_its_points_is_resumed_and_says_the_same(tmp_path):
    """To save disk. Nothing is attacked anew, not for pictures either: those that are there stay."""
    before = evaluated(tmp_path / "run", survivors=True)
    shutil.rmtree(tmp_path / "run" / "points")
    pictures = {f.name: f.read_bytes() for f in (tmp_path / "run" / "pictures").iterdir()}
    assert numbers(evaluated(tmp_path / "run", survivors=True)) == numbers(before)
    assert {f.name: f.read_bytes() for f in (tmp_path / "run" / "pictures").iterdir()} == pictures
    shutil.rmtree(tmp_path / "run" / "pictures")
    assert numbers(evaluated(tmp_path / "run", survivors=True)) == numbers(before)
    assert not (tmp_path / "run" / "points").exists()


def plan(attacks, threats=("oblivious", "adaptive"), spec="cd:bits=4", survivors=True):
    systems = {name: defense(name).install(Defended(BASE, id="a")) for name in ("none", spec)}
    made = [sparring.attack(a) for a in attacks]
    return make_plan(systems, threats, made, judge=Judge(), seed=0, classes=4, values=192, survivors=survivors)


def test_gradients_come_first_of_whoever_inherits_most_then_what_knows_less():
    made = plan(["square:eps=.1", "fgsm:eps=.1", "pgd:eps=.1", "pgd:eps=.05"])
    kinds = [ORDER.index(c.attack.method.kind) for c in made.cells]
    assert kinds == sorted(kinds)
    first = [(c.threat.name, c.attack.budget) for c in made.cells[:4]]
    assert first == [("adaptive", 0.05)] * 2 + [("adaptive", 0.1)] * 2


def test_who_goes_on_to_the_end_first_stops_at_a_success_as_the_adaptive_attacker_does():
    made = plan(["pgd:eps=.1"])
    oblivious = [c for c in made.cells if c.threat.name == "oblivious"]
    near, far = [c for c in oblivious if not c.runs[0].on_from], [c for c in oblivious if c.runs[0].on_from]
    white = next(c for c in made.cells if (c.defense, c.threat.name) == ("none", "adaptive"))
    assert {r.id for c in near for r in c.runs} == {white.runs[0].id}
    assert {r.on_from for c in far for r in c.runs} == {white.runs[0].id}
    assert made.cells.index(far[0]) > max(made.cells.index(c) for c in near)


def test_what_follows_a_failed_check_goes_on_to_the_end_as_its_threat_does():
    made = plan(["pgd:eps=.1"], ("oblivious",))
    (cells,) = [cells for number, cells in white_cells(made).items() if number[0] == "cd:bits=4"]
    assert [c.seat.stop for c in cells] == ["never", "success"]


@pytest.mark.parametrize(
    ("attack", "threat"), [("ddn", "oblivious"), ("ddn", "adaptive"), ("noise:eps=.1", "noise"), ("pgd:eps=.1", "bait")]
)
def test_where_every_image_has_its_own_number_every_image_is_attacked(attack, threat):
    assert not any(r.on_from for c in plan([attack], (threat,)).cells for r in c.runs)
    before = ["cw:steps=3,searches=1"] if attack == "ddn" else []
    result = sparring.evaluate(*problem(), ["cd:bits=4"], [threat], [*before, attack], survivors=True)
    assert all(c.n == c.images for c in result.cells)


def test_gradient_attacks_look_at_all_images_of_a_random_system():
    """Ten draws that are all lost do not show that the worst point is there."""
    attacks = [*ATTACKS, "apgd:steps=5"]
    result = evaluated(
        survivors=True, defenses=["gauss:std=0.05"], threats=["adaptive"], eps=["6/255"], attacks=attacks
    )
    own = {(c.defense, c.attack.partition(":")[0]): c for c in result.cells}
    assert own["gauss:std=0.05", "pgd"].n == own["gauss:std=0.05", "apgd"].n == 24
    assert own["none", "apgd"].n < 24
    assert own["gauss:std=0.05", "square"].n < 24


@pytest.mark.slow
def test_an_attacks_own_number_says_what_it_is_of(tmp_path):
    result = evaluated(tmp_path / "run", survivors=True)
    first = [c for c in result.cells if c.attack.startswith("pgd") and c.eps == 2 / 255]
    assert all(c.n == 24 for c in first)  # wrong when clean or not
    left = [c for c in result.cells if 0 < c.n < c.images]
    assert left
    assert all(c.images == 24 for c in result.cells)
    text = str(cells_table(result.cells))
    assert f"of {left[0].n} left, {left[0].n * left[0].robust_accuracy:.3g}" in text
    assert "accuracy over all images" not in text
    for said in measure(load_rows(tmp_path / "run"), "accuracy"):
        cell = next(
            c for c in result.cells if (c.defense, c.threat, c.attack) == (said.defense, said.threat, said.attack)
        )
        assert (said.n, said.images) == (cell.n, 24)
        assert ("left" in said.over) == (cell.n < 24)
        assert said.value == pytest.approx(cell.robust_accuracy, nan_ok=True)


def test_a_spared_image_has_a_row_that_counts_nowhere(tmp_path):
    evaluated(tmp_path / "run", survivors=True)
    rows = load_rows(tmp_path / "run")
    assert rows.spared.any()
    assert rows["forwards"][rows.spared].sum() == 0
    assert not rows["source_fooled"][rows.spared].any()
    assert (rows["linf"][rows.spared] == 0).all()


def judged(made, threat: str, defense: str, **changes: Any) -> list[pa.Table]:
    """Clean rows of ten images and of one attack's points, as ``Survivors`` reads them."""
    about = {
        "defense": defense,
        "threat": threat,
        "norm": "linf",
        "eps": 0.1,
        "run": made.cells[0].runs[0].id,
        **changes,
    }
    rows = toy_rows(10, **about)
    clean = rows["threat"] == CLEAN
    changed = {"defense": np.full(rows.size, defense), "k_8bit": np.where(clean, 1, rows["k_8bit"])}
    columns = {k: changed.get(k, rows[k]) for k in SCHEMA.names}
    return [pa.table({k: v[mask] for k, v in columns.items()}, schema=SCHEMA) for mask in (clean, ~clean)]


def test_an_image_that_is_right_once_it_is_stored_is_attacked_further():
    made = plan(["pgd:eps=.1", "square:eps=.1"], ("adaptive",))
    clean, attacked = judged(made, "adaptive", "none", k_8bit=[0, 1] * 5, k=0, p_select=0.0)
    last = next(c for c in made.cells if (c.defense, c.attack.method.kind) == ("none", "query"))
    before = {-1: [clean], 0: [attacked]}
    left = Survivors(made).left(last.runs[0], lambda number: before.get(number, []))
    assert left == {f"i{i:03d}" for i in range(1, 10, 2)}


def test_a_shared_run_attacks_what_any_of_its_cells_needs():
    """An oblivious attack is one run for all defenses: where one of them still stands it is attacked, whatever became of the others."""
    made = plan(["pgd:eps=.1", "square:eps=.1"], ("oblivious",))
    tables: list[pa.Table] = []
    for system, lost in (("none", 0.0), ("cd:bits=4", 1.0)):
        tables += judged(made, "oblivious", system, p_select=[lost] * 5 + [0.0] * 5, k_8bit=0, k=0)
    before = {-1: tables[::2], 0: tables[1::2]}
    shared = next(c for c in made.cells if c.attack.method.kind == "query").runs[0]
    assert Survivors(made).left(shared, lambda number: before.get(number, [])) == {f"i{i:03d}" for i in range(5)}


class Masked(torch.nn.Module):
    """A linear classifier whose scores are rounded: its gradient is zero."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = BASE

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.inner(x)
        return logits + ((logits * 4).round() / 4 - logits).detach() - logits + logits.detach()


def test_what_a_gradient_attack_missed_is_still_found_by_less(tmp_path):
    """The alarm of masked gradients needs the white-box attack's own number: it looks at all images before anything else does."""
    x = images(24)
    model = Masked().eval()
    result = sparring.evaluate(
        model,
        (x, labels(model, x)),
        attacks=["pgd:steps=20", "square:steps=100"],
        eps=["6/255"],
        threats=["adaptive"],
        survivors=True,
    )
    pgd = next(c for c in result.cells if c.attack.startswith("pgd"))
    assert pgd.n == 24
    failed = {f.check for f in result.findings if not f.ok}
    assert failed & {"X6", "G1", "S1"}
    assert result.verdicts[0].word != "NOT_BROKEN_YET"


def test_a_tiers_attacks_look_at_survivors_and_named_ones_at_all():
    given = {"model": "m", "data": "d"}
    spec = sparring.EvaluationSpec.of
    assert spec(**given).on_survivors
    assert not spec(**given, attacks=["pgd"]).on_survivors
    assert spec(**given, attacks=["pgd"], survivors=True).on_survivors
    assert not spec(**given, survivors=False).on_survivors


def test_a_tiers_search_by_labels_looks_in_the_ball_and_so_at_survivors():
    """A thousand queries on images that are lost were most of a standard evaluation."""
    given = [sparring.attack(text) for text in ("hopskipjump:norm=linf,queries=10", "ddn")]
    of_tier = with_budgets(given, (0.1,), (1, 28, 28), of_tier=True)
    assert [a.budget for a in of_tier] == [0.1, math.inf]
    assert all(math.isinf(a.budget) for a in with_budgets(given, (0.1,), (1, 28, 28)))
