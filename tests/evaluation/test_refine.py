"""Refinement on the 8-bit lattice: what it may use, what it returns, and what it pays."""

import pytest
import torch
from torch import Tensor, nn

import sparring
from sparring.attacks.engine import Outcome
from sparring.core.geometry import Norm
from sparring.core.noise import image_keys
from sparring.core.system import System
from sparring.core.victim import Access, Victim
from sparring.evaluation.run.lattice import lattice_points, refine, truncate


class Sum(nn.Module):
    """Class 1 where the pixels sum to more than a threshold."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        z = x.flatten(1).sum(1) - self.threshold
        return torch.stack([-z, z], 1)


def submission(steps: float, threshold: float, eps: float, access: Access = Access.GRADIENT, norm: Norm = "linf"):
    """16 pixels at 100, moved by so many 255ths; class 1 from ``threshold`` 255ths on average. A second image stays where it is."""
    clean = torch.full((2, 1, 4, 4), 100 / 255)
    x = clean.clone()
    x[0] += steps / 255
    zero = torch.zeros(2, dtype=torch.int64)
    won = torch.tensor([True, False])
    outcome = Outcome.unseen(clean).put(x=x, success=won)
    victim = Victim((System(Sum(16 * (100 + threshold) / 255)),), access)
    keys = image_keys(["a", "b"])
    found = lattice_points(victim, outcome, clean, zero, keys, torch.full((2,), eps), norm, 0)
    return (*found, truncate(x, clean), clean)


def test_refinement_pays_for_every_look_and_every_gradient():
    """Look at the truncated point, one gradient (forward and backward), look at the first trial, which wins: 3 and 1."""
    points, forwards, backwards, _, clean = submission(1.7, 1.5, 2 / 255)
    assert torch.allclose(points[0], clean[0] + 2 / 255)
    assert forwards.tolist() == [3, 0]
    assert backwards.tolist() == [1, 0]


def test_a_point_that_survives_truncation_costs_one_look():
    points, forwards, backwards, truncated, _ = submission(1.7, 0.5, 2 / 255)
    assert torch.equal(points, truncated)
    assert (forwards.tolist(), backwards.tolist()) == ([1, 0], [0, 0])


def test_refinement_stays_in_the_attacks_own_ball():
    """The next lattice point wins, but lies outside: the truncated point stays, and all that was tried is paid."""
    points, forwards, backwards, truncated, _ = submission(1.7, 1.5, 1.7 / 255)
    assert torch.equal(points, truncated)
    assert backwards.tolist() == [3, 0]
    assert forwards.tolist() == [1 + 3 * (1 + 5), 0]


@pytest.mark.parametrize("access", [Access.LABEL, Access.SCORES])
def test_without_gradients_points_are_truncated_for_nothing(access):
    points, forwards, backwards, truncated, _ = submission(1.7, 1.5, 2 / 255, access)
    assert torch.equal(points, truncated)
    assert not forwards.any()
    assert not backwards.any()


def test_where_nothing_wins_the_truncated_point_stays():
    clean = torch.full((1, 1, 4, 4), 100 / 255)
    x = clean + 1.7 / 255
    yes, no = (lambda p: torch.ones(1, dtype=torch.bool)), (lambda p: torch.zeros(1, dtype=torch.bool))
    found, _, _ = refine(x, clean, torch.ones_like, yes, no)
    assert torch.equal(found, truncate(x, clean))


def test_an_evaluations_costs_include_refinement():
    """One attack step of one forward and one backward, and its last look; then what the two images above pay."""
    clean = torch.full((1, 1, 4, 4), 100 / 255)
    attack = f"fgsm:eps={2.7 / 255},loss=margin"
    model = Sum(16 * 102.5 / 255).eval()
    cell = sparring.evaluate(
        model, (clean, torch.tensor([0])), threats=["adaptive"], attacks=[attack], eps=[2.7 / 255]
    ).cells[0]
    assert cell.robust_accuracy == 0
    assert cell.backwards_per_image == 1 + 3, "no lattice point of the ball wins: three rounds of refinement"
    assert cell.forwards_per_image == 2 + 1 + 3 * 6


def test_a_point_that_truncation_loses_is_rounded_to_the_nearest_levels():
    """Half of the pixels at 2.7 levels, half at 0.9: 2 and 0 after truncation, 2 (the ball's) and 1 after rounding, which wins for one more look."""
    clean = torch.full((1, 1, 4, 4), 100 / 255)
    x = clean.clone()
    x[0, 0, :2] += 2.7 / 255
    x[0, 0, 2:] += 0.9 / 255
    zero, keys = torch.zeros(1, dtype=torch.int64), image_keys(["a"])
    outcome = Outcome.unseen(clean).put(x=x, success=torch.ones(1, dtype=torch.bool))
    victim = Victim((System(Sum((16 * 100 + 8 * 2 + 8 * 0.5) / 255)),), Access.GRADIENT)
    points, forwards, backwards = lattice_points(
        victim, outcome, clean, zero, keys, torch.full((1,), 2.7 / 255), "linf", 0
    )
    levels = ((points - clean) * 255).round().flatten()
    assert levels.tolist() == [2.0] * 8 + [1.0] * 8
    assert (forwards.tolist(), backwards.tolist()) == ([2], [0])
