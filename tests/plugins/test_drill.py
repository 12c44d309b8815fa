"""The drill: a package that is only installed, a file that is only named, an object that is only passed; nothing of ours is edited."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import sparring
from sparring.checks.controls import images, linear_net
from sparring.core.errors import SparringError
from sparring.core.registry import REGISTRIES, load_plugin

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _tables_as_they_were():
    """A toy that enrolled itself here is gone for the next test."""
    before = {kind: dict(registry._entries) for kind, registry in REGISTRIES.items()}
    yield
    for kind, registry in REGISTRIES.items():
        registry._entries = {
            k: v for k, v in registry._entries.items() if k in before[kind] or ("toy" not in k.lower() and k != "T1")
        }


ENTRY_POINTS = """
[sparring.attacks]
toy-step = toy_plugin:ToyStep
[sparring.defenses]
toy-dim = toy_plugin:ToyDim
[sparring.threats]
toy-seat = toy_plugin
[sparring.checks]
T1 = toy_plugin
[sparring.models]
toy_net = toy_plugin:toy_net
[sparring.data]
toy_data = toy_plugin:toy_data
[sparring.analyses]
broken = toy_plugin:there_is_no_such_thing
"""


@pytest.fixture
def installed(tmp_path) -> dict[str, str]:
    """The environment of a machine on which the toy package is installed: its folder and its metadata on the path."""
    info = tmp_path / "toy_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "toy_plugin").symlink_to(HERE / "toy_plugin")
    src = str(Path(sparring.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), src])}


def run(environment: dict[str, str], *words: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "sparring.cli", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr[-2000:]
    return done.stdout + done.stderr


def test_an_installed_package_is_found_everywhere(installed, tmp_path):
    for kind, name in (
        ("attacks", "toy-step"),
        ("defenses", "toy-dim"),
        ("threats", "toy-seat"),
        ("checks", "T1"),
        ("models", "toy_net"),
        ("data", "toy_data"),
    ):
        assert name in [e["name"] for e in json.loads(run(installed, "list", kind, "--json"))]
    page, out = tmp_path / "page.html", tmp_path / "run"
    words = (
        "evaluate",
        "toy_net",
        "--data",
        "toy_data",
        "--defense",
        "toy-dim:share=0.8",
        "--threat",
        "toy-seat",
        "--attack",
        "toy-step:eps=8/255",
    )
    found = json.loads(run(installed, *words, "--out", str(out), "--html", str(page), "--json"))
    cells = {(c["defense"], c["threat"], c["attack"]) for c in found["cells"]}
    assert ("toy-dim:share=0.8", "toy-seat", "toy-step:eps=8/255") in cells
    assert "T1" in {f["check"] for f in found["checks"]}
    assert "toy-seat" in page.read_text()
    said = run(installed, "list", "analyses", code=2)
    assert "plug-in toy_plugin:there_is_no_such_thing cannot be imported" in said
    assert "Traceback" not in said


def test_a_file_named_on_the_command_line(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom sparring.attacks.pgd import PGD\nfrom sparring.core.registry import ATTACKS\n"
        "@ATTACKS('mine')\n@dataclass(frozen=True, kw_only=True)\nclass Mine(PGD):\n    'Mine.'\n    steps: int = 3\n"
    )
    names = [e["name"] for e in json.loads(run(dict(os.environ), "--plugin", str(file), "list", "attacks", "--json"))]
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
