"""The contract of models."""

from __future__ import annotations

import copy
from typing import ClassVar

import torch
from torch import Tensor

from sparring.core.registry import MODELS
from sparring.core.spec import parse
from sparring.models.classifier import Classifier, weights_hash
from sparring.models.load import load_model

SIZES = (8, 32, 28, 64, 224)


def inputs(model: Classifier, count: int = 4) -> Tensor:
    """Random images (N,C,H,W) that a model takes: of the channels and size that it names, else the first of the usual ones that pass."""
    refusals = []
    for channels in [model.channels] if model.channels else (3, 1):
        for size in [model.size] if model.size else SIZES:
            x = torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(2))
            try:
                with torch.no_grad():
                    model(x)
            except RuntimeError as error:
                refusals.append(f"{channels}x{size}x{size}: {str(error).splitlines()[0]}")
            else:
                return x
    raise AssertionError(f"{model.name} takes no image that was tried: {'; '.join(refusals)}")


class ModelContract:
    """What every model does, by its spec text. Subclass it and parametrize ``spec``."""

    kind: ClassVar[str] = "models"

    def test_it_is_declared(self, spec: str) -> None:
        assert MODELS[parse(spec).name].__doc__
        assert load_model(spec).name == spec

    def test_images_become_logits(self, spec: str) -> None:
        """Images in [0,1] (B,C,H,W) become finite float32 logits (B,K), not probabilities."""
        model = load_model(spec)
        x = inputs(model)
        with torch.no_grad():
            z = model(x)
        assert z.dtype == torch.float32
        assert z.dim() == 2
        assert z.shape[0] == len(x)
        assert z.shape[1] >= 2
        assert torch.isfinite(z).all()
        assert not torch.allclose(z.sum(1), torch.ones(len(x)), atol=1e-5), "expose logits, drop the softmax"

    def test_asking_changes_nothing(self, spec: str) -> None:
        """The same images give the same logits; weights, modes and the global generator stay as they are."""
        state = torch.get_rng_state()
        model = load_model(spec)
        x = inputs(model)
        weights = copy.deepcopy(model.state_dict())
        with torch.no_grad():
            assert torch.equal(model(x), model(x))
        assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
        assert not any(m.training for m in model.modules())
        assert torch.equal(torch.get_rng_state(), state)

    def test_each_image_is_classified_by_itself(self, spec: str) -> None:
        model = load_model(spec)
        x = inputs(model)
        with torch.no_grad():
            alone = torch.cat([model(image[None]) for image in x])
            assert torch.allclose(model(x), alone, rtol=1e-4, atol=1e-4)

    def test_gradients_reach_the_pixels(self, spec: str) -> None:
        """A model that rounds its images is a defense: it belongs there, with the backward that an attacker may use."""
        model = load_model(spec)
        x = inputs(model).requires_grad_(True)
        (grad,) = torch.autograd.grad(model(x).logsumexp(1).sum(), x)
        assert torch.isfinite(grad).all()
        assert (grad.abs().flatten(1).sum(1) > 0).all()

    def test_loaded_again_it_is_the_same(self, spec: str) -> None:
        """Results are kept by the hash of the weights: a text names one network, whatever the global generator did."""
        first = weights_hash(load_model(spec))
        with torch.random.fork_rng():
            torch.manual_seed(99)
            assert weights_hash(load_model(spec)) == first
