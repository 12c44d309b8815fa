"""Trackers: what TensorBoard's own reader finds in the file is what was measured; what others are given; what is refused before any work."""

import json
import sys
from types import ModuleType

import numpy as np
import pytest
import torch

import sparring
from sparring.checks.controls import images, linear_net
from sparring.core.errors import SparringError
from sparring.core.spec import ball
from sparring.core.trackers import KINDS, Log
from tests.faults.commands import EVALUATE, FACTORY, say

pytest.importorskip("accelerate", reason="extra train is not installed")


@pytest.fixture(scope="module")
def evaluation():
    x, net = images(8), linear_net(scale=0.05)
    return sparring.evaluate(net, (x, net(x).argmax(1)), ["cd:bits=4"], ["adaptive"], ["pgd:eps=0.02,steps=10"])


@pytest.fixture
def place(tmp_path):
    (tmp_path / "faulty.py").write_text(FACTORY)
    torch.manual_seed(0)
    x = torch.rand(8, 3, 8, 8)
    namespace: dict = {}
    exec(FACTORY, namespace)
    np.savez(tmp_path / "data.npz", x=x.numpy(), y=namespace["plain"]()(x).argmax(1).numpy())
    return tmp_path


def events(folder):
    """The numbers and texts of a folder's event files, as TensorBoard reads them: tag -> [(step, value)]."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator(
        str(folder)
    )
    accumulator.Reload()
    tags = accumulator.Tags()
    numbers = {tag: [(e.step, e.value) for e in accumulator.Scalars(tag)] for tag in tags["scalars"]}
    texts = {tag: [e.tensor_proto.string_val[0].decode() for e in accumulator.Tensors(tag)] for tag in tags["tensors"]}
    return numbers, texts


def test_tensorboard_holds_the_numbers_and_the_words(evaluation, tmp_path):
    evaluation.log(f"tensorboard:{tmp_path}")
    numbers, texts = events(tmp_path / "evaluation")
    for number in evaluation.closed:
        name = f"{number.defense} / {number.threat} / {ball(number.norm, number.eps)}"
        assert numbers[f"{name} / robust_at_most"] == [(0, pytest.approx(number.robust_accuracy))]
        assert numbers[f"{name} / clean_accuracy"] == [(0, pytest.approx(number.clean_accuracy))]
        assert texts[f"{name} / verdict/text_summary"] == [evaluation.word_on(number)]
    for cell in evaluation.cells:
        (value,) = numbers[f"{cell.defense} / {cell.threat} / {cell.attack} / robust_accuracy"]
        assert value == (0, pytest.approx(cell.robust_accuracy))


def test_the_command_logs_its_own_configuration(place):
    words = (*EVALUATE, "--attack", "fgsm:eps=0.02", "--out", "run", "--log", "tensorboard:board", "--json")
    said = say(place, *words)
    assert said.code == 0, said.err
    json.loads(said.out)
    numbers, _ = events(place / "board" / "run")
    assert "none / adaptive / linf 0.02 / robust_at_most" in numbers
    (config,) = (place / "board").rglob("hparams.yml")
    assert "fgsm:eps=0.02" in config.read_text()
    assert "none / adaptive / linf 0.02 / verdict" in config.read_text()


def test_the_curve_of_a_training_is_drawn_as_it_grows(tmp_path, monkeypatch):
    x = images(40)
    labels = (x[:, 0].mean((1, 2)) > 0.5).long()
    trained = sparring.train(
        "classifier",
        data=(x, labels),
        out=tmp_path / "net.safetensors",
        epochs=2,
        log=f"tensorboard:{tmp_path / 'board'}",
    )
    numbers, _ = events(tmp_path / "board" / "net")
    for name in ("loss", "validation_loss", "validation_accuracy"):
        assert numbers[name] == [(row["epoch"], pytest.approx(row[name])) for row in trained.card["curve"]]


class Recorder:
    """Stands in for the modules wandb and mlflow: it writes down what Accelerate tells them."""

    def __init__(self):
        self.config, self.logged, self.project, self.ended = {}, {}, ("", ""), False


@pytest.fixture
def wandb(monkeypatch):
    seen, module = Recorder(), ModuleType("wandb")

    class Run:
        def __init__(self):
            self.summary = self

        def log(self, values, step=None, **_):
            seen.logged |= values

        def finish(self):
            seen.ended = True

    def init(project, name):
        seen.project = (project, name)
        return Run()

    class Config:
        def update(self, values, **_):
            seen.config |= values

    vars(module).update(init=init, config=Config(), __spec__=object())
    monkeypatch.setitem(sys.modules, "wandb", module)
    return seen


def test_wandb_is_told_the_same(evaluation, wandb):
    evaluation.log("wandb:robustness")
    assert wandb.project == ("robustness", "evaluation")
    assert wandb.ended
    number = evaluation.closed[0]
    name = f"{number.defense} / {number.threat} / {ball(number.norm, number.eps)}"
    assert wandb.logged[f"{name} / robust_at_most"] == number.robust_accuracy
    assert wandb.logged[f"{name} / verdict"] == wandb.config[f"{name} / verdict"] == evaluation.word_on(number)


def test_only_what_a_library_can_keep_is_given_to_it():
    """Not a number is no number to plot, and MLflow's metrics are numbers."""
    values = {"a": 0.5, "b": float("nan"), "c": "HOLDS"}
    assert Log("tensorboard", "logs").values(values) == {"a": 0.5, "c": "HOLDS"}
    assert Log("mlflow", "x").values(values) == {"a": 0.5}


