"""What somebody else's code says is part of what their things are called; ours and torch's have names of their own."""

from __future__ import annotations

import importlib
import sys

import pytest
import torch
from torch import nn

import sparring
from sparring.attacks.pgd import PGD
from sparring.checks.controls import images, linear_net
from sparring.core.code import code_of, code_of_network
from sparring.core.errors import SparringError

NET = """
import torch
from torch import nn
from sparring.attacks.pgd import PGD
from sparring.defenses.base import InputDefense, Stage, Surrogate
from dataclasses import dataclass
FACTOR = {factor}
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(192, 4, bias=False)
        self.layer.weight.data = torch.randn(4, 192, generator=torch.Generator().manual_seed(0))
    def forward(self, x):
        return self.layer(FACTOR * x.flatten(1))
@dataclass(frozen=True, kw_only=True)
class Mine(PGD):
    'Mine. Norm: linf.'
class Dim(Stage):
    def __init__(self):
        super().__init__("dim", Surrogate(backward={{"exact": "exact"}}, random=False, why="linear"))
    def forward(self, x, noise):
        return FACTOR * x
@dataclass(frozen=True)
class Dimmed(InputDefense):
    'Dimmed.'
    def stage(self):
        return Dim()
def dimmed(x):
    return FACTOR * x
"""


def test_known_code_has_no_words_and_foreign_code_has():
    assert code_of(PGD, nn.Linear, torch.relu) == ""
    assert code_of_network(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())) == ""

    class Own(nn.ReLU):
        pass

    assert code_of_network(nn.Sequential(Own())) != ""


def test_closures_and_defaults_count():
    def scaled(factor):
        return lambda x: factor * x

    tensors = [scaled(torch.ones(3)), scaled(torch.zeros(3))]
    hashes = [
        code_of(f) for f in (scaled(1.0), scaled(2.0), *tensors, scaled(linear_net(seed=1)), scaled(linear_net(seed=2)))
    ]
    assert len(set(hashes)) == len(hashes)
    assert code_of(scaled(1.0)) == hashes[0]


def test_a_method_put_on_a_module_counts():
    net = linear_net()
    before = code_of_network(net)
    net.forward = lambda x: -nn.Sequential.forward(net, x)  # type: ignore[method-assign]
    assert code_of_network(net) != before == ""


@pytest.mark.slow
@pytest.mark.parametrize("what", ["model", "defenses", "attacks", "function"])
def test_an_edit_of_own_code_never_resumes_in_silence(what, tmp_path, monkeypatch):
    """An edited plug-in, or a model whose file was edited under the same weights, resumed its folder: old rows under new code."""
    monkeypatch.syspath_prepend(str(tmp_path))
    file, x = tmp_path / "edited_by_user.py", images(6)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def run(factor: float):
        file.write_text(NET.format(factor=factor))
        sys.modules.pop("edited_by_user", None)
        importlib.invalidate_caches()
        module = importlib.import_module("edited_by_user")
        model = module.Net().eval() if what == "model" else linear_net()
        y = linear_net()(x).argmax(1)
        defenses = {"defenses": ["python:edited_by_user:Dimmed"], "function": [module.dimmed]}.get(what, [])
        attack = "python:edited_by_user:Mine,steps=2,eps=2/255" if what == "attacks" else "pgd:steps=2,eps=2/255"
        return sparring.evaluate(model, (x, y), defenses, ["adaptive"], [attack], out=tmp_path / "run")

    run(1.0)
    run(1.0)
    with pytest.raises(SparringError, match=r"your own code \(plug-in, class, function\) changed|differs in"):
        run(0.5)
