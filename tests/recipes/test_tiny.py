"""Packaged recipes whose parts hang together in ways of their own, run to their end on networks and images of next to no size."""

from __future__ import annotations

import json

import numpy as np
import pytest

import sparring
from sparring.recipes.load import load_recipe
from sparring.recipes.replay import replay

pytest.importorskip("accelerate", reason="extra train is not installed")
NETS = [f"trained:${{DATA}}/net{seed}.safetensors" for seed in range(3)]
HGD = {
    "target": NETS[0],
    "beside": NETS[1],
    "sources": f"{NETS[0]},{NETS[1]}",
    "held_out": NETS[2],
    "training": "${DATA}/toy.npz,limit=16",
    "data": "${DATA}/toy.npz,limit=4",
    "few": "${DATA}/toy.npz,limit=2",
    "ens_model": "small_cnn",
    "ens_data": "${DATA}/toy.npz",
    "ens_size": "small",
    "ens_epochs": "6",
}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """64 images of 12x12 pixels, whose label is whether they are bright, and three networks that know it."""
    folder = tmp_path_factory.mktemp("data")
    label = np.arange(64) % 2
    x = np.random.default_rng(0).integers(0, 128, (64, 3, 12, 12)) + 96 * label[:, None, None, None]
    np.savez(folder / "toy.npz", x=x.astype(np.uint8), y=label)
    for seed in range(3):
        sparring.train(
            "classifier", data=f"{folder}/toy.npz", out=folder / f"net{seed}.safetensors", epochs=6, batch=16, seed=seed
        )
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Where the steps write: what a paper's recipes share is trained once."""
    return tmp_path_factory.mktemp("out")


def tiny(name: str, texts: dict[str, str], without: dict[str, list[str]]):
    """A packaged recipe at the small scale, with other texts, one seed, and without some labels of its axes."""
    recipe = load_recipe(name)
    scale = recipe.scale["small"]
    assert set(texts) <= set(scale.texts)
    axes = {axis: {**scale.axes.get(axis, {}), **dict.fromkeys(labels, False)} for axis, labels in without.items()}
    changes = {"texts": {**scale.texts, **texts}, "seeds": scale.seeds[:1], "axes": {**scale.axes, **axes}}
    smaller = scale.model_copy(update=changes)
    return recipe.model_copy(update={"scale": {"small": smaller}})


@pytest.mark.slow
def test_a_denoiser_before_a_network_of_ensemble_adversarial_training(toy, out):
    replayed = replay(tiny("hgd/table7", HGD, {"set": ["White 4", "Black 4"]}), out=out, data_dir=toy)
    assert not replayed.absent
    assert [sum(n.seat == seat for n in replayed.numbers) for seat in ("paper", "adaptive")] == [12, 12]
    (images,) = {n.images for n in replayed.numbers if n.seat == "paper"}
    assert images, "all rows on the same images: claims are judged in pairs"


@pytest.mark.slow
def test_the_denoising_loss_stands_beside_the_accuracies(toy, out):
    """A clean image that nothing denoises is as far from itself as 0; an attacked one is within the ball; each in its own unit."""
    shared = {name: HGD[name] for name in ("target", "sources", "held_out", "training", "data", "few")}
    recipe = tiny("hgd/table2", shared, {"set": ["White 4", "Black 4"]})
    replayed = replay(recipe, out=out, data_dir=toy)
    assert not replayed.absent
    ours = {(n.seat, *n.labels): n for n in replayed.numbers}
    assert len(ours) == 2 * 2 * 3 * 3
    for seat in ("paper", "adaptive"):
        assert ours[seat, "loss", "NA", "Clean"].value == 0
        assert ours[seat, "loss", "NA", "White 16"].scale == 1
        assert ours[seat, "accuracy", "NA", "White 16"].scale == 100
    for where in ("White 16", "Black 16"):
        assert 0 < ours["paper", "loss", "NA", where].value <= 16 / 255 + 1e-6
    assert ours["paper", "loss", "NA", "White 16"].value != ours["paper", "loss", "NA", "Black 16"].value
    assert ours["paper", "loss", "DAE", "Clean"].n == 4


@pytest.mark.slow
def test_seven_wirings_on_the_same_points(toy, out):
    """Without who knows them: seven systems of two denoisers and two networks are dear to know."""
    recipe = tiny("hgd/table9", HGD, {"set": ["White 4", "Black 4"]})
    made = [step.id for step in recipe.train if "small" in step.scales]
    replayed = replay(recipe, out=out, data_dir=toy, only=[*made, "white", "white_single"])
    assert len({n.labels[0] for n in replayed.numbers}) == 7
    assert len({n.images for n in replayed.numbers}) == 1
    assert all("adaptive" in cell or "Black" in cell for cell in replayed.absent)


@pytest.mark.slow
def test_the_contests_solution_on_its_fourteen_attacks(toy, out):
    shared = {
        name: HGD[name]
        for name in ("target", "beside", "data", "few", "ens_model", "ens_data", "ens_size", "ens_epochs")
    }
    texts = {"third": NETS[1], "fourth": NETS[2], "held_out": NETS[1], "contest": "${DATA}/toy.npz,limit=8"}
    recipe = tiny("hgd/table6", shared | texts, {})
    made = [step.id for step in recipe.train if "small" in step.scales]
    replayed = replay(recipe, out=out, data_dir=toy, only=[*made, "contest_attacks"])
    assert [n.labels for n in replayed.numbers] == [("FGD(ours)", "score"), ("the networks alone", "score")]
    assert all(0 <= n.value <= 1 and len(n.columns) == 5 for n in replayed.numbers), "a share, the mean of five attacks"
    manifest = json.loads((out / "hgd.small/trained/contest-s0/manifest.json").read_text())
    assert len(manifest["members"]) == 14
    assert manifest["eps"] == [16, 16]
