"""``growth``: short and sparse points, where those that spend their budget everywhere meet another network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import sparring
from sparring.checks.controls import images, linear_net
from sparring.core.geometry import distance

X = 0.2 + 0.6 * (images(24) > 0.5).float()


class NearFar(nn.Module):
    """Where pixels are on their two levels, but for a little in the mean, a linear network; beyond, one that restores the levels first. Every gradient
    is true.
    """

    def __init__(self) -> None:
        super().__init__()
        self.net = linear_net()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.minimum((x - 0.2).abs(), (x - 0.8).abs()).flatten(1).mean(1, keepdim=True)
        restored = 0.2 + 0.6 * torch.sigmoid(30 * (x - 0.5))
        return torch.where(noise < 0.03, self.net(x), self.net(restored))


class Band(NearFar):
    """The restoring network where many pixels moved by more than three fifths of 0.1."""

    def forward(self, x: Tensor) -> Tensor:
        moved = torch.minimum((x - 0.2).abs(), (x - 0.8).abs()).flatten(1)
        restored = 0.2 + 0.6 * torch.sigmoid(30 * (x - 0.5))
        far = ((moved > 0.06).sum(1, keepdim=True) > 4).expand(-1, 4)
        return torch.where(far, self.net(restored), self.net(x))


Y = linear_net()(X).argmax(1).detach()


def test_sparse_points_are_found_where_dense_ones_meet_another_network():
    """It read 79.7 % trusted where 20.3 % stood, on digits: found by an outsider."""
    left = {
        spec: 1 - float(sparring.attack(f"{spec}:eps=0.1").run(NearFar(), X, Y).success.double().mean())
        for spec in ("cascade", "mpgd", "growth")
    }
    assert left["cascade"] > 0.9 < left["mpgd"]
    assert left["growth"] < 0.1


def test_short_points_are_found_where_long_ones_meet_another_network():
    """It read 78.1 % trusted where 12.5 % stood, on digits: found by another outsider."""
    left = {
        spec: 1 - float(sparring.attack(f"{spec}:eps=0.1").run(Band(), X, Y).success.double().mean())
        for spec in ("cascade", "growth")
    }
    assert left["cascade"] > 0.9
    assert left["growth"] < 0.1


def test_the_default_evaluation_sees_it():
    result = sparring.evaluate(NearFar(), (X, Y), threats=["adaptive"], eps=[0.1])
    assert result.verdicts[0].word == "BROKEN"
    gap = next(f for f in result.findings if f.check == "X6")
    assert not gap.ok
    assert "single step" in gap.message


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_each_step_moves_more_values_all_the_way(norm):
    """The first point of a linear classifier moves the values of largest gain, and as many as its share says."""
    out = {
        s: sparring.attack(f"growth:eps=0.05,norm={norm},steps={s}").run(linear_net(), X, Y, stop="never").x - X
        for s in (1, 4)
    }
    for moved in out.values():
        reached = distance(moved.double(), norm)
        assert bool((reached <= 0.05 + 1e-6).all())
        assert float(reached.median()) == pytest.approx(0.05, rel=1e-4)


@pytest.mark.parametrize("network", [linear_net, NearFar])
def test_growing_fgsm_is_fgsm_at_the_least_eps_that_fools(network):
    """By hand: FGSM at one level of 8 bits after the other. Of a network that is fooled by short points and not by long ones, too."""
    model = network()
    outcome = sparring.attack("growing_fgsm").run(model, X, Y, stop="never")
    least = torch.full((len(X),), torch.inf)
    for level in range(255, 0, -1):
        fooled = sparring.attack(f"fgsm:eps={level}/255").run(model, X, Y, stop="never").success
        least = least.where(~fooled, level / 255)
    assert outcome.success.all() == least.isfinite().all()
    hit = outcome.success
    assert hit.double().mean() > 0.5
    assert torch.allclose(outcome.distance[hit], least[hit], atol=1e-6)
    assert (outcome.backwards == 1).all(), "one gradient"
    assert torch.equal(outcome.forwards[hit], (least[hit] * 255).round().long() + 1), (
        "no image is asked about once it is fooled"
    )
