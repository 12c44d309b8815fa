"""The controls of the verdict's benchmark: each can be evaluated, and is as accurate on clean images as it says."""

# pyright: reportMissingImports=false
from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("mlxtend", reason="extra demo is not installed")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import controls

from sparring.core.noise import Noise
from sparring.evaluation.records.finding import Finding
from sparring.models.small import SmallCNN
from sparring.subject import Subject
from sparring.testing.networks import conv_classifier, pictures

verdict = importlib.import_module("verdict")  # of benchmarks/

pytestmark = pytest.mark.slow
N = 16
BUILT = [c for c in controls.CONTROLS.values() if set(c.needs) <= {"plain0"}]
TRAINED = [c for c in controls.CONTROLS.values() if c not in BUILT]


def clean_accuracy(control: controls.Control, stock: controls.Stock) -> float:
    """Of the system that the verdict is about; everything that an evaluation loads is loaded."""
    target = control.build(stock)
    subject = Subject.of(target.model, stock.images(), target.defenses)
    system = subject.systems[verdict.subject_of(target)].system()
    with torch.no_grad():
        logits = system.logits(subject.images.x, Noise.of(0, "test", subject.keys), 1)[:, 0]
    assert logits.shape == (N, 10)
    assert bool(torch.isfinite(logits).all())
    return float((logits.argmax(1) == subject.images.y).double().mean())


@pytest.mark.parametrize("control", BUILT, ids=lambda c: c.name)
def test_a_control_takes_digits(control: controls.Control):
    assert clean_accuracy(control, controls.Stock("mnist", limit=N)) >= control.floor


# one of each kind, and all that bring a defense; how the others are built, test_a_control_takes_digits shows
KINDS = {c.kind: c for c in BUILT if "cifar" in c.data}
WITH_DEFENSES = [c for c in BUILT if "cifar" in c.data and c.build(controls.Stock("mnist", limit=N)).defenses]
PHOTOS = {c.name: c for c in (*KINDS.values(), *WITH_DEFENSES)}


@pytest.mark.parametrize("control", PHOTOS.values(), ids=lambda c: c.name)
def test_a_control_takes_photos(control: controls.Control, data_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(controls, "DATA", str(data_folder))
    monkeypatch.setitem(controls.SPECS, "cifar", f"{data_folder}/cifar10_test_0-699.npz")
    floor = min(control.floor, 0.1) if control.build(controls.Stock("cifar", limit=N)).defenses else control.floor
    assert clean_accuracy(control, controls.Stock("cifar", limit=N)) >= floor  # blur and few levels cost much here


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> controls.Stock:
    """With all networks: those of another architecture trained for two epochs, the shipped one in place of the others."""
    made = controls.Stock("mnist", tmp_path_factory.mktemp("controls"), N)
    shipped = next(m for m in made.base().modules() if isinstance(m, SmallCNN)).state_dict()
    for name in controls.TRAINED:
        if name in controls.MAKERS:
            controls.train(made, name, epochs=2)
        else:
            save_file(shipped, made.file(name))
    return made


@pytest.mark.parametrize("control", TRAINED, ids=lambda c: c.name)
def test_a_control_of_trained_networks_takes_digits(control: controls.Control, stock: controls.Stock):
    assert not stock.missing(control.needs)
    assert clean_accuracy(control, stock) >= control.floor - 0.2  # two epochs are few


@pytest.mark.parametrize("name", ["plain1", "noise", "adversarial", "teacher", "distilled"])
def test_training_is_reproducible_and_moves_weights(name: str, stock: controls.Stock, tmp_path: Path):
    made = [controls.Stock("mnist", tmp_path / str(i), N) for i in (1, 2)]
    for own in made:
        own.file(name).parent.mkdir()
        save_file(stock.trained("teacher").state_dict(), own.file("teacher"))
        controls.train(own, name, epochs=1, limit=64)
    one, two = (own.trained(name).state_dict() for own in made)
    assert all(bool(torch.equal(one[k], two[k])) for k in one)
    assert any(not torch.equal(one[k], v) for k, v in stock.trained(name).state_dict().items())


def test_a_network_that_was_not_trained_is_missing(tmp_path: Path):
    stock = controls.Stock("mnist", tmp_path)
    assert stock.missing(["plain0", "linear"]) == ["linear"]
    assert replace(stock, seed=1).missing(["plain0"]) == ["plain0"]


def test_halves_share_every_kind():
    halves = controls.halves()
    for kind in {c.kind for c in controls.CONTROLS.values()}:
        of_kind = [halves[c.name] for c in controls.CONTROLS.values() if c.kind == kind]
        assert of_kind.count(0) - of_kind.count(1) in (0, 1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", [c.name for c in controls.CONTROLS.values() if c.kind == "faulty attack"])
def test_a_faulty_attack_runs_in_its_ball(name: str, norm):
    images = pictures(4)
    (made,) = verdict.in_ball(controls.CONTROLS[name].attacks[0], norm, 0.1)
    found = made.run(conv_classifier().eval(), images.x, images.y, stop="never")
    share = {"budget over 255": 1 / 255, "half the budget": 0.5}.get(name, 1.0)
    assert 0 < float(found.distance.max()) <= 0.1 * share * 1.001


def test_the_worst_answer_of_a_check_is_shown():
    def found(ok: bool, severity) -> Finding:
        return Finding("S1", "", ok, severity, "A", 0.2, 0.4, "")

    said = verdict.worst_of([found(True, "FAIL"), found(False, "WARN"), found(False, "FAIL")])
    assert str(said["S1"]) == "0.2!"
    assert said["S1"].failed
    assert not verdict.worst_of([found(False, "WARN")])["S1"].failed


def test_a_row_is_read_as_it_was_kept():
    row = verdict.Row("linear", "mnist", "linf", 0.2, 0, "pool", 64, "hash")
    row = verdict.refused(row, "check P3 failed: logits differ", 1.0)
    again = verdict.Row.read(json.loads(json.dumps(asdict(row))))
    assert again.key == row.key
    assert again.failed == ["P3"]


def test_the_verdict_on_this_number_is_read():
    def given(defense: str, word: str) -> SimpleNamespace:
        return SimpleNamespace(defense=defense, norm="linf", eps=0.2, word=word, sentence="because")

    result = SimpleNamespace(verdicts=[given("none", "BROKEN"), given("blur", "NOT BROKEN YET")])
    assert verdict.verdict_of(result, "blur", "linf", 0.2) == ("NOT_BROKEN_YET", "because")
    assert verdict.verdict_of(result, "blur", "l2", 0.2) == ("-", "")
    assert verdict.verdict_of(SimpleNamespace(), "blur", "linf", 0.2) == ("-", "")
