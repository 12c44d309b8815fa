"""Shape against texture: shuffles are permutations, cues are what they say, shares are counted by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import sparring
from sparring.analysis.cues import cue_decisions
from sparring.analysis.patches import patch_shuffle, right_for_all
from sparring.attacks.low_frequency import lowest
from sparring.cli.app import app
from sparring.core.errors import SparringError
from sparring.core.noise import Noise, image_keys
from sparring.data.cues import SHAPES, TEXTURES, cue_images


def noise(names: list[str]) -> Noise:
    return Noise.of(0, "patches", image_keys(names))


@given(k=st.sampled_from([1, 2, 3, 6]), channels=st.sampled_from([1, 3]))
@settings(max_examples=20, deadline=None)
def test_patches_change_places_and_stay_whole(k, channels):
    x = torch.arange(2 * channels * 12 * 12).reshape(2, channels, 12, 12).float()
    out = patch_shuffle(x, k, noise(["a", "b"]))
    side = 12 // k
    cut = lambda t: {tuple(p.flatten().tolist()) for p in t.unfold(1, side, side).unfold(2, side, side).permute(1, 2, 0, 3, 4).flatten(0, 1)}  # noqa: E731  # fmt: skip
    for before, after in zip(x, out, strict=True):
        assert cut(before) == cut(after)
    assert torch.equal(out[1:], patch_shuffle(x[1:], k, noise(["b"]))), "an image's permutation is its own"
    if k == 1:
        assert torch.equal(out, x)


def test_permutations_are_uniform():
    """Each of 4 patches lands in the first place equally often: chi-square at 3 degrees of freedom."""
    x = torch.arange(4.0).reshape(1, 1, 2, 2).expand(2000, -1, -1, -1)
    first = patch_shuffle(x, 2, noise([str(i) for i in range(2000)]))[:, 0, 0, 0]
    counts = torch.stack([(first == v).sum() for v in range(4)]).double()
    assert float((counts - 500).square().sum() / 500) < 16.3  # p = .001


def test_patches_must_fit():
    with pytest.raises(
        SparringError, match="5 x 5 patches do not divide images of 12 x 12; these do: sides=2,3,4,6,12"
    ):
        patch_shuffle(torch.zeros(1, 3, 12, 12), 5, noise(["a"]))


def test_cues_agree_or_conflict_and_an_image_is_always_the_same():
    agree, texture = cue_images("train", 40)
    assert torch.equal(agree.y, texture)
    conflict, other = cue_images("conflict", 40)
    assert bool((conflict.y != other).all())
    fewer, _ = cue_images("conflict", 10)
    assert torch.equal(fewer.x, conflict.x[:10])
    assert conflict.lattice
    assert len(SHAPES) == len(TEXTURES) == 10
    assert not torch.equal(cue_images("test", 5)[0].x, agree.x[:5])
    assert torch.equal(sparring.load_data("cues:split=conflict,count=10").x, fewer.x)
    with pytest.raises(SparringError, match="split=all"):
        cue_images("all")


def test_shapes_differ_as_shapes():
    """The outlines alone tell the classes apart: no two cover the same points of a common frame."""
    y, x = np.mgrid[-1:1:61j, -1:1:61j]
    inside = [f(np.hypot(x, y), np.arctan2(y, x)) for f in SHAPES.values()]
    for i, a in enumerate(inside):
        assert 0.1 < a.mean() < 0.9
        for b in inside[:i]:
            assert (a & b).sum() / (a | b).sum() < 0.88


class Fixed(nn.Module):
    """Answers with given labels, in order, at a given confidence."""

    def __init__(self, labels: list[int], gap: float = 20.0) -> None:
        super().__init__()
        self.labels, self.gap = labels, gap

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gap * nn.functional.one_hot(torch.tensor(self.labels), 4).float()


def test_counts_by_hand():
    x, y = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
    both = {"a": Fixed([0, 1, 2, 0]), "b": Fixed([0, 1, 3, 3])}
    assert right_for_all(both, x, y).tolist() == [True, True, False, False]
    assert not right_for_all({**both, "c": Fixed([0, 1, 2, 3], gap=0.1)}, x, y, 0.99).any(), "not sure enough"
    found = cue_decisions(Fixed([0, 1, 3, 2]), x, [0, 1, 1, 1], [3, 3, 3, 3])
    assert (found.shape, found.texture, found.n) == (2, 1, 4)
    assert found.bias == 2 / 3


def test_low_pass_of_the_attack_is_an_orthogonal_projection():
    x = torch.rand(2, 3, 12, 10, dtype=torch.float64)
    low = lowest(x, 4)
    assert torch.allclose(lowest(low, 4), low, atol=1e-12)
    assert float(((x - low) * low).sum().abs()) < 1e-10
    assert torch.allclose(lowest(x, 12), x, atol=1e-12), "all coefficients are the image"
    assert torch.allclose(lowest(x, 1), x.mean((2, 3), keepdim=True).expand_as(x), atol=1e-12)


def test_a_low_frequency_perturbation_is_low_inside_the_box():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4)).eval()
    x = 0.5 + 0.01 * torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = sparring.attack("low_frequency:eps=0.05,norm=l2,block=3").run(net, x, net(x).argmax(1), stop="never")
    moved = found.x - x
    assert float(moved.flatten(1).norm(dim=1).min()) > 0.02
    assert torch.allclose(lowest(moved, 3), moved, atol=1e-6), "an l2 ball inside the box needs no clipping"


@pytest.mark.slow
def test_the_commands(tmp_path):
    x = (np.random.default_rng(0).random((8, 3, 32, 32)) * 255).astype(np.uint8)
    model = "resnet10:weights=random"
    y = sparring.load_model(model)(torch.from_numpy(x).float() / 255).argmax(1).numpy()
    np.savez(tmp_path / "d.npz", x=x, y=y)
    common = [
        "analyze",
        "patches",
        model,
        "defective:model=resnet10,keep=1,weights=random",
        "--data",
        str(tmp_path / "d.npz"),
    ]
    made = CliRunner().invoke(app, [*common, "--png", str(tmp_path / "p.png"), "--json"])
    assert made.exit_code == 0, made.output
    counts = json.loads(made.stdout)["data"][model]
    assert counts["whole"] == {"right": 8, "n": 8}
    assert set(counts) == {"whole", "2 x 2", "4 x 4", "8 x 8"}
    assert Image.open(tmp_path / "p.png").size[0] > 500
    for i in range(8):  # restyled images are found by name
        folder = tmp_path / "plain" / str(y[i])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x[i].transpose(1, 2, 0)).save(folder / f"{i}.png")
    common[-1] = str(tmp_path / "plain")
    made = CliRunner().invoke(app, [*common, "--stylized", str(tmp_path / "plain"), "--json"])
    assert json.loads(made.stdout)["data"][model]["stylized"] == {"right": 8, "n": 8}
    made = CliRunner().invoke(app, [*common, "--sides", "x"])
    assert isinstance(made.exception, SparringError)
    made = CliRunner().invoke(app, ["analyze", "cues", model, "--count", "20", "--json"])
    found = json.loads(made.stdout)["data"][model]
    assert found["shape"] + found["texture"] <= found["n"] == 20


def test_a_limit_in_the_text_of_the_images_stands_in_the_place_of_the_analysis_own():
    panel = sparring.analyze("heatmap", "mnist_cnn", "mnist5k:limit=3", attack="fgsm:eps=0.1")
    assert panel.title.endswith("n=3")
