"""Steps to a hyperplane inside the box and steepest steps, against a general solver and closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from sparring.core.geometry import distance, steepest_step, to_hyperplane


def _case(seed: int, reach: float):
    g = torch.Generator().manual_seed(seed)
    x, w = torch.rand(1, 1, 2, 3, generator=g), torch.randn(1, 1, 2, 3, generator=g)
    most = (torch.where(w > 0, 1 - x, x) * w.abs()).sum()
    return x, w, (reach * most).reshape(1)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("sign", [1, -1])
@given(seed=st.integers(0, 5000), reach=st.floats(0.01, 0.95))
@settings(max_examples=25, deadline=None)
def test_the_step_is_the_smallest_there_is(norm, sign, seed, reach):
    x, w, gap = _case(seed, reach)
    if sign < 0:
        w, gap = -w, -gap
    d = to_hyperplane(x, w, gap, norm)
    assert ((x + d) >= -1e-6).all()
    assert ((x + d) <= 1 + 1e-6).all()
    assert (w * d).sum().item() == pytest.approx(gap.item(), abs=1e-5)
    wn, xn, g = w.flatten().double().numpy(), x.flatten().double().numpy(), gap.item()
    n = len(xn)
    if norm == "l2":
        start = d.flatten().double().numpy()
        best = (
            minimize(
                lambda v: v @ v,
                start + 0.01,
                jac=lambda v: 2 * v,
                bounds=list(zip(-xn, 1 - xn, strict=True)),
                constraints={"type": "eq", "fun": lambda v: wn @ v - g, "jac": lambda v: wn},
                method="SLSQP",
            ).fun
            ** 0.5
        )
    elif norm == "linf":  # min t with -t <= d <= t
        a = np.block([[np.eye(n), -np.ones((n, 1))], [-np.eye(n), -np.ones((n, 1))]])
        bounds = [*zip(-xn, 1 - xn, strict=True), (0, None)]
        best = linprog([0] * n + [1], a, np.zeros(2 * n), [[*wn, 0]], [g], bounds=bounds).fun
    else:  # d = p - m
        bounds = [*((0, 1 - v) for v in xn), *((0, v) for v in xn)]
        best = linprog([1] * (2 * n), A_eq=[[*wn, *-wn]], b_eq=[g], bounds=bounds).fun
    assert distance(d, norm).item() == pytest.approx(best, abs=2e-3)


def test_out_of_reach_ends_in_the_best_corner():
    x, w, gap = _case(1, 3.0)
    for norm in ("linf", "l2", "l1"):
        assert torch.allclose(x + to_hyperplane(x, w, gap, norm), (w > 0).float(), atol=1e-5)


@given(seed=st.integers(0, 5000), length=st.floats(0.01, 3.0))
@settings(max_examples=25, deadline=None)
def test_the_l1_step_is_the_linear_programs(seed, length):
    x, w, _ = _case(seed, 0.5)
    d = steepest_step(x, w, "l1", torch.tensor([length])) - x
    wn, xn = w.flatten().double().numpy(), x.flatten().double().numpy()
    n = len(xn)
    bounds = [*((0, 1 - v) for v in xn), *((0, v) for v in xn)]
    best = -linprog([*-wn, *wn], [[1] * (2 * n)], [length], bounds=bounds).fun
    assert (w * d).sum().item() == pytest.approx(best, abs=1e-4)
    assert d.abs().sum().item() <= length + 1e-5
