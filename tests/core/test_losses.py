"""Objectives: equal to their definitions, blind to logit offsets, sane under logit scale, defined for K >= 2."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sparring.core.losses import NO_LABEL, cross_entropy, dlr, label_of, margin, objective, success_margin

NAMES = ("ce", "margin", "dlr")


def _logits(seed: int, classes: int, count: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z = 3 * torch.randn(count, classes, generator=generator)
    y = torch.randint(0, classes, (count,), generator=generator)
    return z, y, (y + 1) % classes


def test_cross_entropy_is_cross_entropy():
    z, y, _ = _logits(0, 10)
    assert torch.allclose(cross_entropy(z, y), F.cross_entropy(z, y, reduction="none"), atol=1e-5)


def test_dlr_is_the_papers_ratio():
    z = torch.tensor([[5.0, 3.0, 2.0, 1.0]])
    assert dlr(z, torch.tensor([0])).item() == pytest.approx(-(5 - 3) / (5 - 2))
    assert dlr(z, torch.tensor([2])).item() == pytest.approx(-(2 - 5) / (5 - 2))
    targeted = objective("dlr", z, torch.tensor([0]), torch.tensor([3]))
    assert targeted.item() == pytest.approx(-(5 - 1) / (5 - (2 + 1) / 2))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", [2, 3, 4, 10, 1000])
@pytest.mark.parametrize("targeted", [False, True])
def test_bug_24_defined_for_every_class_count(name, classes, targeted):
    z, y, t = _logits(1, classes)
    y = z.argmax(1)  # a label that has already fallen to third place gives DLR no slope, by definition
    t = (y + 1) % classes
    z.requires_grad_(True)
    loss = objective(name, z, y, t if targeted else None)
    (grad,) = torch.autograd.grad(loss.sum(), z)
    assert torch.isfinite(loss).all()
    assert torch.isfinite(grad).all()
    assert (grad.abs().sum(1) > 0).all()


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 1000), offset=st.sampled_from([-100.0, 30.0, 1000.0]), targeted=st.booleans())
@settings(max_examples=25, deadline=None)
def test_bug_09_a_constant_added_to_all_logits_changes_nothing(name, seed, offset, targeted):
    z, y, t = _logits(seed, 5)
    t = t if targeted else None
    # float32 keeps 1e-7 of the offset, which must stay small beside the gaps that DLR divides by and max chooses by
    assume(float((-torch.diff(z.sort(descending=True).values)).min()) > 0.05)
    grads = []
    for shift in (0.0, offset):
        leaf = (z + shift).requires_grad_(True)
        grads.append(torch.autograd.grad(objective(name, leaf, y, t).sum(), leaf)[0])
    assert torch.allclose(grads[0], grads[1], atol=1e-5 * max(1, abs(offset)), rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [1.0, 1e2, 1e4, 1e6])
def test_bug_11_large_logits_keep_a_gradient(name, scale):
    """advertorch #63: the loss cancels on confident models and the attack silently dies."""
    z, y, _ = _logits(2, 10)
    y = z.argmax(1)
    leaf = (scale * z).requires_grad_(True)
    (grad,) = torch.autograd.grad(objective(name, leaf, y, None).sum(), leaf)
    assert (grad.gather(1, y[:, None]) < 0).all(), "the label's logit must be pushed down"
    assert (grad.abs().amax(1) > 1e-37).all()


def test_success_means_strictly_lost_or_strictly_reached():
    z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    y, t = torch.tensor([0, 0, 0]), torch.tensor([1, 1, 1])
    assert (success_margin(z, y, None) > 0).tolist() == [False, True, False]
    assert (success_margin(z, y, t) > 0).tolist() == [False, True, False]


def test_a_win_by_less_than_rounding_is_none():
    """The copy of the network that is attacked sums in another order than the network that is judged."""
    z = torch.tensor([[5.0, 5.0 + 1e-6, -5.0], [5.0, 5.0 + 1e-4, -5.0]])
    y, t = torch.tensor([0, 0]), torch.tensor([1, 1])
    for target in (None, t):
        assert (success_margin(z, y, target) > 0).tolist() == [False, True]
        assert (success_margin(z + 300, y, target) > 0).tolist() == [False, True], "no matter the offset"


def test_margin_with_negative_logits():
    """torchattacks #184: masking by multiplication reads 0 as the best other logit."""
    z = torch.tensor([[-5.0, -3.0, -4.0]])
    assert margin(z, torch.tensor([1])).item() == pytest.approx(-1.0)


def test_what_is_no_number_is_no_answer():
    """A network that answers NaN where it is attacked, and logarithms of probabilities that are 0, read as robust."""
    nan, inf = torch.nan, torch.inf
    z = torch.tensor(
        [[1.0, nan, 0.0], [nan, nan, nan], [-inf, 0.0, -inf], [0.0, -inf, -inf], [-inf, -inf, -inf], [inf, 0.0, 1.0]]
    )
    y = torch.zeros(6, dtype=torch.long)
    assert label_of(z).tolist() == [NO_LABEL, NO_LABEL, 1, 0, NO_LABEL, 0]
    assert (success_margin(z, y, None) > 0).tolist() == [True, True, True, False, True, False]
    assert (success_margin(z, y, y + 1) > 0).tolist() == [False, False, True, False, False, False]
    assert not success_margin(z, y, None).isnan().any()
