"""Toy networks and images for tests. Those that the checks use as well stand in ``checks.controls`` and are named here."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparring.checks.controls import (
    CLASSES,
    SHAPE,
    FunctionStage,
    LinearControl,
    Lookup,
    coin_system,
    context,
    images,
    linear_layer,
    linear_net,
)
from sparring.core.noise import Noise, image_keys
from sparring.data.images import ImageSet
from sparring.models.classifier import Classifier
from sparring.models.weights import seeded

__all__ = [
    "CLASSES",
    "SHAPE",
    "Counting",
    "Exact",
    "Firm",
    "FunctionStage",
    "LinearControl",
    "Lookup",
    "coin_system",
    "context",
    "conv_classifier",
    "conv_net",
    "images",
    "keyed_noise",
    "labels",
    "linear_layer",
    "linear_net",
    "pictures",
]


class Exact(nn.Module):
    """A classifier of 3x8x8 images without matrix products: its logits are equal to the bit whatever the batch."""

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        weight = torch.randn(1, CLASSES, 192, generator=torch.Generator().manual_seed(5))
        self.register_buffer("weight", weight)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return (torch.tanh(3 * (x.flatten(1)[:, None] - 0.5)) * self.weight).sum(2)


class Firm(nn.Module):
    """A classifier that says class 0 by far, with ordinary gradients: no attack breaks it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Exact()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) / 100 + torch.tensor([100.0, 0, 0, 0])


class Counting(nn.Module):
    """A classifier that counts the images it is shown."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.images = model, 0
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.images += len(x)
        return self.model(x)


def conv_net(channels: int = 3, classes: int = 5) -> nn.Sequential:
    """A network with one convolution that takes images of any size."""
    with seeded(0):
        return nn.Sequential(
            nn.Conv2d(channels, 4, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, classes)
        ).eval()


def conv_classifier(size: int = 32, seed: int = 0) -> Classifier:
    """A classifier of 3 x size x size images into ten classes, named toy and its seed."""
    with seeded(seed):
        side = (size - 3) // 2 + 1
        layers = (nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * side * side, 10))
    return Classifier(nn.Sequential(*layers).eval(), name=f"toy{seed}")


def pictures(count: int = 8, size: int = 32) -> ImageSet:
    """Random 8-bit images with the labels that ``conv_classifier`` gives them."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)
    return ImageSet.of(x, labels(conv_classifier(size), x.float() / 255))


def labels(model: nn.Module, x: Tensor) -> Tensor:
    """The labels (N,) that a model gives images (N,C,H,W)."""
    with torch.no_grad():
        return model(x).argmax(1)


def keyed_noise(count: int, seed: int = 0) -> Noise:
    """Noise for so many images."""
    return Noise.of(seed, "test", image_keys([str(i) for i in range(count)]))
