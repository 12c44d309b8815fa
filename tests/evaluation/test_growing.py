"""A run folder that grows: what was made is kept, only what is new is made, and every number is that of a run made at once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import sparring
from sparring.core.errors import SparringError
from sparring.data.images import ImageSet
from sparring.evaluation.plan.partition import Partition
from sparring.evaluation.records.rows import read_rows
from sparring.evaluation.results.load import whole_images
from sparring.evaluation.results.table import CLEAN, RowTable
from sparring.evaluation.run.ring import Ring
from sparring.testing.networks import linear_net
from sparring.verdict.gate import Gate
from tests.evaluation.test_identity import images

ATTACKS = ["pgd:eps=4/255,steps=3"]


def problem(count: int) -> ImageSet:
    """The first so many of one set of images, as ids and labels say."""
    x = images(40)
    with torch.no_grad():
        y = linear_net(scale=0.1)(x).argmax(1)
    return ImageSet.of(x[:count], y[:count])


def evaluate(data, out, defenses=("gauss:std=0.05",), attacks=ATTACKS, threats=("adaptive",), **fields):
    model = linear_net(scale=0.1)
    return sparring.evaluate(
        model, data, list(defenses), list(threats), list(attacks), draws=2, block=8, out=out, **fields
    )


@pytest.fixture
def attacked(monkeypatch):
    """How many points were made."""
    count: Counter[str] = Counter()
    points = sparring.evaluation.records.store.Store.put_points

    def counting(self, run, block, tensors):
        count["points"] += len(tensors["x"])
        return points(self, run, block, tensors)

    monkeypatch.setattr("sparring.evaluation.records.store.Store.put_points", counting)
    return count


def numbers(result):
    """What an evaluation says, without where and when."""
    return sorted(str(c.json()) for c in (*result.cells, *result.closed))


@pytest.mark.parametrize("small", [5, 20])
def test_a_set_that_grows_has_only_its_new_images_attacked(tmp_path, attacked, small):
    evaluate(problem(small), tmp_path / "run", no_follow_up=True)
    before = attacked.pop("points")
    grown = evaluate(problem(28), tmp_path / "run", no_follow_up=True)
    assert attacked.pop("points") * small == before * (28 - small)
    assert numbers(grown) == numbers(evaluate(problem(28), tmp_path / "at once", no_follow_up=True))


def test_what_followed_before_a_run_grew_counts_on(tmp_path):
    """The images that were left then are no longer those that are left: more was tried than at once, never less."""
    evaluate(problem(20), tmp_path / "run")
    grown, whole = evaluate(problem(28), tmp_path / "run"), evaluate(problem(28), tmp_path / "at once")
    for one, other in zip(grown.closed, whole.closed, strict=True):
        assert (one.defense, one.threat, one.n) == (other.defense, other.threat, other.n)
        assert one.attacks >= other.attacks
        assert one.random or one.robust_accuracy <= other.robust_accuracy


def test_another_order_is_the_same_run(tmp_path, attacked):
    first = evaluate(problem(20), tmp_path / "run")
    attacked.clear()
    data = problem(20)
    again = evaluate(data.at([*range(10, 20), *range(10)]), tmp_path / "run")
    assert attacked["points"] == 0
    assert numbers(again) == numbers(first)


def test_a_defense_a_threat_and_an_attack_may_be_added(tmp_path, attacked):
    evaluate(problem(12), tmp_path / "run", no_follow_up=True)
    attacked.clear()
    wider = {
        "defenses": ("gauss:std=0.05", "cd:bits=4"),
        "threats": ("adaptive", "oblivious"),
        "attacks": (*ATTACKS, "fgsm:eps=4/255"),
        "no_follow_up": True,
    }
    grown = evaluate(problem(12), tmp_path / "run", **wider)
    mine = attacked.pop("points")
    whole = evaluate(problem(12), tmp_path / "at once", **wider)
    assert 0 < mine < attacked["points"]
    assert numbers(grown) == numbers(whole)


@pytest.mark.parametrize(
    ("field", "less"),
    [
        ("data", {"data": 12}),
        ("defenses", {"defenses": ()}),
        ("attacks", {"attacks": ("fgsm:eps=4/255",)}),
        ("threats", {"threats": ("oblivious",)}),
    ],
)
def test_a_folder_that_holds_more_is_refused_and_left_as_it_was(tmp_path, field, less):
    evaluate(problem(20), tmp_path / "run")
    record = (tmp_path / "run" / "run.json").read_bytes()
    with pytest.raises(SparringError, match=f"differs in {field}"):
        evaluate(problem(less.pop("data", 20)), tmp_path / "run", **less)
    assert (tmp_path / "run" / "run.json").read_bytes() == record


def test_rows_of_what_is_no_longer_asked_make_no_image_whole():
    """A grown run asks two runs of every image; one image has one of them, and one of a follow-up of the former run."""
    table = pa.table(
        {"image": ["a", "a", "a", "b", "b", "b"], "run": [CLEAN, "r1", "r2", CLEAN, "r1", "follow-up before"]}
    )
    record = {"rows_per_image": 3, "runs": ["r1", "r2"], "images": 2, "complete": True}
    whole, missing = whole_images(RowTable(table), record)
    assert set(whole["image"]) == {"a"}
    assert "1 of 2 images" in missing


def test_a_folder_that_grew_and_was_interrupted_counts_no_image_as_whole_that_is_not(tmp_path, monkeypatch):
    """Of a grown run no image is through before the new defense has it."""
    evaluate(problem(20), tmp_path / "run")

    def stop(self, rows):
        raise KeyboardInterrupt

    monkeypatch.setattr(Ring, "_block", stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate(problem(20), tmp_path / "run", defenses=("gauss:std=0.05", "cd:bits=4"))
    torn = sparring.load_evaluation(tmp_path / "run")
    assert "0 of 20 images" in torn.missing
    assert not torn.headlines


def test_blocks_keep_what_was_and_put_what_is_new_behind_it():
    small = Partition.of(problem(10), 4)
    data = problem(17)
    order = [16, *range(15, -1, -1)]
    grown = Partition.of(data.at(order), 5, small.names)
    assert grown.names[:3] == small.names
    assert [rows.stop - rows.start for rows in grown.slices] == [4, 4, 2, 5, 2]
    assert grown.images.ids == tuple(map(str, [*range(10), 16, *range(15, 9, -1)]))
    assert grown.around(10) == slice(10, 15)


def points_of(folder):
    return {f: sum(len(v.numpy().tobytes()) for v in load_file(f).values()) for f in folder.glob("points/*/*")}


@pytest.mark.usefixtures("brief")
def test_what_is_kept_of_points_changes_no_row(tmp_path):
    """8-bit images of who fell, floats of who survived; all floats; nothing at all: the rows and what a second run says are the same."""
    fields = {"defenses": ("cd:bits=4",), "attacks": (*ATTACKS, "ddn:steps=5"), "threats": ("oblivious", "adaptive")}
    for keep in ("8bit", "float", "none"):
        evaluate(problem(20), tmp_path / keep, **fields, keep=keep)
    rows = {keep: read_rows(tmp_path / keep).to_pylist() for keep in ("8bit", "float", "none")}
    assert str(rows["8bit"]) == str(rows["float"]) == str(rows["none"])
    small, large = points_of(tmp_path / "8bit"), points_of(tmp_path / "float")
    assert not (tmp_path / "none" / "points").exists()
    assert 0 < sum(small.values()) < sum(large.values())
    nearest = {row["run"] for row in rows["float"] if row["eps"] == float("inf")}
    for file, size in small.items():
        whole = tmp_path / "float" / file.relative_to(tmp_path / "8bit")
        tensors = load_file(file)
        assert (file.parent.name in nearest) <= (size == points_of(tmp_path / "float")[whole])
        if "kept" in tensors:
            assert torch.equal(tensors["kept"], (~tensors["success"]).nonzero()[:, 0])
            assert torch.equal(tensors["x"], load_file(whole)["x"][tensors["kept"]])


@pytest.mark.usefixtures("brief")
def test_rows_that_are_lost_are_not_judged_on_8_bit_points(tmp_path, attacked):
    """A point that fell as a float may be right as an 8-bit image: what is kept of it makes no row."""
    evaluate(problem(20), tmp_path / "run")
    before = read_rows(tmp_path / "run").to_pylist()
    stamps = {f: f.read_bytes() for f in (tmp_path / "run").glob("points/*/*")}
    compact = {f.parent.name for f in stamps if "kept" in load_file(f)}
    lost = next(f for f in (tmp_path / "run").glob("rows/*/*") if compact & set(pq.read_table(f)["run"].to_pylist()))
    lost.unlink()
    attacked.clear()
    evaluate(problem(20), tmp_path / "run")
    assert attacked["points"] > 0
    assert str(read_rows(tmp_path / "run").to_pylist()) == str(before)
    assert {f: f.read_bytes() for f in stamps} == stamps
    attacked.clear()
    evaluate(problem(20), tmp_path / "run")
    assert attacked["points"] == 0


def test_without_follow_up_the_doubts_stay_and_nothing_holds(tmp_path):
    """A check that fails asks for attacks, and more budget is tried; who leaves them out has their doubts in the verdict, and passes no gate."""
    about = {"attacks": ["fgsm:eps=1/255"], "defenses": ("cd:bits=2",), "limit": 12}
    with_them = evaluate(problem(24), tmp_path / "with", **about)
    without = evaluate(problem(24), tmp_path / "without", no_follow_up=True, **about)
    assert {str(c.attack) for c in without.cells} == {"fgsm:eps=1/255"}
    checks = [set(read_rows(tmp_path / name)["check"].unique().to_pylist()) for name in ("with", "without")]
    assert len(checks[0]) > 1
    assert checks[1] == {""}
    assert all(v.word not in ("HOLDS", "NOT_BROKEN_YET") for v in without.verdicts)
    assert "--no-follow-up" not in "".join(v.next for v in without.verdicts)
    assert all(
        "leave --no-follow-up out" in Gate(0.0).fault(replace(v, word="NOT_BROKEN_YET")) for v in without.verdicts
    )
    assert not any("--no-follow-up" in Gate(0.0).fault(v) for v in with_them.verdicts)
    again = evaluate(problem(24), tmp_path / "without", **about)
    assert numbers(again) == numbers(with_them)
