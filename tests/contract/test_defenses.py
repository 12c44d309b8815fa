"""What every registered defense must do: shape, declared randomness, keyed noise, a surrogate per stage."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import sparring
from sparring.core.noise import Noise, image_keys
from sparring.core.registry import DEFENSES
from sparring.defenses.base import Defended, Stage, Surrogate

# one working spec per defense; readouts need something random to average
SPECS = {
    "none": ["none"], "fc": ["fc:rate=0.5"], "cd": ["cd:values=8", "cd:bits=3"], "svd": ["svd:rate=0.5"], "gauss": ["gauss:std=0.1", "gauss:eps=0.1"],
    "uniform": ["uniform:std=0.1"], "laplace": ["laplace:eps=0.1,clip=true"], "vote": ["gauss:std=0.1+vote:samples=3"],
    "hgd": ["hgd", "hgd:strength=2"], "s2snet": ["s2snet"], "ace": ["ace:lam=0.5"], "sign": ["sign:std=0.1"],
    "hgd-ensemble": [],  # needs a file: tests/defenses/test_learned.py
    # need trained networks: tests/defenses/test_defective.py
    "defective": [], "spatial-dropout": [], "dropblock": [], "band-limited": [], "label-smoothing": [],
    "adversarial-training": [], "thermometer": [], "rse": [],
    "resize-pad": ["resize-pad:scale=0.5"], "shift": ["shift", "shift:side=random", "shift:size=2,side=up"],
    "mean-prob": ["gauss:std=0.1+mean-prob:samples=3"], "mean-logit": ["gauss:std=0.1+mean-logit:samples=3"],
}  # fmt: skip
ALL = [(n, s) for n in DEFENSES for s in SPECS.get(n, [n])]
COLOR = ("hgd", "s2snet", "ace")  # networks for color images, untrained here


def net(channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5)).eval()


def noise(count: int, seed: int = 0) -> Noise:
    return Noise.of(seed, "test", image_keys([str(i) for i in range(count)]))


@pytest.mark.parametrize(("name", "spec"), ALL)
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 9, 7), (3, 33, 32)])
def test_stages_keep_the_shape_and_each_image_to_itself(name, spec, shape):
    if name in COLOR:
        shape = (3, *shape[1:])
    x = torch.rand(4, *shape)
    system = sparring.defense(spec).install(Defended(net(shape[0])))
    for stage in system.stages:
        out = stage(x, noise(4))
        assert out.shape == x.shape
        assert out.dtype == torch.float32
        alone = torch.cat([stage(x[i : i + 1], noise(4).at(torch.tensor([i]))) for i in range(4)])
        assert torch.allclose(out, alone, atol=1e-5)


@pytest.mark.parametrize(("name", "spec"), ALL)
def test_declared_randomness_is_the_behaviour(name, spec):
    x = torch.rand(4, 3, 8, 8)
    system = sparring.defense(spec).install(Defended(net()))
    for stage in system.stages:
        again = stage(x, noise(4))
        torch.manual_seed(1)
        assert torch.equal(again, stage(x, noise(4))), "the same keys give the same draw"
        other = stage(x, noise(4, seed=1))
        assert torch.equal(again, other) != stage.surrogate.random
        assert stage.surrogate.why


@pytest.mark.parametrize(("name", "spec"), ALL)
def test_every_declared_backward_gives_a_gradient(name, spec):
    """No dead surrogates: each variant of each stage passes a finite, nonzero gradient to the input."""
    from sparring.core.victim import Access, Victim

    x, y = torch.rand(4, 3, 8, 8), torch.zeros(4, dtype=torch.int64)
    for variant in sparring.defense(spec).install(Defended(net())).variants():
        victim = Victim((variant.system,), Access.GRADIENT)
        grad = victim.gradient(x, lambda z, r: -z.gather(1, y[r, None])[:, 0], noise(4)).grad
        assert torch.isfinite(grad).all(), variant.name
        assert (grad.abs().flatten(1).sum(1) > 0).all(), variant.name


@pytest.mark.parametrize(("name", "spec"), ALL)
def test_specs_round_trip_and_document_themselves(name, spec):
    made = sparring.defense(spec)
    assert sparring.defense(str(made)) == made
    assert DEFENSES[name].__doc__


def test_omitting_the_surrogate_is_a_type_error():
    with pytest.raises(TypeError):
        Stage("mine")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Surrogate(random=False, why="")  # type: ignore[call-arg]


def test_bug_22_a_defense_works_on_pixels_whatever_the_models_mean_and_std():
    """ART #84: JPEG clipped normalised inputs to [0,1]. Stages sit before the layer that knows mean and std."""
    from sparring.models.classifier import Classifier

    x = torch.rand(3, 3, 8, 8)
    plain = net()
    wrapped = Classifier(plain, (0.4, 0.5, 0.6), (0.2, 0.3, 0.2))
    system = sparring.defense("cd:values=4").install(Defended(wrapped)).system()
    seen = (x * 3).round() / 3
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1), torch.tensor([0.2, 0.3, 0.2]).view(1, 3, 1, 1)
    assert torch.allclose(system.scores(x, noise(3)), plain((seen - mean) / std), atol=1e-5)