def test_names_are_what_a_library_takes():
    """MLflow refuses the run for an equals sign."""
    name = "cd:bits=1+gauss:std=.1 / oblivious / linf 8/255"
    assert Log("wandb", "x").values({name: 0.5}) == {name: 0.5}
    assert Log("mlflow", "x").values({name: 0.5}) == {"cd:bits_1_gauss:std_.1 / oblivious / linf 8/255": 0.5}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("logs", "tensorboard:FOLDER"),
        ("tensorbord", "did you mean tensorboard"),
        ("tensorboard:folder=logs", "one place"),
        ("", "empty name"),
    ],
)
def test_what_is_no_place_is_refused(text, says):
    with pytest.raises(SparringError, match=says):
        Log.of(text)


def test_a_folder_that_cannot_be_made_is_refused_before_any_work(place, monkeypatch):
    said = say(place, *EVALUATE, "--attack", "fgsm:eps=0.02", "--out", "run", "--log", "tensorboard:data.npz/board")
    assert said.code == 2
    assert "data.npz is no folder" in said.err
    assert not (place / "run").exists()
    monkeypatch.setenv("HOME", str(place))
    assert Log.of("tensorboard:~/board").place == str(place / "board")


@pytest.mark.parametrize("name", KINDS)
def test_who_lacks_a_library_is_told_what_to_install_before_any_work(place, monkeypatch, name):
    monkeypatch.setattr("sparring.core.trackers.find_spec", lambda library: None)
    said = say(place, *EVALUATE, "--attack", "fgsm:eps=0.02", "--out", "run", "--log", name)
    assert said.code == 2
    assert said.err == f"error: log={name}: {name} is not installed; run: pip install {name}\n"
    assert not (place / "run").exists()
    said = say(place, "train", "classifier", "--data", "data.npz", "--out", "net.safetensors", "--log", name)
    assert f"pip install {name}" in said.err


@pytest.mark.parametrize("words", [("--dry-run",), ("--shard", "1/2", "--out", "run")])
def test_who_ends_without_numbers_has_none_to_log(place, words):
    said = say(place, *EVALUATE, "--attack", "fgsm:eps=0.02", "--log", "tensorboard", *words)
    assert said.code == 2
    assert words[0] in said.err


def test_nothing_is_logged_of_an_incomplete_run(place):
    words = (
        *EVALUATE,
        "--attack",
        "pgd:eps=0.02",
        "--out",
        "run",
        "--log",
        "tensorboard:board",
        "--max-forwards",
        "40",
    )
    said = say(place, *words)
    assert said.code == 3
    assert "nothing was logged" in said.err
    assert not (place / "board").exists()
