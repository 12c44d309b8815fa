"""A file names registered models only: nothing that a file says is imported or run, at any depth."""

from __future__ import annotations

import json
import sys

import pytest

import sparring
from sparring.checks.controls import linear_net
from sparring.core.errors import SparringError
from sparring.defenses.base import Defended
from sparring.models.load import load_model
from sparring.models.weights import save_weights

EVIL = "python:evil_module_of_a_card:make"


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A folder with a module that says when it is imported, and honest weights beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil_module_of_a_card.py").write_text(
        "import pathlib\npathlib.Path('ran').touch()\ndef make():\n    raise SystemExit\n"
    )
    save_weights(load_model("resnet10").network, tmp_path / "w.safetensors", {})
    yield tmp_path / "w.safetensors"
    assert not (tmp_path / "ran").exists(), "code of the file's choice was run"
    assert "evil_module_of_a_card" not in sys.modules


@pytest.mark.parametrize(
    "model", [EVIL, f"defective:model={EVIL},keep=0.5", f"spatial_dropout:model={EVIL}", f"noisy:model={EVIL}"]
)
@pytest.mark.parametrize("use", ["trained:{}", "ensemble:members={};{}"])
def test_a_card_cannot_name_code(weights, model, use):
    weights.with_suffix(".json").write_text(json.dumps({"model": model}))
    with pytest.raises(SparringError, match="registered models only"):
        load_model(use.replace("{}", str(weights)))


def test_nor_through_a_defense(weights):
    weights.with_suffix(".json").write_text(json.dumps({"model": EVIL, "hardening": "pgd"}))
    with pytest.raises(SparringError, match="registered models only"):
        sparring.defense(f"adversarial-training:weights={weights}").install(Defended(linear_net()))


def test_nor_in_an_ensembles_file(weights):
    file = weights.with_name("wiring.toml")
    file.write_text(f'[[member]]\nmodels = ["{EVIL}"]\n')
    with pytest.raises(SparringError, match="registered models only"):
        sparring.defense(f"hgd-ensemble:file={file}").install(Defended(linear_net()))


def test_you_may(weights):
    with pytest.raises(SparringError, match="the factory raised SystemExit"):
        load_model(EVIL)
    weights.with_name("ran").unlink()
    sys.modules.pop("evil_module_of_a_card")
