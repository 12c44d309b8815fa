"""What an informed attacker gets from each learned stage: its backwards against vector-Jacobian products done by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import sparring
from sparring.checks.controls import linear_net
from sparring.core.noise import Noise, image_keys
from sparring.core.system import Readout, apply_part
from sparring.defenses.base import Defended, Surrogate
from sparring.defenses.learned import shift
from sparring.defenses.surrogates import Blocks, Smoothed, unit
from sparring.threats import threat


def install(spec: str) -> Defended:
    return sparring.defense(spec).install(Defended(linear_net(), id="a"))


def noise(count: int) -> Noise:
    return Noise.of(0, "test", image_keys([str(i) for i in range(count)]))


def pulled(spec: str, variant: str, x: Tensor, v: Tensor) -> Tensor:
    """What the stage's backward makes of the cotangent v at x."""
    leaf = x.clone().requires_grad_(True)
    out = apply_part(install(spec).stages[0].part(variant), leaf, noise(len(x)))
    return torch.autograd.grad(out, leaf, v)[0]


X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
V = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("side", "back"), [("left", "right"), ("up", "down")])
def test_the_class_normalised_backward_of_a_shift_goes_through_the_shift(side, back):
    """The adjoint of a shift is the opposite shift; then each pixel class at length 1."""
    spec = f"shift:size=1,side={side}"
    adjoint = shift(V, 1, back)
    assert torch.allclose(pulled(spec, "exact", X, V), adjoint)
    found = pulled(spec, "per-class", X, V)
    for row in range(2):
        for column in range(2):
            at = (..., slice(row, None, 2), slice(column, None, 2))
            assert torch.allclose(found[at], unit(adjoint[at]), atol=1e-5)


def test_hgd_steers_by_what_it_adds():
    exact = pulled("hgd:weights=random", "exact", X, V)
    assert torch.allclose(pulled("hgd:weights=random", "steer", X, V), exact - V, atol=1e-5)


def test_the_strength_of_hgd_scales_the_noise_it_removes():
    once, twice = (install(f"hgd:weights=random,strength={s}").stages[0](X, noise(2)) for s in (1, 2))
    assert float((once - X).detach().abs().max()) > 1e-4
    assert torch.allclose(twice - X, 2 * (once - X), atol=1e-5)


def test_ace_mixes_its_network_with_the_image():
    none, half, full = (install(f"ace:weights=random,lam={lam}").stages[0](X, noise(2)) for lam in (0, 0.5, 1))
    assert torch.allclose(none, X)
    assert not torch.allclose(full, X, atol=1e-3)
    assert torch.allclose(half, (full + X) / 2, atol=1e-5)


@pytest.mark.slow
def test_s2snet_is_attacked_with_soft_switches_and_on_its_range():
    system = install("s2snet:weights=random")
    network = system.stages[0].network
    leaf = X.clone().requires_grad_(True)
    (soft,) = torch.autograd.grad(network(leaf, temperature=0.1), leaf, V)  # type: ignore[operator]
    assert torch.allclose(pulled("s2snet:weights=random", "soft", X, V), soft, atol=1e-6)
    exact = pulled("s2snet:weights=random", "exact", X, V)
    assert not torch.allclose(soft, exact, rtol=1e-2)
    assert torch.allclose(pulled("s2snet:weights=random", "mixed", X, V), 0.5 * unit(exact) + 0.5 * unit(V), atol=1e-5)
    names = [v.name for v in system.variants()]
    assert names == ["default", *(f"s2snet={b}" for b in ("exact", "identity", "soft", "smoothed", "range"))]


def test_smoothed_averages_the_gradient_over_neighbours():
    """E 3 (u + s n)^2 at u = 0 is 3 s^2, where the gradient of u^3 itself is 0."""
    u = torch.zeros(1, 1, 30, 30)
    found = Smoothed(lambda z: z**3, std=0.5, samples=64).pull(u, torch.ones_like(u))
    assert float(found.mean()) == pytest.approx(3 * 0.25, rel=0.05)


def test_the_gradient_of_a_block_is_the_blocks():
    """The adjoint of the block mean is the block mean: <mean(g), d> = <g, mean(d)>."""
    ball: object = None
    found = Blocks().pullback(V, X, X, ball)  # type: ignore[arg-type]
    assert torch.equal(found[..., ::2, ::2], found[..., 1::2, 1::2])
    assert torch.allclose(found[..., ::2, ::2], V.unflatten(2, (4, 2)).unflatten(4, (4, 2)).mean((3, 5)), atol=1e-6)


def test_the_first_declared_backward_is_the_default_and_the_others_are_tried_in_turn():
    assert Surrogate(backward={"identity": "identity", "exact": "exact"}, random=False, why="").default == "identity"
    system = install("cd:bits=3+svd:rate=0.5")
    assert system.system().parts[0].backward == "identity"
    assert system.system({0: "exact"}).parts[0].backward == "exact"
    names = [v.name for v in system.variants()]
    assert names[:4] == ["default", "cd=staircase10", "cd=staircase50", "svd=identity"]


def test_whatever_changes_the_answers_changes_the_fingerprint():
    base = Defended(linear_net(), id="a")
    gauss = sparring.defense("gauss:std=0.1").install(base)
    systems = [
        base.system(),
        Defended(linear_net(), id="b").system(),
        gauss.system(),
        *(Defended(gauss.network, gauss.stages, Readout("vote", n), gauss.name, "a").system() for n in (3, 5)),
        Defended(gauss.network, gauss.stages, Readout("mean-prob", 3), gauss.name, "a").system(),
    ]
    assert len({s.id for s in systems}) == len(systems)


def test_without_its_random_stage_a_vote_is_one_answer():
    both = install("gauss:std=0.1+cd:bits=3+vote:samples=8")
    assert both.drop({0}).readout == Readout()
    assert both.drop({1}).readout == Readout("vote", 8)
    assert both.drop().readout == Readout()


def test_sources_of_transfer_are_told_apart():
    conv = lambda: torch.nn.Sequential(  # noqa: E731
        torch.nn.Conv2d(3, 4, 3),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 4),
    ).eval()
    target, other = Defended(conv(), id="a"), Defended(conv(), id="b")
    texts = ("transfer", "transfer:ghost=0.5", "transfer:ghost=0.3", "transfer:ghost=0.3,draws=4")
    ids = {threat(t).seat(target, [other]).views[0].id for t in texts}
    assert len(ids) == len(texts)
