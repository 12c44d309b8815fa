"""8-bit points: towards the clean image, inside every ball; refinement wins some back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sparring
from sparring.checks.controls import images, linear_net
from sparring.core.geometry import NORMS, Ball, distance, within
from sparring.evaluation.run.lattice import refine, truncate


@given(st.integers(0, 1000), st.sampled_from([1 / 255, 8 / 255, 0.031, 0.3]))
@settings(max_examples=50, deadline=None)
def test_truncation_never_grows_any_norm_and_lands_on_the_lattice(seed, eps):
    generator = torch.Generator().manual_seed(seed)
    clean = torch.randint(0, 256, (2, 3, 5, 5), generator=generator) / 255
    x = Ball("linf", torch.full((2,), eps)).project(clean + eps * torch.randn(clean.shape, generator=generator), clean)
    out = truncate(x, clean)
    assert ((out * 255) - (out * 255).round()).abs().max() < 1e-4
    for norm in NORMS:
        assert (distance(out - clean, norm) <= distance(x - clean, norm) + 1e-5).all()
    assert torch.equal(truncate(out, clean), out)
    assert torch.equal(truncate(clean, clean), clean)


def test_an_eps_that_is_a_whole_255th_survives_truncation():
    clean = torch.full((1, 1, 2, 2), 100 / 255)
    assert torch.allclose(truncate(clean + 8 / 255, clean), torch.full((1, 1, 2, 2), 108 / 255))
    assert torch.allclose(truncate(clean + 0.031, clean), torch.full((1, 1, 2, 2), 107 / 255)), (
        "0.031 is a 7/255 budget"
    )


def test_refine_recovers_points_lost_by_rounding():
    """A linear rule that the float point crosses and its truncation does not."""
    clean = torch.full((1, 1, 4, 4), 0.5)
    clean = (clean * 255).round() / 255
    weight = torch.linspace(1, 2, 16).reshape(1, 1, 4, 4)
    x = clean + 1.7 / 255
    threshold = (weight * (1.5 / 255)).sum()
    won = lambda p: ((p - clean) * weight).flatten(1).sum(1) > threshold  # noqa: E731
    eps = torch.tensor([2 / 255])
    assert won(x).all()
    assert not won(truncate(x, clean)).any()
    found, asked, derived = refine(
        x, clean, lambda p: weight.expand_as(p), lambda p: within(p - clean, eps, "linf"), won
    )
    assert derived.tolist() == [1]
    assert 2 <= asked.item() <= 6
    assert won(found).all()
    assert within(found - clean, eps, "linf").all()
    assert ((found * 255) - (found * 255).round()).abs().max() < 1e-4


@pytest.mark.parametrize("budget", [1.7 / 255, 0.5])
def test_refine_never_leaves_the_ball(budget):
    clean = torch.randint(0, 256, (3, 1, 4, 4), generator=torch.Generator().manual_seed(0)) / 255
    x = Ball("l2", torch.full((3,), budget)).project(clean + torch.rand(3, 1, 4, 4), clean)
    inside = lambda p: within(p - clean, torch.full((3,), budget), "l2")  # noqa: E731
    found, _, _ = refine(x, clean, torch.ones_like, inside, lambda p: torch.zeros(3, dtype=torch.bool))
    assert inside(found).all()


def test_evaluate_refines_what_truncation_loses():
    """A small l2 budget moves most pixels by less than 1/255: plain truncation undoes the attack, refinement does not."""
    model, x = linear_net(3, scale=0.3), images(40)
    with torch.no_grad():
        y = model(x).argmax(1)
    attack = "pgd:norm=l2,eps=0.04,steps=20,loss=margin"
    cell = next(c for c in sparring.evaluate(model, (x, y), threats=["adaptive"], attacks=[attack]).cells)
    assert cell.robust_accuracy < cell.robust_accuracy_truncated
    assert cell.robust_accuracy <= cell.robust_accuracy_8bit < cell.robust_accuracy_truncated
