"""What counts as inside a ball: round-off and no more; and which pixels an l0 projection keeps."""

import pytest
import torch

from sparring.core.geometry import Ball, Norm, within


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("eps", [4 / 255, 1.0, 30.0])
def test_a_ball_forgives_round_off_and_no_more(norm: Norm, eps: float):
    """PROTOCOL 2.1: 1e-6, for l2 and l1 ten times that of the radius."""
    delta = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    for factor, inside in ((1 - 1e-9, True), (1 + 5e-7 / eps, True), (1 + 1e-4, False), (1 + 1e-2, False)):
        delta[0, 0, 0, 0] = eps * factor
        assert bool(within(delta, torch.tensor([eps]), norm)) == (inside or eps * (factor - 1) < 1e-6), factor


def test_l0_keeps_the_pixel_that_can_move():
    """One far beyond the box saves nothing once it is clipped back to where it was."""
    clean = torch.tensor([[[[1.0, 0.5, 0.5]]]])
    point = Ball("l0", torch.tensor([1.0])).project(torch.tensor([[[[5.0, 0.9, 0.6]]]]), clean)
    assert torch.allclose(point, torch.tensor([[[[1.0, 0.9, 0.5]]]]))
