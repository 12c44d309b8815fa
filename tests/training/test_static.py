"""Ensemble adversarial training: a batch is attacked on one network of a pool, and the card says which were in it."""

from __future__ import annotations

import json

import pytest
import torch

import sparring
from sparring.attacks.attack import attack
from sparring.core.errors import SparringError
from sparring.models.classifier import weights_hash
from sparring.training.classifier import Classification, Hardening, train_classifier
from sparring.training.loop import LoopConfig
from tests.training.test_frontends import images, target

FGSM = "fgsm:eps=8/255"


def pooled(**more) -> Classification:
    return Classification(images(), target(0), {}, Hardening(FGSM, (target(1), target(2)), **more))


def points(task: Classification, index: torch.Tensor, train: bool) -> torch.Tensor:
    x, y = task.images.pixels(index), task.images.y[index]
    assert task.hardening
    return task._attacked(task.hardening, x, y, index, 0, train)


def test_each_batch_is_attacked_on_one_network_of_the_pool_drawn_by_chance():
    task, index = pooled(), torch.arange(12)
    x, y = task.images.pixels(index), task.images.y[index]
    each = [attack(FGSM).run(target(seed), x, y, stop="never").x for seed in range(3)]
    drawn: set[int] = set()
    for seed in range(30):
        torch.manual_seed(seed)
        moved = points(task, index, True)
        drawn |= {i for i, expected in enumerate(each) if torch.equal(moved, expected)}
        assert any(torch.equal(moved, expected) for expected in each), "points of no single network"
    assert drawn == {0, 1, 2}


def test_an_image_held_out_has_its_own_network_whatever_its_batch():
    """And not the trained one alone: its own gradient may be hidden, and the epoch that hides it best would be kept."""
    task, index = pooled(), torch.arange(12)
    together = points(task, index, False)
    alone = torch.cat([points(task, index[i : i + 1], False) for i in range(12)])
    assert torch.allclose(together, alone, atol=1e-6)
    x, y = task.images.pixels(index), task.images.y[index]
    for network in range(3):
        expected = attack(FGSM).run(target(network), x, y, stop="never").x
        assert torch.allclose(together[network::3], expected[network::3], atol=1e-6)


def test_clean_images_have_their_weight_in_the_loss():
    index = torch.arange(12)
    attacked, mixed = (pooled(clean=c).losses(target(0).network, index, 0, False)[0] for c in (0.0, 0.25))
    plain = Classification(images(), target(0), {}).losses(target(0).network, index, 0, False)[0]
    assert torch.allclose(mixed, 0.75 * attacked + 0.25 * plain, atol=1e-6)


def test_the_card_names_the_static_networks_by_their_weights_and_another_pool_does_not_resume(tmp_path):
    """And they leave training as they entered it."""
    pytest.importorskip("accelerate", reason="extra train is not installed")
    static = tmp_path / "static.safetensors"
    train_classifier(images(24, 32), LoopConfig(epochs=1), static, model="resnet10:width=4")
    before = static.read_bytes()
    asked = {"model": "resnet10:width=4", "attack": FGSM, "epochs": 2, "clean": 0.5}
    out = tmp_path / "ens.safetensors"
    sparring.train("adversarial", data=images(24, 32), out=out, static=(f"trained:{static}",), **asked)
    card = json.loads(out.with_suffix(".json").read_text())
    assert card["static"] == ["trained:static.safetensors"]
    assert card["static_hash"] == [weights_hash(sparring.load_model(f"trained:{static}"))]
    assert (card["clean"], card["hardening"]) == (0.5, FGSM)
    assert static.read_bytes() == before

    def stop(done: int, total: int, text: str) -> None:
        if text.startswith("epoch 1: validation"):
            raise KeyboardInterrupt

    half = tmp_path / "half.safetensors"
    with pytest.raises(KeyboardInterrupt):
        sparring.train(
            "adversarial", data=images(24, 32), out=half, static=(f"trained:{static}",), progress=stop, **asked
        )
    for other in ((), ("resnet10:width=4,classes=2,weights=random",)):
        with pytest.raises(SparringError, match="other settings or data"):
            sparring.train("adversarial", data=images(24, 32), out=half, static=other, **asked)
    sparring.train("adversarial", data=images(24, 32), out=half, static=(f"trained:{static}",), **asked)
    assert half.read_bytes() == out.read_bytes(), "stopped and resumed it is the same"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"static": ("resnet10:width=4",)}, "names no weights and would be untrained"),
        ({"static": ("resnet10:width=4,classes=2,weights=random",)}, "knows 2 classes, images has 3"),
        ({"attack": ""}, "attack= is empty"),
        ({"clean": 1}, "clean must be"),
    ],
)
def test_what_is_no_pool_is_refused(options, says, tmp_path):
    three = sparring.ImageSet.of(images(24, 32).x, torch.arange(24) % 3)
    with pytest.raises(SparringError, match=says):
        sparring.train("adversarial", data=three, out=tmp_path / "w.safetensors", **options)
    assert not list(tmp_path.iterdir())
