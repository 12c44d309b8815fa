"""What every registered training task must do, from Python, on a few images."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch

import sparring
from sparring.core.errors import SparringError
from sparring.core.registry import TASKS
from sparring.core.spec import helps
from sparring.data.images import ImageSet
from sparring.training.autoencoders import S2SNetTraining
from sparring.training.base import Schedule, Training, schedule_fields
from sparring.training.loop import LoopConfig

pytest.importorskip("accelerate", reason="extra train is not installed")
TARGET = "resnet10:width=4"
OPTIONS = {
    "classifier": {"model": TARGET},
    "adversarial": {"model": TARGET, "attack": "fgsm:eps=2/255"},
    "attacked": {"source": (TARGET,), "high": 4},
    "hgd": {"target": TARGET, "source": (TARGET,), "width": 0.05},
    "s2snet": {"target": TARGET},
    "ace": {},
}


def pictures(count: int = 12) -> ImageSet:
    x = torch.randint(0, 256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return ImageSet.of(x, torch.arange(count) % 4)


def test_all_tasks_of_this_release_are_there():
    assert set(TASKS) >= {"classifier", "adversarial", "attacked", "hgd", "s2snet", "ace"}


@pytest.mark.parametrize("name", list(TASKS))
def test_it_is_declared(name):
    """A docstring with its source, one line of help per field, an example that is its own; every scale is a valid configuration."""
    entry = TASKS[name]
    assert issubclass(entry, Training)
    assert re.search(r"arXiv:\d{4}\.\d{5}|ACE paper", entry.__doc__ or ""), "its source"
    assert all(helps(entry).values())
    assert entry.example.split()[0] == name
    assert set(entry.scales) == set() or {"small", "paper"} <= set(entry.scales)
    for scale in entry.scales:
        config = Schedule(scale=scale).config(entry.scales)
        assert isinstance(config, LoopConfig)
        assert Schedule(scale=scale, epochs=7, lr=0.5).config(entry.scales).epochs == 7
    assert set(schedule_fields(entry)) >= {"seed"}


@pytest.mark.parametrize("name", list(TASKS))
def test_it_trains_and_leaves_its_card(name, tmp_path):
    loop = {"epochs": 1, "batch": 8} if TASKS[name].scales else {}
    out = tmp_path / ("made.safetensors" if loop else "made")
    seen = []
    made = sparring.train(
        name, data=pictures(), out=out, progress=lambda *a: seen.append(a), seed=2, **loop, **OPTIONS[name]
    )
    assert out.exists()
    assert seen, "progress is reported"
    assert str(out) in made.text
    json.dumps(dict(made.card), allow_nan=False)
    if loop:
        assert "evaluate it as: " in made.text
        assert made.card["config"]["seed"] == 2
        assert len(made.card["curve"]) == 1
        with pytest.raises(SparringError, match="exists"):
            sparring.train(name, data=pictures(), out=out, seed=2, **loop, **OPTIONS[name])


@pytest.mark.slow
def test_s2snet_stages_have_the_epochs_and_rates_they_are_given(tmp_path):
    """--epochs and --lr hold for both stages, --tuning-epochs and --tuning-lr for the second alone; a scale's own are kept else."""

    def configs(name: str, **given: Any) -> list[tuple[int, float]]:
        out = tmp_path / f"{name}.safetensors"
        sparring.train("s2snet", data=pictures(), out=out, target=TARGET, batch=12, **given)
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
        ("classifier", {"epochs": 0}, "epochs and batch must be at least 1"),
        ("attacked", {"source": [TARGET], "epochs": 2}, "unknown field 'epochs'"),
        ("attacked", {}, "field 'source' is required"),
        ("hgd", {"target": TARGET}, "one of the two"),
        ("hgd", {"target": TARGET, "source": [TARGET], "tap": "pixels"}, "tap=pixels is not valid"),
        ("s2snet", {"tuning_lr": 0.1}, "it needs target"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_loaded(name, options, says, tmp_path):
    with pytest.raises(SparringError, match=re.escape(says)):
        sparring.train(name, data="nowhere.npz", out=tmp_path / "x.safetensors", **options)
