"""Every registered defense keeps the contract in ``sparring.testing``: shape, declared randomness, keyed noise, a surrogate per stage."""

from __future__ import annotations

import pytest
import torch

import sparring
from sparring.core.registry import DEFENSES
from sparring.defenses.base import Defended, Stage, Surrogate
from sparring.testing.defenses import DefenseContract
from sparring.testing.networks import conv_net, keyed_noise

# one working spec per defense; readouts need something random to average
SPECS = {
    "none": ["none"], "fc": ["fc:rate=0.5"], "cd": ["cd:values=8", "cd:bits=3"], "svd": ["svd:rate=0.5"], "gauss": ["gauss:std=0.1", "gauss:eps=0.1"],
    "uniform": ["uniform:std=0.1"], "laplace": ["laplace:eps=0.1,clip=true"], "vote": ["gauss:std=0.1+vote:samples=3"],
    "hgd": ["hgd:weights=random", "hgd:weights=random,strength=2"],
    "s2snet": ["s2snet:weights=random"], "ace": ["ace:weights=random,lam=0.5"], "sign": ["sign:std=0.1"],
    "hgd-ensemble": [],  # needs a file: tests/defenses/test_learned.py
    # need trained networks: tests/defenses/test_defective.py
    "defective": [], "spatial-dropout": [], "dropblock": [], "band-limited": [], "label-smoothing": [],
    "adversarial-training": [], "thermometer": [], "rse": [],
    "resize-pad": ["resize-pad:scale=0.5"], "shift": ["shift", "shift:side=random", "shift:size=2,side=up"],
    "mean-prob": ["gauss:std=0.1+mean-prob:samples=3"], "mean-logit": ["gauss:std=0.1+mean-logit:samples=3"],
}  # fmt: skip
ALL = [(n, s) for n in DEFENSES for s in SPECS.get(n, [n])]
COLOR = ("hgd", "s2snet", "ace")  # networks for color images, untrained here


@pytest.mark.parametrize("spec", [s for n, s in ALL if n not in COLOR])
class TestDefenses(DefenseContract):
    pass


@pytest.mark.parametrize("spec", [s for n, s in ALL if n in COLOR])
class TestColorDefenses(DefenseContract):
    shapes = ((3, 8, 8), (3, 9, 7), (3, 33, 32))


def test_omitting_the_surrogate_is_a_type_error():
    with pytest.raises(TypeError):
        Stage("mine")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Surrogate(random=False, why="")  # type: ignore[call-arg]


def test_bug_22_a_defense_works_on_pixels_whatever_the_models_mean_and_std():
    """ART #84: JPEG clipped normalised inputs to [0,1]. Stages sit before the layer that knows mean and std."""
    from sparring.models.classifier import Classifier

    x = torch.rand(3, 3, 8, 8)
    plain = conv_net()
    wrapped = Classifier(plain, (0.4, 0.5, 0.6), (0.2, 0.3, 0.2))
    system = sparring.defense("cd:values=4").install(Defended(wrapped)).system()
    seen = (x * 3).round() / 3
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1), torch.tensor([0.2, 0.3, 0.2]).view(1, 3, 1, 1)
    assert torch.allclose(system.scores(x, keyed_noise(3)), plain((seen - mean) / std), atol=1e-5)
