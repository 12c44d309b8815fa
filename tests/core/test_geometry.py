"""Balls in the box: feasibility, fixed points and exactness of projections, random starts."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from sparring.core.geometry import NORMS, Ball, distance, per_row, within
from sparring.core.noise import Noise, image_keys

SHAPE = (2, 3, 4)
seeds = st.integers(0, 10_000)


def _case(seed: int, count: int = 3, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    clean = torch.rand(count, *SHAPE, generator=generator)
    return clean, clean + scale * torch.randn(count, *SHAPE, generator=generator)


def _eps(norm: str, factor: float, count: int = 3) -> torch.Tensor:
    base = {"linf": 0.1, "l2": 0.4, "l1": 1.0, "l0": 3.0}[norm]
    return torch.full((count,), base * factor if norm != "l0" else float(math.ceil(base * factor)))


@pytest.mark.parametrize("norm", NORMS)
@given(seed=seeds, factor=st.floats(0.0, 5.0), scale=st.floats(0.01, 10.0))
@settings(max_examples=40, deadline=None)
def test_projection_is_feasible_and_idempotent(norm, seed, factor, scale):
    clean, x = _case(seed, scale=scale)
    eps = _eps(norm, factor)
    ball = Ball(norm, eps)
    p = ball.project(x, clean)
    assert within(p - clean, eps, norm).all()
    assert p.min() >= 0
    assert p.max() <= 1
    assert torch.allclose(ball.project(p, clean), p, atol=2e-6)


@pytest.mark.parametrize("norm", NORMS)
@given(seed=seeds)
@settings(max_examples=40, deadline=None)
def test_bug_02_a_point_inside_is_a_fixed_point(norm, seed):
    """cleverhans #381: projections that rescale every point to the sphere."""
    clean, x = _case(seed, scale=0.001)
    x = x.clamp(0, 1)
    eps = distance(x - clean, norm) * 1.01 + 1e-6
    assert torch.allclose(Ball(norm, eps).project(x, clean), x, atol=1e-7)


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("seed", range(6))
def test_projection_is_the_nearest_point(norm, seed):
    """Against a general solver on a small problem: min |d - v|^2 with |d| <= eps and the box."""
    generator = torch.Generator().manual_seed(seed)
    clean = torch.rand(1, 1, 2, 3, generator=generator)
    x = clean + torch.randn(1, 1, 2, 3, generator=generator)
    eps = 0.5 if norm == "l2" else 0.8
    ours = (Ball(norm, torch.tensor([eps])).project(x, clean) - clean).flatten().double().numpy()
    v = (x - clean).flatten().double().numpy()
    low, high = (-clean).flatten().double().numpy(), (1 - clean).flatten().double().numpy()
    n = len(v)
    # split d = a - b, a,b >= 0, so that the l1 ball is linear
    size = (lambda z: z[:n] - z[n:]) if norm == "l2" else None
    constraint = (
        {"type": "ineq", "fun": lambda z: eps**2 - (size(z) ** 2).sum()}
        if size
        else {"type": "ineq", "fun": lambda z: eps - z.sum()}
    )
    found = minimize(
        lambda z: ((z[:n] - z[n:] - v) ** 2).sum(),
        np.zeros(2 * n),
        bounds=[(0, h) for h in high] + [(0, -v_low) for v_low in low],
        constraints=[constraint],
        options={"maxiter": 500, "ftol": 1e-12},
    )
    theirs = found.x[:n] - found.x[n:]
    assert ((ours - v) ** 2).sum() <= found.fun + 1e-5
    assert np.allclose(ours, theirs, atol=2e-3)


def test_l0_counts_a_pixel_once_over_channels():
    delta = torch.zeros(1, 3, 4, 4)
    delta[0, :, 1, 1] = 0.5
    delta[0, 0, 2, 3] = 0.1
    assert distance(delta, "l0").item() == 2


def test_l0_projection_keeps_the_pixels_that_matter():
    clean = torch.full((1, 3, 4, 4), 0.5)
    x = clean.clone()
    x[0, :, 0, 0] += 0.4
    x[0, :, 3, 3] += 0.2
    x[0, :, 2, 1] += 0.01
    p = Ball("l0", torch.tensor([2.0])).project(x, clean)
    assert torch.equal((p != clean).any(1)[0].nonzero(), torch.tensor([[0, 0], [3, 3]]))


@pytest.mark.parametrize("norm", NORMS)
def test_random_starts_are_feasible_and_fill_the_ball(norm):
    clean = torch.full((500, *SHAPE), 0.5)
    eps = _eps(norm, 0.5, 500)
    x = Ball(norm, eps).random(clean, Noise.of(0, "attack", image_keys([str(i) for i in range(500)])))
    assert within(x - clean, eps, norm).all()
    share = distance(x - clean, norm) / eps
    assert share.max() > 0.97
    if norm != "l0":
        size = math.prod(SHAPE)
        expected = size / (size + 1)  # mean radius of a uniform point in a ball of that dimension
        assert abs(share.mean() - expected) < 0.02


def test_budgets_are_per_image():
    clean, x = _case(0)
    eps = torch.tensor([0.01, 0.1, 0.3])
    delta = Ball("linf", eps).project(x, clean) - clean
    assert (distance(delta, "linf") <= eps + 1e-6).all()
    assert distance(delta, "linf")[2] > 0.2


@pytest.mark.parametrize("norm", NORMS)
def test_mask_holds_pixels(norm):
    clean, x = _case(1)
    mask = torch.zeros(3, 1, *SHAPE[1:])
    mask[:, :, 0, 0] = 1
    p = Ball(norm, _eps(norm, 1.0), mask).project(x, clean)
    assert ((p - clean) * (1 - mask)).abs().max() < 1e-7
    assert (p - clean).abs().max() > 0


def test_per_row_broadcasts_over_images():
    assert per_row(torch.ones(4), torch.zeros(4, 3, 2, 2)).shape == (4, 1, 1, 1)


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("eps", [1e-6, 1e-4, 8 / 255, 1.0])
def test_last_digits_of_many_pixels_do_not_leave_a_small_ball(norm, eps):
    generator = torch.Generator().manual_seed(0)
    clean = torch.randint(0, 256, (8, 3, 64, 64), generator=generator) / 255
    ball = Ball(norm, torch.full((8,), eps))
    count = clean[0].numel()
    share = eps / (count if norm == "l1" else count**0.5)
    point = ball.project(clean + 1.5 * share * torch.randn(clean.shape, generator=generator).sign(), clean)
    assert bool(within(point - clean, ball.eps, norm).all())
