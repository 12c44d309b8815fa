"""Analyses against published numbers and closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import sparring
from sparring.analysis.gradients import class_loss, class_shares, gradient_maps
from sparring.analysis.heatmap import gradient_heatmap
from sparring.analysis.labels import label_map
from sparring.analysis.layers import perturbation_levels
from sparring.analysis.noise import predicted_perturbation
from sparring.analysis.overlap import bait_share
from sparring.analysis.pixels import white_pixels
from sparring.analysis.similarity import reconstruction_loss, ssim_matrix
from sparring.core.errors import SparringError
from sparring.models.ace import AceNet
from sparring.models.classifier import Classifier
from sparring.models.overlap import PUBLISHED_GAIN, bait_pixels, gradient_overlap, top_pixels
from sparring.testing.networks import conv_classifier, pictures

LAMBDAS = (0, 1, 2, 5, 10, 20, 100, float("inf"))
# ACE paper, Table 2, second half: percent of 256 pixels, to one decimal
PUBLISHED = {
    "resnet18": (31.3, 34.4, 35.9, 44.9, 53.9, 63.3, 86.7, 100.0),
    "vgg11": (5.1, 63.3, 64.5, 66.8, 70.7, 75.4, 93.8, 100.0),
}


def architecture(name: str) -> nn.Module:
    """The CIFAR forms: a 3x3 stem without pooling; VGG's features and one linear layer."""
    models = pytest.importorskip("torchvision.models", reason="extra models is not installed")
    if name == "vgg11":
        return nn.Sequential(models.vgg11().features, nn.Flatten(), nn.Linear(512, 10))
    network = models.resnet18(num_classes=10)
    network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    return network


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_ace_table_2_overlap_shares_are_the_published_numbers(name):
    """All 16, from architecture alone. At lambda 0 nothing is fitted; the gain of the others is ours (see ``structural``)."""
    network = architecture(name)
    found = [100 * bait_share(gradient_overlap(AceNet(network, lam), gain=PUBLISHED_GAIN)) for lam in LAMBDAS]
    assert found == pytest.approx(PUBLISHED[name], abs=0.051)


def test_the_literal_all_ones_rule_saturates_instead():
    network = architecture("resnet18")
    assert bait_share(gradient_overlap(AceNet(network, 1))) > 0.97


def test_the_overlap_of_one_convolution_counts_its_windows():
    overlap = gradient_overlap(nn.Conv2d(3, 2, 3, padding=1), size=4)
    assert overlap.tolist()[0] == [3 * 2 * n for n in (4, 6, 6, 4)]
    assert overlap.tolist()[1] == [3 * 2 * n for n in (6, 9, 9, 6)]
    assert top_pixels(torch.arange(10.0).reshape(2, 5), 0.3).sum() == 3
    assert top_pixels(overlap, 1.0).all()
    assert bait_pixels(5, 4).sum() == 6


def test_a_linear_network_carries_a_perturbation_unchanged():
    """E_l of bias-free linear layers is the input's, scaled by the matrices; of a threefold image 2."""
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(12, 7, bias=False), nn.Linear(7, 5, bias=False), nn.Linear(5, 4, bias=False)
    )
    x = torch.rand(6, 3, 2, 2)
    levels = perturbation_levels(network, x, 3 * x, ["1", "2", "3"])
    assert list(levels) == ["input", "1", "2", "3"]
    assert list(levels.values()) == pytest.approx([2.0] * 4, rel=1e-5)
    assert list(perturbation_levels(network, x, 3 * x)) == ["input", "1", "2", "3"]
    with pytest.raises(SparringError, match="is not a module"):
        perturbation_levels(network, x, x, ["layer9"])


@pytest.mark.parametrize("share", [0.5, 1.0, 1.3])
def test_the_slope_is_the_share_of_noise_removed(share):
    clean = torch.rand(5, 3, 8, 8)
    noise = 0.1 * torch.randn(5, 3, 8, 8)
    found = predicted_perturbation(clean, clean + noise, clean + (1 - share) * noise)
    assert found.slope == pytest.approx(share, rel=1e-4)
    assert int(found.histogram.sum()) == found.n == 5 * 192
    with pytest.raises(SparringError, match="no perturbation"):
        predicted_perturbation(clean, clean, clean)


