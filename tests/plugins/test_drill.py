"""The drill: a package that is only installed, a file that is only named, an object that is only passed; nothing of ours is edited."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import sparring
from sparring.checks.controls import images, linear_net
from sparring.core.errors import SparringError
from sparring.core.registry import REGISTRIES, load_plugin
from tests.plugins.machine import HERE, TOYS, cli, environment, install, python


@pytest.fixture(autouse=True)
def _tables_as_they_were():
    """A toy that enrolled itself here is gone for the next test."""
    before = {kind: dict(registry._entries) for kind, registry in REGISTRIES.items()}
    yield
    for kind, registry in REGISTRIES.items():
        registry._entries = {
            k: v for k, v in registry._entries.items() if k in before[kind] or ("toy" not in k.lower() and k != "T1")
        }


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> dict[str, str]:
    """The environment of a machine on which the toy package is installed."""
    folder = tmp_path_factory.mktemp("site")
    install(folder, "toy-plugin", TOYS)
    (folder / "toy_plugin").symlink_to(HERE / "toy_plugin")
    return environment(folder)


@pytest.mark.parametrize(("group", "points"), TOYS.items())
def test_an_installed_package_is_listed(installed, group, points):
    """In ``sparring list``, which is also what the docs are made from."""
    kind = group.removeprefix("sparring.")
    entries = {e["name"]: e for e in json.loads(cli(installed, "list", kind, "--json"))}
    (name,) = points
    assert name in entries
    assert entries[name].get("title") or entries[name]["doc"]


def test_an_installed_package_is_evaluated_and_drawn(installed, tmp_path):
    page, out = tmp_path / "page.html", tmp_path / "run"
    words = (
        "evaluate",
        "toy_net:weights=random",
        "--data",
        "toy_data",
        "--defense",
        "toy-dim:share=0.8",
        "--threat",
        "toy-seat",
        "--attack",
        "toy-step:eps=8/255",
    )
    found = json.loads(cli(installed, *words, "--out", str(out), "--html", str(page), "--json"))
    cells = {(c["defense"], c["threat"], c["attack"]) for c in found["cells"]}
    assert ("toy-dim:share=0.8", "toy-seat", "toy-step:eps=8/255") in cells
    assert "T1" in {f["check"] for f in found["checks"]}
    drawn = page.read_text()
    assert all(name in drawn for name in ("toy-seat", "toy-step", "toy-dim", "T1"))


def test_an_installed_package_is_asked_and_trained(installed, tmp_path):
    """Options of an analysis and of a task become options of their commands; what is trained can be evaluated."""
    words = ("toy_net:weights=random", "--data", "toy_data", "--scale", "2")
    panel = json.loads(cli(installed, "analyze", "toy-light", *words, "--json"))
    assert panel["provenance"]["options"]["scale"] == 2.0
    assert all(0.8 < light < 1.2 for light in panel["data"].values()), "twice the mean of even noise"
    assert "what one white pixel counts" in cli(installed, "analyze", "toy-light", "--help")
    out = tmp_path / "toy.safetensors"
    card = json.loads(
        cli(installed, "train", "toy-train", "--data", "toy_data", "--out", str(out), "--epochs", "3", "--json")
    )
    assert len(card["curve"]) == 3
    found = json.loads(
        cli(installed, "evaluate", f"trained:{out}", "--data", "toy_data", "--attack", "toy-step:eps=1/255", "--json")
    )
    assert found["cells"]


@pytest.mark.parametrize(("page", "words"), [("attacks", "## toy-step"), ("checks", "## T1 toy")])
def test_an_installed_package_is_in_the_docs_that_are_made(installed, page, words, tmp_path):
    maker = tmp_path / f"make_{page}.py"
    maker.write_text((HERE.parents[1] / "docs" / maker.name).read_text())
    python(installed, maker.stem, cwd=tmp_path)
    assert words in (tmp_path / f"{page}.md").read_text()


def test_a_plug_in_that_cannot_be_imported_is_named_in_one_line(tmp_path):
    install(tmp_path, "torn", {"sparring.analyses": {"torn": "toy_plugin:there_is_no_such_thing"}})
    said = cli(environment(tmp_path, HERE), "list", "analyses", code=2)
    assert "plug-in toy_plugin:there_is_no_such_thing cannot be imported" in said
    assert "Traceback" not in said


def test_a_file_named_on_the_command_line(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom sparring.attacks.pgd import PGD\nfrom sparring.core.registry import ATTACKS\n"
        "@ATTACKS('mine')\n@dataclass(frozen=True, kw_only=True)\nclass Mine(PGD):\n    'Mine.'\n    steps: int = 3\n"
    )
    names = [e["name"] for e in json.loads(cli(environment(), "--plugin", str(file), "list", "attacks", "--json"))]
    assert "mine" in names
    for bad, says in (("nowhere.py", "not a Python file"), (HERE, "not a Python file")):
        with pytest.raises(SparringError, match=says):
            load_plugin(bad)
    file.with_name("torn.py").write_text("1/0\n")
    with pytest.raises(SparringError, match=r"torn.py cannot be imported \(ZeroDivisionError"):
        load_plugin(file.with_name("torn.py"))


def test_things_of_a_module_are_named_by_where_they_are(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    attack = sparring.attack("python:toy_plugin:ToyStep,steps=2,eps=8/255")
    assert str(attack) == "python:toy_plugin:ToyStep,steps=2,eps=8/255"
    assert sparring.attack(str(attack)) == attack
    x, net = images(8), linear_net()
    y = net(x).argmax(1).detach()
    result = sparring.evaluate(net, (x, y), ["python:toy_plugin:ToyDim,share=0.5"], ["adaptive"], [attack])
    assert {c.defense for c in result.cells} == {"none", "python:toy_plugin:ToyDim,share=0.5"}
    with pytest.raises(SparringError, match="no callable 'Nothing'"):
        sparring.attack("python:toy_plugin:Nothing,eps=0.1")


class Blur(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(x, 3, 1, 1)


def darker(x: torch.Tensor) -> torch.Tensor:
    return 0.9 * x


def steps(x: torch.Tensor) -> torch.Tensor:
    return (x * 7).round() / 7


def test_objects_serve_as_defenses():
    """An own defense object ended in a JSON TypeError."""
    from sparring.defenses.channels import CD

    x, net = images(8), linear_net()
    y = net(x).argmax(1).detach()
    result = sparring.evaluate(
        net, (x, y), [Blur().eval(), darker, CD(bits=4)], ["oblivious", "adaptive"], ["pgd:eps=4/255,steps=3"]
    )
    assert {c.defense for c in result.cells} == {"none", "Blur", "darker", "cd:bits=4"}
    json.dumps(result.json())
    stopped = sparring.evaluate(net, (x, y), [steps], ["adaptive"], ["pgd:eps=4/255,steps=3"])
    fired = {f.check for f in stopped.findings if not f.ok}
    assert "P10" in fired, "where a backward must be declared the preflight says so"


def test_a_plug_in_that_brings_nothing_is_said(tmp_path):
    (tmp_path / "empty_plug_in.py").write_text("x = 1\n")
    with pytest.warns(UserWarning, match="empty_plug_in.py enrols nothing"):
        load_plugin(tmp_path / "empty_plug_in.py")
