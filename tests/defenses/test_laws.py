"""Channels beyond their standard deviation: the law of the noise, clipping, ranks of oblong images, and stand-ins' slopes."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

import sparring
from sparring.core.geometry import Ball
from sparring.core.noise import Noise, image_keys
from sparring.core.system import apply_part
from sparring.defenses.base import Defended
from sparring.defenses.channels import Levels, Staircase


def stage(spec: str):
    return sparring.defense(spec).install(Defended(torch.nn.Flatten())).stages[0]


def noise(count: int) -> Noise:
    return Noise.of(0, "test", image_keys([str(i) for i in range(count)]))


def moved(spec: str) -> torch.Tensor:
    return (stage(spec)(torch.zeros(1, 3, 64, 64), noise(1))).flatten()


@pytest.mark.parametrize(
    ("spec", "law"),
    [
        ("gauss:std=0.1", stats.norm(scale=0.1)),
        ("uniform:std=0.1", stats.uniform(-0.1 * 3**0.5, 0.2 * 3**0.5)),
        ("laplace:std=0.1", stats.laplace(scale=0.1 / 2**0.5)),
    ],
)
def test_noise_has_the_law_that_its_name_says(spec, law):
    assert stats.kstest(moved(spec).numpy(), law.cdf).pvalue > 1e-4


@pytest.mark.parametrize("field", ["std", "eps"])
def test_sign_noise_moves_every_pixel_by_exactly_its_strength(field):
    found = moved(f"sign:{field}=0.1")
    assert torch.allclose(found.abs(), torch.full_like(found, 0.1))
    assert abs(float(found.sign().mean())) < 5 / len(found) ** 0.5


@pytest.mark.parametrize("name", ["gauss:std=1", "fc:rate=0.9"])
def test_clipping_is_what_the_flag_says(name):
    x = (torch.arange(64) % 2).float().reshape(1, 1, 8, 8)
    free, clipped = (stage(f"{name},clip={flag}")(x, noise(1)) for flag in ("false", "true"))
    assert torch.equal(clipped, free.clamp(0, 1))
    if name.startswith("gauss"):
        assert free.min() < 0
        assert free.max() > 1


@pytest.mark.parametrize(("shape", "rank"), [((8, 16), 4), ((16, 8), 8)])
def test_svd_keeps_a_share_of_the_rows(shape, rank):
    out = stage("svd:rate=0.5")(torch.rand(1, 1, *shape), noise(1))
    assert int(torch.linalg.matrix_rank(out, atol=1e-4)) == rank


@pytest.mark.parametrize("slope", [4.0, 10.0])
def test_the_staircase_is_steepest_half_way_between_levels(slope):
    """d/dx of sigmoid(slope (level - floor - 1/2)) / (values - 1), level = x (values - 1): slope/4 there."""
    x = torch.tensor([0.5, 1.5, 2.5, 1.25, 1.75]).div(4).requires_grad_(True)
    (grad,) = torch.autograd.grad(Staircase(5, slope)(x).sum(), x)
    assert torch.allclose(grad[:3], torch.full((3,), slope / 4), rtol=1e-4)
    aside = torch.tensor(slope / 4)
    assert torch.allclose(grad[3:], slope * torch.sigmoid(aside) * torch.sigmoid(-aside), rtol=1e-3)


def test_a_pixel_that_cannot_change_its_level_has_no_gradient():
    clean = torch.tensor([0.0, 0.5, 1.0]).reshape(1, 1, 1, 3)
    ball = Ball("linf", torch.tensor([0.05]))
    grad = Levels(4).pullback(torch.ones_like(clean), clean, clean, ball)
    assert grad.flatten().tolist() == pytest.approx([0, 1 / 3, 0]), "only 0.5 lies between two levels of 1/3 and 2/3"


def test_noise_is_declared_and_a_stage_without_any_is_not():
    assert [stage(s).surrogate.random for s in ("gauss:std=0.1", "gauss:std=0", "sign:eps=0.1")] == [True, False, True]


def test_a_stand_in_leaves_the_forward_pass_alone():
    x = torch.rand(2, 3, 8, 8)
    for spec in ("cd:bits=2", "svd:rate=0.5", "s2snet:weights=random"):
        made = stage(spec)
        for variant in made.surrogate.backward:
            assert torch.equal(apply_part(made.part(variant), x, noise(2)), made(x, noise(2))), variant