def test_gradient_maps_and_their_similarity():
    torch.manual_seed(0)
    network, x, y = nn.Sequential(nn.Flatten(), nn.Linear(3 * 144, 4)), torch.rand(6, 3, 12, 12), torch.arange(6) % 4
    maps = gradient_maps(class_loss(network, y), x, batch=4)
    assert torch.allclose(maps, gradient_maps(class_loss(network, y), x, batch=6), atol=1e-5)
    assert torch.allclose(maps.flatten(1).amax(1), torch.ones(6))
    copy = gradient_maps(reconstruction_loss(nn.Identity()), x)
    assert copy.abs().sum() == 0, "a perfect copy has no reconstruction gradient"
    table = ssim_matrix({"one": maps, "same": maps, "other": torch.rand_like(maps)})
    assert table["one"]["same"] == pytest.approx(1)
    assert table["one"]["other"] < 0.3


def test_class_shares_sum_to_one_and_see_a_bait():
    grad = torch.zeros(2, 3, 8, 8)
    grad[..., ::2, ::2] = 1
    assert class_shares(grad).tolist() == [[1, 0], [0, 0]]
    assert float(class_shares(torch.rand(4, 3, 9, 8)).sum()) == pytest.approx(1, abs=1e-5)


def test_white_pixels_and_label_maps_of_a_known_network():
    """Class 1 wins once pixel (1, 2) is bright: one white pixel flips every image, and only along that axis labels change."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        network[1].weight.zero_()  # type: ignore[union-attr]
        network[1].bias.copy_(torch.tensor([0.5, 0.0]))  # type: ignore[union-attr]
        network[1].weight[1, 6] = 1.0  # type: ignore[index]
    x = torch.full((3, 1, 4, 4), 0.2)
    changed, right = white_pixels(network, x, torch.tensor([0, 0, 1]))
    assert right.tolist() == [True, True, False], "an image that is wrong before is not counted"
    assert changed.shape == (2, 4, 4)
    assert changed[:, 1, 2].all()
    assert changed.sum() == 2
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[1, 2] = True
    labels = label_map(network, x[:1], torch.ones(1, 1, 4, 4), mask, 1.0, 11)
    assert (labels == labels[0]).all()
    assert labels[0].tolist() == [0] * 7 + [1] * 4  # 0.2 + j > 0.5 first at j = 0.4


def test_white_pixels_are_counted_at_the_most_tied_ones_and_at_the_others():
    """A convolution of stride 2 reads the pixels of even row and column alone: these are tied, and one of them is enough."""
    network = nn.Sequential(nn.Conv2d(1, 1, 1, 2), nn.Flatten(), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        for value in network.parameters():
            value.zero_()
        network[0].weight.fill_(1.0)  # type: ignore[union-attr]
        network[2].weight[1].fill_(1.0)  # type: ignore[index]
        network[2].bias[0] = 1.5  # type: ignore[index]
    images = sparring.ImageSet.of(torch.full((3, 1, 4, 4), 0.2), [0, 0, 0])
    panel = sparring.analyze("pixels", Classifier(network, (0.0,), (1.0,)), images, share=0.25)
    told = panel.json()["data"]
    assert told["tied"]["values"] == [1, 1, 1]
    assert told["others"]["values"] == [0, 0, 0]
    assert told["tied"]["images"] == told["others"]["images"]
    assert len(panel.maps) == 2
    assert "tied" not in sparring.analyze("pixels", Classifier(network, (0.0,), (1.0,)), images).data
    with pytest.raises(SparringError, match="no squares"):
        sparring.analyze("pixels", Classifier(network, (0.0,), (1.0,)), (images.x[..., :3], [0, 0, 0]), share=0.25)


def test_a_heatmap_of_a_linear_network_is_its_weights():
    """Two classes with opposite weights: |d CE / d x| is proportional to |w| for every image."""
    network = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        network[2].weight[1] = -network[2].weight[0]  # type: ignore[index]
    x, y = torch.rand(5, 1, 4, 4), torch.zeros(5, dtype=torch.int64)
    found = gradient_heatmap(network, x, y)
    weights = network[2].weight[0].detach().abs().reshape(4, 4)  # type: ignore[index]
    assert torch.allclose(found / found.max(), weights / weights.max(), atol=1e-5)
    assert torch.equal(gradient_heatmap(network, x, y, "0"), found)
    with pytest.raises(SparringError, match="not a map of pixels"):
        gradient_heatmap(network, x, y, "1")


def test_labels_behind_a_defense_are_those_of_the_system():
    """Along the defense's declared gradient, every point through the defense; the bare model's map is another."""
    network, images = conv_classifier(), pictures()
    coarse = {"points": 5, "reach": 2.0, "image": 1}
    behind = sparring.analyze("labels", network, images, defense="cd:bits=1", **coarse).json()["data"]
    bare = sparring.analyze("labels", network, images, **coarse).json()["data"]
    assert behind["labels"] != bare["labels"]
    x, y = images.x[1:2], images.y[1:2]
    leaf = x.round().requires_grad_(True)
    (grad,) = torch.autograd.grad(torch.nn.functional.cross_entropy(network(leaf), y), leaf)
    want = label_map(lambda u: network(u.clamp(0, 1).round()), x, grad, bait_pixels(32, 32), 2.0, 5)
    assert behind["labels"] == want.tolist()
    middle = want[2]
    assert behind["on_bait"] == float((middle == middle[2]).double().mean())
    with pytest.raises(SparringError, match="gives no gradient"):
        sparring.analyze("labels", Constant().eval(), images, **coarse)


class Constant(torch.nn.Module):
    """Says the same of every image."""

    def forward(self, x):
        return x.flatten(1)[:, :10] * 0


class Branched(nn.Module):
    """One activation called twice, a parameter outside of any leaf, a layer that nothing passes, one whose output is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3, 1, 1))
        self.conv, self.relu, self.pool = nn.Conv2d(3, 4, (1, 3), padding="same"), nn.ReLU(), nn.MaxPool2d(2)
        self.twin, self.spare, self.linear = nn.GRU(36, 5, batch_first=True), nn.Linear(7, 7), nn.Linear(5, 10)

    def forward(self, x):
        z = self.relu(self.pool(self.relu(self.conv(self.gain * x))))
        return self.linear(self.twin(z.flatten(2))[0][:, -1])


