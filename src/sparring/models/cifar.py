"""CIFAR ResNets (He et al., arXiv:1512.03385, sec. 4.2, option A): 3x3 stem of 16, stages 16/32/64, no-parameter
shortcuts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from sparring.core.ranges import Classes
from sparring.core.registry import MODELS
from sparring.models.classifier import Classifier
from sparring.models.weights import fill, seeded

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Block(nn.Module):
    """Two 3x3 convolutions; where the width grows, the shortcut subsamples and pads channels with zeros."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.pad = stride, (width - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride != 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(out + x)


class CifarResNet(nn.Module):
    """ResNet of depth 6n+2 for 32x32 images already normalised; logits (B,classes). ``places``: see ``models.defective``."""

    places: ClassVar = {
        "bottom": ["bn1", "layer1.*.bn*"],
        "top": ["layer3.*.bn*"],
        "bottom/activation": ["bn1", "layer1.*.bn1", "layer1.*"],
        "top/activation": ["layer3.*.bn1", "layer3.*"],
    }

    def __init__(self, depth: int, classes: Classes = 10) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, 1)
        self.layer2 = self._stage(16, 32, blocks, 2)
        self.layer3 = self._stage(32, 64, blocks, 2)
        self.linear = nn.Linear(64, classes)

    @staticmethod
    def _stage(inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            *(Block(inputs if i == 0 else width, width, stride if i == 0 else 1) for i in range(blocks))
        )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.linear(out.mean((2, 3)))


def cifar_resnet(depth: int, weights: str | None = None, classes: Classes = 10) -> Classifier:
    """A CIFAR ResNet with mean/std inside. ``weights``: safetensors or tensor-only .pt file; None: random, seed 0."""
    with seeded(0):
        network = CifarResNet(depth, classes)
    fill(network, weights)
    return Classifier(network.eval(), MEAN, STD, name=f"cifar_resnet{depth}", size=32)


def _family(depth: int) -> Callable[..., Classifier]:
    def factory(weights: str | None = None, classes: Classes = 10) -> Classifier:
        return cifar_resnet(depth, weights, classes)

    factory.__doc__ = f"CIFAR ResNet-{depth} (arXiv:1512.03385 option A). weights=FILE, classes=10."
    return factory


for _depth in (20, 32, 44, 56):
    MODELS(f"cifar_resnet{_depth}")(_family(_depth))
