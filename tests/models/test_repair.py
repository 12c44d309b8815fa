"""A network's forward with another gradient: what blunts or stops gradients is passed by, and what is honest is left alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sparring.checks.controls import images, linear_net
from sparring.core.losses import margin
from sparring.core.noise import Noise
from sparring.defenses.base import Defended, OwnStage
from sparring.models.repair import Mending, repaired_stage

X = images(16)


class Negated(torch.autograd.Function):
    """The forward is the input; the backward the negated gradient."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:
        return -grads[0]


class OfNewStyle(torch.autograd.Function):
    """Rounds; the backward is a fixed field."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:
        return torch.ones_like(grads[0])


class StraightThrough(torch.autograd.Function):
    """An honest quantizer: rounds, and passes the gradient."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return (x * 15).round() / 15

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:
        return grads[0]


class Wrapped(nn.Module):
    def __init__(self, change) -> None:
        super().__init__()
        self.net, self.change = linear_net(), change
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.net, x)


def without_grad(net: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        x = x * 1.0
    return net(x)


MASKED = {
    "softmax": lambda net, x: (100 * net(x)).softmax(1),
    "log of a saturated softmax": lambda net, x: ((100 * net(x)).softmax(1) + 1e-30).log(),
    "rounded logits": lambda net, x: net(x).round(),
    "one-hot": lambda net, x: nn.functional.one_hot(net(x).argmax(1), 4).float(),
    "detached logits": lambda net, x: net(x).detach(),
    "detached images": lambda net, x: net(x.detach()),
    "data": lambda net, x: net(x.data),
    "no_grad": without_grad,
    "negated": lambda net, x: net(Negated.apply(x)),
    "field": lambda net, x: OfNewStyle.apply(net(x)),
    "levels": lambda net, x: net((x * 15).round() / 15),
    "remainder": lambda net, x: net(x - x % 0.0625),
    "integers": lambda net, x: net((x * 15).int().float() / 15),
    "comparison": lambda net, x: net((x > 0.5).float()),
    "buckets": lambda net, x: net(torch.bucketize(x, torch.linspace(0, 1, 16)).float() / 16),
}
HONEST = {
    "plain": lambda net, x: net(x),
    "scaled": lambda net, x: 1000 * net(x),
    "log-probabilities": lambda net, x: net(x).log_softmax(1),
    "straight-through": lambda net, x: net(StraightThrough.apply(x)),
    "mean of two": lambda net, x: (net(x) + net(x.flip(3))) / 2,
    "relu by comparison": lambda net, x: net(torch.where(x > 0.3, x, 0.3)),
}


@pytest.mark.parametrize("name", list(MASKED))
def test_a_masked_network_gets_the_gradient_it_hides(name):
    network = Wrapped(MASKED[name])
    mended = Mending(network, X).repaired()
    assert mended is not None
    leaf = X.clone().requires_grad_(True)
    out = mended(leaf)
    assert torch.equal(out.argmax(1), network(X).argmax(1)), "the decision is the network's own"
    margins = out.gather(1, out.argmax(1, keepdim=True)).sum() - out.sum() / out.shape[1]
    (grad,) = torch.autograd.grad(margins, leaf)
    true_leaf = X.clone().requires_grad_(True)
    z = linear_net()(true_leaf)
    (truth,) = torch.autograd.grad(z.gather(1, out.argmax(1, keepdim=True)).sum() - z.sum() / z.shape[1], true_leaf)
    alike = nn.functional.cosine_similarity(grad.flatten(1), truth.flatten(1))
    assert float(alike.min()) > 0.9


@pytest.mark.parametrize("name", list(HONEST))
def test_an_honest_network_is_left_alone(name):
    assert Mending(Wrapped(HONEST[name]), X).repaired() is None


@pytest.mark.parametrize(
    "clip",
    [lambda x: x.clamp(0, 1), lambda x: torch.clip(x, min=0).clamp_max(1), nn.functional.relu, nn.functional.relu6],
)
def test_black_pixels_keep_their_gradient(clip):
    """At its bounds torch's gradient of a clamp is 0, though it changes no image: 75 % robust, trusted, where 44 % were."""
    x = (X > 0.5).to(X.dtype) * X
    network, plain = Wrapped(lambda net, x: net(clip(x))), linear_net()
    assert torch.equal(network(x), plain(x))
    mended = Mending(network, x).repaired()
    assert mended is not None
    grads = []
    for f in (mended, plain):
        leaf = x.clone().requires_grad_(True)
        grads.append(torch.autograd.grad(margin(f(leaf), plain(x).argmax(1)).sum(), leaf)[0])
    assert torch.allclose(*grads, atol=1e-5)


def test_activations_that_are_cut_off_keep_their_own_gradient():
    """The clipped units of a network are no picture: no second view of every network with ReLU6."""
    layer = nn.Conv2d(3, 8, 3)
    units = lambda f: Wrapped(lambda net, x: f(layer(x)).flatten(2).mean(2))  # noqa: E731
    assert Mending(units(nn.functional.relu), X).repaired() is None
    assert Mending(units(nn.functional.relu6), X).repaired() is None
    assert Mending(units(lambda u: u.clamp(-0.1, 0.1)), X).repaired() is None


def test_what_cannot_be_mended_is_left_alone():
    assert Mending(Wrapped(lambda net, x: net(torch.from_numpy(x.detach().numpy()))), X).repaired() is None


class Decoy(nn.Module):
    """Decides by one network and shows the scores of another; a third is right now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.shown, self.beside = linear_net(), linear_net(seed=1, scale=0.01), linear_net(seed=2)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        beside, z = self.beside(x), self.network(x)
        return 10.0 * nn.functional.one_hot(z.detach().argmax(1), z.shape[1]) + self.shown(x) + 1e-4 * beside


def test_what_decides_is_found_behind_a_decoys_scores():
    network = Decoy()
    found = Mending(network, X).decider()
    assert found is not None
    grads = []
    for f in (found, network.network):
        leaf = X.clone().requires_grad_(True)
        z = f(leaf)
        (grad,) = torch.autograd.grad(margin(z, network(X).argmax(1)).sum(), leaf)
        grads.append(grad.flatten(1))
    assert float(nn.functional.cosine_similarity(*grads).min()) > 0.99
    assert torch.equal(found(X).argmax(1), network(X).argmax(1))


@pytest.mark.parametrize(
    "leave", [lambda z: z.detach().numpy(), lambda z: np.asarray(z.detach().cpu()), lambda z: np.array(z.tolist())]
)
def test_what_decides_is_found_where_its_logits_leave_torch(leave):
    network = linear_net()

    class Outside(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            label = leave(network(x)).argmax(1)
            return 10.0 * nn.functional.one_hot(torch.as_tensor(label), 4) + linear_net(seed=1, scale=0.01)(x)

    found = Mending(Outside().eval(), X).decider()
    assert found is not None
    leaf = X.clone().requires_grad_(True)
    (grad,) = torch.autograd.grad(margin(found(leaf), network(X).argmax(1)).sum(), leaf)
    (truth,) = torch.autograd.grad(margin(network(leaf), network(X).argmax(1)).sum(), leaf)
    assert float(nn.functional.cosine_similarity(grad.flatten(1), truth.flatten(1)).min()) > 0.99


class OneByOne(nn.Module):
    """Takes its images one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.shown = linear_net(), linear_net(seed=1, scale=0.01)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        label = torch.tensor([int(self.network(image[None]).softmax(1).argmax()) for image in x])
        return 10.0 * nn.functional.one_hot(label, 4) + self.shown(x)


def test_what_decides_is_found_image_by_image():
    network = OneByOne()
    found = Mending(network, X).decider()
    assert found is not None
    (together, apart) = (found(X), torch.cat([found(x[None]) for x in X]))
    assert torch.equal(together.argmax(1), network(X).argmax(1))
    assert torch.allclose(together, apart, atol=1e-5), "an image's answer does not depend on its batch-mates"
    assert not torch.equal(together, network(X)), "it is not the scores that are shown"


def test_no_other_decides_where_scores_show_it():
    assert Mending(Wrapped(HONEST["plain"]), X).decider() is None
    assert Mending(linear_net(), X).decider() is None


def test_a_stage_whose_gradient_is_stopped_gets_one():
    levels = repaired_stage(lambda u: (u * 7).round() / 7, X)
    assert levels is not None
    assert repaired_stage(lambda u: u * 0.5, X) is None
    assert isinstance(repaired_stage(lambda u: torch.from_numpy(u.detach().numpy()), X), nn.Identity)


def test_the_adaptive_attacker_gets_the_mended_view_and_the_deployed_system_stays():
    stage = OwnStage("levels", lambda u: (u * 7).round() / 7)
    plain = Defended(linear_net(), (stage,), name="levels")
    mended = plain.mended(X)
    assert [v.name for v in plain.variants()] == ["default"]
    assert [v.name for v in mended.variants()] == ["default", "repaired"]
    noise = Noise.of(0, "judge", torch.arange(len(X)))
    for variant in mended.variants():
        assert torch.equal(variant.system.scores(X, noise), plain.system().scores(X, noise))