def test_an_architecture_is_what_a_pass_calls():
    """Twice called is two rows, not called is said, and every parameter of the network is in some row or named as not called."""
    network = Classifier(Branched().eval(), (0.0,), (1.0,))
    told = sparring.analyze("architecture", network, (torch.rand(2, 3, 12, 12), [0, 1])).json()["data"]
    names = ["conv", "relu", "pool", "relu (call 2)", "twin", "linear", ""]
    assert list(told["layers"]) == [f"network.{name}".rstrip(".") for name in names], (
        "in the order in which they return"
    )
    conv = told["layers"]["network.conv"]
    assert conv == {
        "kind": "Conv2d",
        "parameters": 4 * 3 * 3 + 4,
        "in": 3,
        "out": 4,
        "kernel": [1, 3],
        "stride": 1,
        "padding": "same",
        "output": [4, 12, 12],
    }
    assert told["layers"]["network.pool"]["output"] == [4, 6, 6]
    assert told["layers"]["network.twin"]["output"] is None
    assert told["layers"]["network"]["parameters"] == 3
    assert told["kinds"]["ReLU"] == {"calls": 2, "parameters": 0}
    assert list(told["not called"]) == ["network.spare"]
    every = sum(p.numel() for p in network.parameters())
    rows = [*told["layers"].values(), *told["not called"].values()]
    assert told["parameters"] == sum(row["parameters"] for row in rows) == every


def test_the_toy_network_of_ace_is_that_of_its_table_6():
    panel = sparring.analyze("architecture", "ace_toy:weights=random", "cues:count=1")
    told = panel.json()["data"]
    assert [row["out"] for row in told["layers"].values() if "out" in row] == [16, 32, 64, 512, 10]
    assert told["layers"]["network.7"]["in"] == 1600
    assert told["parameters"] == 848_426
    assert {kind: of["calls"] for kind, of in told["kinds"].items()} == {
        "Conv2d": 3,
        "ReLU": 3,
        "Flatten": 1,
        "Linear": 2,
    }
