"""A run that takes over what another run folder has of the same images: nothing is made twice, and every row is that of a run made at once."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import sparring
from sparring.core.errors import SparringError
from sparring.evaluation.records import rows as rows_module
from sparring.evaluation.records.rows import read_rows
from sparring.testing.networks import linear_net
from tests.evaluation.test_growing import ATTACKS, evaluate, numbers, problem

FORMER, MINE = range(28), range(12, 40)


def rows_of(folder):
    """All rows in one order; block-mates differ, so numbers are equal up to rounding."""
    rows = [
        {k: f"{v:.3g}" if isinstance(v, float) else v for k, v in row.items()} for row in read_rows(folder).to_pylist()
    ]
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


def part(index):
    return problem(40).at(list(index))


@pytest.fixture
def former(tmp_path):
    evaluate(part(FORMER), tmp_path / "former")
    return tmp_path / "former"


@pytest.fixture
def fresh(tmp_path):
    evaluate(part(MINE), tmp_path / "fresh")
    return tmp_path / "fresh"


@pytest.mark.parametrize("gathered", [False, True])
def test_a_second_user_with_an_overlapping_subset(tmp_path, monkeypatch, fresh, gathered):
    monkeypatch.setattr(rows_module, "MANY", 0 if gathered else 200)
    evaluate(part(FORMER), tmp_path / "former")
    assert bool(list((tmp_path / "former" / "rows").glob("*.parquet"))) == gathered
    result = evaluate(part(MINE), tmp_path / "mine", reuse=tmp_path / "former")
    assert rows_of(tmp_path / "mine") == rows_of(fresh)
    assert numbers(result) == numbers(sparring.load_evaluation(fresh))


def test_only_new_images_are_attacked(tmp_path, monkeypatch, former):
    attacks: list[int] = []
    attack = sparring.evaluation.run.ring.Ring._attack

    def counting(self, run, rows, text):
        before = self.store.points(run.id, self.blocks.id(rows), exact=True)
        attacks.extend([] if before else [rows.stop - rows.start])
        return attack(self, run, rows, text)

    monkeypatch.setattr("sparring.evaluation.run.ring.Ring._attack", counting)
    evaluate(part(MINE), tmp_path / "mine", reuse=former, no_follow_up=True)
    runs = len(list((tmp_path / "mine" / "points").iterdir()))
    assert sum(attacks) == 12 * runs


def test_what_was_taken_over_resumes_grows_and_loses_rows_like_any_other(tmp_path, former, fresh):
    out = tmp_path / "mine"
    evaluate(part(MINE), out, reuse=former)
    for file in list((out / "rows").rglob("*.parquet"))[::2]:
        file.unlink()
    evaluate(part(MINE), out)
    assert rows_of(out) == rows_of(fresh)
    evaluate(part(range(40)), out, no_follow_up=True)
    evaluate(part(range(40)), tmp_path / "whole", no_follow_up=True)
    planned = {row for row in rows_of(out) if not json.loads(row)["check"]}  # what followed on fewer images counts on
    assert planned == set(rows_of(tmp_path / "whole"))


def test_another_attack_and_another_defense_beside_what_both_have(tmp_path, former):
    wider = {"defenses": ("cd:bits=4", "gauss:std=0.05"), "attacks": ("fgsm:eps=4/255", *ATTACKS)}
    evaluate(part(MINE), tmp_path / "mine", reuse=former, **wider)
    evaluate(part(MINE), tmp_path / "fresh", **wider)
    assert rows_of(tmp_path / "mine") == rows_of(tmp_path / "fresh")


@pytest.mark.parametrize("harm", ["points gone", "points damaged", "rows damaged", "points of another run"])
def test_what_is_not_whole_is_made_anew(tmp_path, former, fresh, harm):
    points = sorted((former / "points").rglob("*.safetensors"))
    if harm == "points gone":
        for file in points:
            file.unlink()
    elif harm == "points damaged":
        content = bytearray(points[0].read_bytes())
        content[-1] ^= 1
        points[0].write_bytes(content)
    elif harm == "points of another run":
        points[0].write_bytes(points[-1].read_bytes())
    else:
        next((former / "rows").rglob("*.parquet")).write_bytes(b"PAR1")
    evaluate(part(MINE), tmp_path / "mine", reuse=former)
    assert rows_of(tmp_path / "mine") == rows_of(fresh)


def test_another_model_another_label_and_the_folder_itself(tmp_path, former, fresh):
    with pytest.raises(SparringError, match=r"differs in .*weights"):
        sparring.evaluate(
            linear_net(scale=0.2), part(MINE), ["gauss:std=0.05"], ["adaptive"], ATTACKS, draws=2, out=tmp_path / "a", reuse=former
        )  # fmt: skip
    with pytest.raises(SparringError, match="resumed anyway"):
        evaluate(part(FORMER), former, reuse=former)
    with pytest.raises(SparringError, match=r"holds no run\.json"):
        evaluate(part(MINE), tmp_path / "b", reuse=tmp_path / "nothing")
    with pytest.raises(SparringError, match="--reuse"):
        evaluate(part(MINE), former)
    labels = part(MINE).y.clone()
    labels[:2] = (labels[:2] + 1) % 3
    relabeled = replace(part(MINE), y=labels)
    evaluate(relabeled, tmp_path / "mine", reuse=former)
    evaluate(relabeled, tmp_path / "other")
    assert rows_of(tmp_path / "mine") == rows_of(tmp_path / "other")
