"""``EvaluationSpec``: what is evaluated, as one value that goes to a file and comes back."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

import sparring
from sparring.checks.controls import images, linear_net
from sparring.core.errors import SparringError
from sparring.evaluation.plan.spec import EvaluationSpec
from sparring.evaluation.records.files import read_run

SPEC = EvaluationSpec(
    "small_cnn",
    "mnist5k:limit=8",
    ["cd:bits=1"],
    ["adaptive"],
    ["pgd:eps=0.1,steps=2"],
    eps=[8 / 255],
    seed=3,
    limit=6,
    draws=2,
)


@pytest.mark.parametrize("suffix", ["toml", "json"])
def test_it_goes_to_a_file_and_comes_back(tmp_path, suffix):
    file = tmp_path / f"run.{suffix}"
    SPEC.save(file)
    assert EvaluationSpec.read(file) == SPEC
    assert EvaluationSpec.read(file).hash == SPEC.hash
    assert EvaluationSpec.read(file, seed=4).seed == 4, "what is given beside the file wins"
    assert EvaluationSpec.read(file, seed=4).hash != SPEC.hash


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('model = "small_cnn"\ndata = "mnist5k"\ntiers = "quick"', "unknown option 'tiers'; did you mean tier"),
        ('model = "small_cnn"\ndata = "mnist5k"\nseed = "x"', "seed = 'x'"),
        ('model = "small_cnn"\ndata = "mnist5k"\neps = ["8/0"]', "eps=8/0 is not valid: a fraction over 0"),
        ('model = "small_cnn"\ndata = "mnist5k"\ntier = "brisk"', "not one of quick, standard, thorough"),
        ('model = "small_cnn"', "data"),
        ("model = ", "cannot be read"),
        ('model = "python:evil:make"\ndata = "mnist5k"', "code to import"),
        ('model = "defective:model=python:evil:make,keep=0.5"\ndata = "mnist5k"', "code to import"),
        ('model = "small_cnn"\ndata = "mnist5k"\ndefenses = ["cd:bits=3+python:evil:make"]', "code to import"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path, text, says):
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(SparringError) as error:
        EvaluationSpec.read(file)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_objects_run_but_are_not_written(tmp_path):
    x, net = images(6), linear_net()
    spec = EvaluationSpec(net, (x, net(x).argmax(1).detach()), threats=["adaptive"], attacks=["fgsm:eps=4/255"])
    whole = sparring.evaluate(spec, out=tmp_path / "run")
    words = sparring.evaluate(net, spec.data, threats=["adaptive"], attacks=["fgsm:eps=4/255"])
    assert [c.json() for c in whole.cells] == [c.json() for c in words.cells]
    record = read_run(tmp_path / "run")
    assert record["passed"]["attacks"] == ["fgsm:eps=4/255"]
    assert record["identity"]["defenses"] == ["none"], "what it resolved to stands beside what was passed"
    with pytest.raises(SparringError, match="object of yours"):
        spec.save(tmp_path / "run.toml")
    with pytest.raises(SparringError, match="says everything"):
        sparring.evaluate(spec, seed=4)
    with pytest.raises(SparringError, match="unknown option 'epsilon'"):
        sparring.evaluate(net, spec.data, epsilon=0.1)
    torch.manual_seed(0)


def test_the_command_line_writes_and_reads_it(tmp_path):
    from sparring.cli.app import app

    pytest.importorskip("mlxtend", reason="extra demo is not installed")
    file, runner = tmp_path / "run.toml", CliRunner()
    words = [
        "evaluate",
        "small_cnn:weights=random",
        "--data",
        "mnist5k",
        "--limit",
        "6",
        "--attack",
        "fgsm:eps=0.1",
        "--threat",
        "adaptive",
        "--json",
    ]
    first = runner.invoke(app, [*words, "--save-config", str(file)])
    assert first.exit_code == 0, first.output
    again = runner.invoke(app, ["evaluate", "--config", str(file), "--json"])
    assert json.loads(again.stdout)["cells"] == json.loads(first.stdout)["cells"]
    less = runner.invoke(app, ["evaluate", "--config", str(file), "--limit", "4", "--json"])
    assert {c["n"] for c in json.loads(less.stdout)["cells"]} == {4}
    with pytest.raises(SparringError, match="no model is given"):
        runner.invoke(app, ["evaluate"], catch_exceptions=False)


@pytest.mark.parametrize("field", ["model", "data", "defenses", "attacks"])
def test_a_field_that_names_code_is_given_again_beside_the_file(tmp_path, field):
    file, text = tmp_path / "run.toml", "python:mine:make"
    values = {**vars(SPEC), field: text if field in ("model", "data") else [text]}
    spec = EvaluationSpec.of(**values)
    with pytest.warns(UserWarning, match=f"give {field} on the command line beside --config") as said:
        spec.save(file)
    assert len(said) == 1
    with pytest.raises(SparringError, match="code to import"):
        EvaluationSpec.read(file)
    assert EvaluationSpec.read(file, **{field: vars(spec)[field]}) == spec


def test_a_field_that_stands_twice_in_a_json_file_is_refused(tmp_path):
    file = tmp_path / "run.json"
    file.write_text('{"model": "mnist_cnn", "model": "lite0", "data": "mnist5k"}')
    with pytest.raises(SparringError, match="'model' is given twice"):
        EvaluationSpec.read(file)


def test_options_beside_a_configuration_win_and_none_is_replaced(tmp_path):
    file = tmp_path / "run.toml"
    EvaluationSpec.of(model="mnist_cnn", data="mnist5k:limit=16", attacks=["fgsm:eps=0.1"]).save(file)
    assert EvaluationSpec.read(file, limit=4).data == "mnist5k"
    before = file.read_text()
    EvaluationSpec.of(model="mnist_cnn", data="mnist5k:limit=16", attacks=["fgsm:eps=0.1"]).save(file)
    with pytest.raises(SparringError, match="exists and says something else"):
        EvaluationSpec.of(model="mnist_cnn", data="mnist5k:limit=8", attacks=["fgsm:eps=0.1"]).save(file)
    assert file.read_text() == before


@pytest.mark.parametrize("draws", ["auto", 3, None])
def test_draws_may_be_chosen_and_come_back(tmp_path, draws):
    file = tmp_path / "run.toml"
    spec = EvaluationSpec("small_cnn", "mnist5k:limit=8", draws=draws)
    spec.save(file)
    assert EvaluationSpec.read(file) == spec


@pytest.mark.parametrize("draws", ["all", 0, "2.5"])
def test_draws_of_another_kind_are_one_line(draws):
    with pytest.raises(SparringError, match="draws"):
        EvaluationSpec("small_cnn", "mnist5k:limit=8", draws=draws)


def test_chosen_draws_are_at_most_the_tiers_and_said_of_each_system(tmp_path):
    """Shaking the image a little turns no gradient of a linear classifier: one draw is enough, and a resumed run chooses it again."""
    x = images(12)
    net = linear_net()
    asked = {"data": (x, net(x).argmax(1)), "defenses": ["gauss:std=0.001"], "attacks": ["pgd:eps=8/255,steps=3"]}
    made = [sparring.evaluate(net, **asked, threats=["adaptive"], draws="auto", out=tmp_path / "run") for _ in range(2)]
    assert read_run(tmp_path / "run")["identity"]["draws"] == {"none": 8, "gauss:std=0.001": 1}
    assert "1 draws a gradient, by G3" in made[1].prepared["gauss:std=0.001"]
