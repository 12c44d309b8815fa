"""Defenses of somebody's own, by where they are: what cannot be one is refused by name, when it is built."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from torch import nn

import sparring
from sparring.checks.controls import linear_net
from sparring.core.errors import SparringError
from sparring.core.registry import DEFENSES
from sparring.defenses.base import Defended, defense

CODE = """
from dataclasses import dataclass
from torch import Tensor, nn
from sparring.defenses.channels import CD

def quant(x: Tensor) -> Tensor:
    return x.round()

def bare(x, levels=4):
    return x

def factory(bits: int):
    return CD(bits=bits)

@dataclass(frozen=True)
class Idle:
    levels: int = 4

class Net(nn.Module):
    pass
"""


@pytest.fixture
def mine(monkeypatch) -> ModuleType:
    module = ModuleType("silent_module")
    monkeypatch.setitem(sys.modules, "silent_module", module)
    exec(CODE, vars(module))
    return module


@pytest.mark.parametrize("text", ["quant", "bare", "bare,levels=3"])
def test_a_function_of_images_has_no_spec(mine, text):
    with pytest.raises(SparringError, match=r"is a defense only in Python \(defenses=\[\w+\]\): name a class"):
        sparring.defense(f"python:silent_module:{text}")


@pytest.mark.parametrize("name", ["Idle", "Net"])
def test_what_cannot_be_installed_is_no_defense(mine, name):
    with pytest.raises(SparringError, match=rf"{name} has no install\(\), so it is no defense"):
        sparring.defense(f"python:silent_module:{name}")


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("mine.py:make", "write python:mine:make"),
        ("./mine.py:make", "write python:mine:make"),
        ("/a/b/mine.py:make", "write python:mine:make, with PYTHONPATH=/a/b before the command"),
    ],
)
def test_a_file_in_place_of_a_module_is_told_its_module(text, fix):
    with pytest.raises(SparringError, match=f"names a file, a module is asked for: {fix}$"):
        sparring.defense(f"python:{text}")


def test_nor_is_what_was_enrolled_without_it(mine, monkeypatch):
    monkeypatch.setitem(DEFENSES._entries, "idle", mine.Idle)
    with pytest.raises(SparringError, match="idle:levels=3: Idle has no install"):
        sparring.defense("gauss:std=0.1+idle:levels=3")


def test_a_factory_is_one(mine):
    assert str(sparring.defense("python:silent_module:factory,bits=3")) == "cd:bits=3"
    with pytest.raises(
        SparringError, match=r"'bits' is required .takes int.; write python:silent_module:factory,bits="
    ):
        sparring.defense("python:silent_module:factory")


def test_a_module_in_train_mode_is_refused_where_the_mode_matters():
    with pytest.raises(SparringError, match="its Dropout is in train mode; call eval"):
        defense(nn.Sequential(nn.Identity(), nn.Dropout(0.5))).install(Defended(linear_net()))
    defense(nn.Sequential(nn.Identity())).install(Defended(linear_net()))
