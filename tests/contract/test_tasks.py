"""Every registered training task keeps the contract in ``sparring.testing``, on a few images."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

import sparring
from sparring.core.errors import SparringError
from sparring.core.registry import TASKS
from sparring.testing.tasks import TaskContract
from sparring.training.autoencoders import S2SNetTraining
from sparring.training.base import Schedule

pytest.importorskip("accelerate", reason="extra train is not installed")
TARGET = "resnet10:width=4"
OPTIONS = {
    "classifier": {"model": TARGET},
    "adversarial": {"model": TARGET, "attack": "fgsm:eps=2/255"},
    "attacked": {"source": (TARGET,), "high": 4},
    "hgd": {"target": TARGET, "source": (TARGET,), "width": 0.05},
    "s2snet": {"target": TARGET},
    "ace": {},
    "hgd-ensemble": {"target": (f"{TARGET},weights=random",), "denoiser": ("random",)},
}


def test_all_tasks_of_this_release_are_there():
    assert set(TASKS) >= {"classifier", "adversarial", "attacked", "hgd", "hgd-ensemble", "s2snet", "ace"}


@pytest.mark.parametrize("spec", list(TASKS))
class TestTasks(TaskContract):
    def options(self, spec):
        return OPTIONS[spec]


@pytest.mark.parametrize("name", list(TASKS))
def test_its_docstring_names_the_paper(name):
    assert re.search(r"arXiv:\d{4}\.\d{5}|ACE paper", TASKS[name].__doc__ or "")


@pytest.mark.slow
def test_s2snet_stages_have_the_epochs_and_rates_they_are_given(tmp_path):
    """--epochs and --lr hold for both stages, --tuning-epochs and --tuning-lr for the second alone; a scale's own are kept else."""

    def configs(name: str, **given: Any) -> list[tuple[int, float]]:
        out = tmp_path / f"{name}.safetensors"
        sparring.train("s2snet", data=TestTasks().images(), out=out, target=TARGET, batch=12, **given)
        cards = [json.loads((tmp_path / f"{n}.json").read_text()) for n in (f"{name}-autoencoder", name)]
        assert [len(c["curve"]) for c in cards] == [c["config"]["epochs"] for c in cards]
        return [(c["config"]["epochs"], c["config"]["lr"]) for c in cards]

    assert configs("both", epochs=1, lr=0.003) == [(1, 0.003), (1, 0.003)]
    assert configs("apart", epochs=1, tuning_epochs=2, tuning_lr=0.0001) == [(1, 0.002), (2, 0.0001)]
    own = [Schedule().config(s) for s in (S2SNetTraining.scales, S2SNetTraining.tuning)]
    assert [(c.epochs, c.lr) for c in own] == [(8, 0.002), (3, 0.0005)]


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("clasifier", {}, "did you mean classifier"),
        ("classifier", {"epoch": 2}, "unknown field 'epoch'; did you mean epochs"),
        ("classifier", {"scale": "large"}, "scale=large is not one of small, fast, paper"),
        ("classifier", {"precision": "fp8"}, "precision=fp8 is not valid"),
        ("classifier", {"epochs": 0}, "epochs must be at least 1"),
        ("attacked", {"source": [TARGET], "epochs": 2}, "unknown field 'epochs'"),
        ("attacked", {}, "field 'source' is required"),
        ("hgd", {"target": TARGET}, "one of the two"),
        ("hgd", {"target": TARGET, "source": [TARGET], "tap": "pixels"}, "tap=pixels is not valid"),
        ("s2snet", {"tuning_lr": 0.1}, "it needs target"),
        ("hgd-ensemble", {"target": [TARGET, TARGET], "denoiser": ["d"]}, "a denoiser for each model, here 1 for 2"),
        ("hgd-ensemble", {"target": [TARGET], "wiring": "each"}, "wiring=each needs a denoiser"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_loaded(name, options, says, tmp_path):
    with pytest.raises(SparringError, match=re.escape(says)):
        sparring.train(name, data="nowhere.npz", out=tmp_path / "x.safetensors", **options)
