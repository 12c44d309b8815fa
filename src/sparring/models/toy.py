"""The toy network of the ACE paper (appendix A, Table 6)."""

from __future__ import annotations

from torch import nn

from sparring.core.ranges import Classes
from sparring.core.registry import MODELS
from sparring.models.classifier import Classifier
from sparring.models.resnet import cifar_classifier


@MODELS("ace_toy")
def ace_toy(weights: str | None = None, classes: Classes = 10) -> Classifier:
    """ACE's toy network for 32x32 images, after LeNet (ACE paper, Table 6): 3x3 convolutions of 16 (stride 2), 32 (stride 2) and 64 channels, each with
    ReLU, and linear layers of 512 and 10; 848,426 parameters.

    Differs from the paper: it names no padding; 1600 inputs of its first linear layer mean none, so that the last row and column reach nothing.
    """

    def make() -> nn.Module:
        layers: list[nn.Module] = []
        for inputs, width, stride in ((3, 16, 2), (16, 32, 2), (32, 64, 1)):
            layers += [nn.Conv2d(inputs, width, 3, stride), nn.ReLU()]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1600, 512), nn.Linear(512, classes))

    return cifar_classifier(make, "ace_toy", weights)
