"""Trainings of several seeds: each is that of its seed alone, here and on a cluster; what is there is not made again, and nothing is replaced."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import sparring
from sparring.conduct import trainings
from sparring.conduct.engine import Engine
from sparring.conduct.trainings import train_seeds
from sparring.core.errors import SparringError

TASK: dict[str, Any] = {"data": "mnist5k:split=train,limit=200", "model": "small_cnn", "epochs": "1", "batch": "50"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The weights of seed 1 trained by itself."""
    out = tmp_path_factory.mktemp("alone") / "w.safetensors"
    sparring.train("classifier", out=out, seed=1, **TASK)
    return load_file(out)


def same(file, weights):
    mine = load_file(file)
    return all(torch.equal(mine[name], value) for name, value in weights.items())


def test_each_seed_is_trained_as_if_alone_and_only_once(alone, tmp_path, monkeypatch):
    out = tmp_path / "w.safetensors"
    first = train_seeds("classifier", "0,1", out=out, **TASK)
    assert same(tmp_path / "w.seed1.safetensors", alone)
    assert not same(tmp_path / "w.seed0.safetensors", alone)
    monkeypatch.setattr(trainings, "train", None)  # nothing is made again
    assert [t.card for t in train_seeds("classifier", "1,0", out=out, **TASK)] == json.loads(
        json.dumps([t.card for t in first[::-1]])
    )
    with pytest.raises(SparringError, match="is of another training; delete it or choose another --out"):
        train_seeds("classifier", "0", out=out, **{**TASK, "epochs": "2"})


def test_what_ended_just_before_it_was_told_is_not_lost(tmp_path):
    """Killed between the last write of a training and the end of the command: the weights are there, and known."""
    out = tmp_path / "w.safetensors"
    train_seeds("classifier", "0", out=out, **TASK)
    (again,) = train_seeds("classifier", "0", out=out, **TASK)
    assert again.card["config"]["seed"] == 0
    (tmp_path / "w.seed0.safetensors.job").unlink()
    with pytest.raises(SparringError, match="exists"):  # it may be anybody's
        train_seeds("classifier", "0", out=out, **TASK)
    assert not (tmp_path / "w.seed0.safetensors.job").exists()


@pytest.mark.parametrize(
    ("seeds", "more", "says"),
    [("0,0", {}, "names one twice"), ("0,x", {}, "seeds=x"), ("0,1", {"seed": "3"}, "seed or seeds, not both")],
)
def test_bad_seeds_are_one_line(seeds, more, says, tmp_path):
    with pytest.raises(SparringError, match=says):
        train_seeds("classifier", seeds, out=tmp_path / "w.safetensors", **TASK, **more)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_cluster_trains_the_same_weights_and_names_what_fails(alone, tmp_path):
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    pytest.importorskip("ray", reason="extra scale (ray) is not installed")
    out = tmp_path / "w.safetensors"
    (tmp_path / "w.seed2.safetensors").write_bytes(b"somebody's own")
    said: list[str] = []
    with pytest.raises(SparringError, match=r"1 of 2 trainings failed, the first is .*w.seed2.safetensors: .*exists"):
        train_seeds("classifier", "1,2", out=out, engine=Engine(), say=lambda *what: said.append(what[2]), **TASK)
    assert same(tmp_path / "w.seed1.safetensors", alone)
    assert (tmp_path / "w.seed2.safetensors").read_bytes() == b"somebody's own"
    assert any("on the cluster" in text for text in said)
    (tmp_path / "w.seed2.safetensors").unlink()
    trained = train_seeds("classifier", "1,2", out=out, engine=Engine(), **TASK)
    assert [t.card["config"]["seed"] for t in trained] == [1, 2]
