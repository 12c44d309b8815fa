"""Targeted objectives aim at their target: equal to their definitions."""

import pytest
import torch
import torch.nn.functional as F

from sparring.core.losses import objective


def test_targeted_objectives_are_their_definitions():
    z = torch.tensor([[2.0, 1.0, -1.0, 0.5], [0.0, 3.0, 1.0, -2.0]])
    label, target = torch.tensor([0, 1]), torch.tensor([2, 0])
    aimed = -F.cross_entropy(z, target, reduction="none")
    assert torch.allclose(objective("ce", z, label, target), aimed, atol=1e-5)
    assert objective("margin", z, label, target).tolist() == pytest.approx([-1 - 2, 0 - 3])


@pytest.mark.parametrize("name", ["ce", "margin", "dlr"])
def test_ascent_raises_the_target(name):
    z = torch.tensor([[2.0, 1.0, -1.0, 0.5]], requires_grad=True)
    (grad,) = torch.autograd.grad(objective(name, z, torch.tensor([0]), torch.tensor([2])).sum(), z)
    assert grad[0, 2] > 0
