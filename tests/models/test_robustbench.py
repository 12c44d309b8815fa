"""Models of RobustBench, through a stand-in for its package: it is no dependency."""

from __future__ import annotations

import sys
import types

import pytest

import sparring
from sparring.core.errors import SparringError
from sparring.models.load import load_model
from sparring.models.robustbench import published, told
from tests.evaluation.test_growing import problem


@pytest.fixture
def installed(monkeypatch):
    """A package that gives linear networks by name, and fails as RobustBench does for others."""

    def load(model_name, dataset, threat_model):
        if model_name != "Carmon2019Unlabeled":
            raise ValueError(f"no such model {model_name}")
        from sparring.testing.networks import linear_net

        return linear_net(scale=0.1)

    package, utils = types.ModuleType("robustbench"), types.ModuleType("robustbench.utils")
    vars(utils)["load_model"] = load
    monkeypatch.setitem(sys.modules, "robustbench", package)
    monkeypatch.setitem(sys.modules, "robustbench.utils", utils)


def test_the_leaderboard_is_whole_and_plausible():
    source, lines = published()
    assert "2025-03-31" in source
    assert len(lines) == len({(p.dataset, p.threat, p.name) for p in lines}) == 188
    assert all(0 <= p.best_known <= p.autoattack <= p.clean <= 100 for p in lines)


def test_what_others_measured_stands_beside_our_numbers(installed, tmp_path):
    result = sparring.evaluate(
        "robustbench:Carmon2019Unlabeled",
        problem(12),
        threats=["adaptive"],
        attacks=["fgsm:eps=1/255"],
        out=tmp_path / "run",
    )
    line = next(
        p for p in published()[1] if (p.dataset, p.threat, p.name) == ("cifar10", "Linf", "Carmon2019Unlabeled")
    )
    assert told(line) in result.prepared["none"]
    assert f"AutoAttack leaves {line.autoattack:g} %" in result.prepared["none"]
    assert told(line) in result.report(tmp_path / "page.html").read_text()


def test_errors_are_one_line(installed, monkeypatch):
    with pytest.raises(SparringError, match="did you mean Carmon2019Unlabeled"):
        load_model("robustbench:Carmon2019Unlabelled")
    monkeypatch.setitem(sys.modules, "robustbench.utils", None)
    with pytest.raises(SparringError, match="is not installed here"):
        load_model("robustbench:Carmon2019Unlabeled")
