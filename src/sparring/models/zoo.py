"""Two other CIFAR architectures of the defective paper: DenseNet-121 and SENet-18, with 3x3 stems for 32x32 images."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparring.core.ranges import Classes
from sparring.core.registry import MODELS
from sparring.models.classifier import Classifier
from sparring.models.resnet import Channels, Side, cifar_classifier


class Dense(nn.Module):
    """BN-ReLU-1x1 to four times the growth, BN-ReLU-3x3 to the growth, concatenated to the input."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))
        return torch.cat([out, x], 1)


class Transition(nn.Module):
    """BN-ReLU-1x1 to half the channels, average pooling by 2."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, inputs // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv(F.relu(self.bn(x))), 2)


class DenseNet(nn.Module):
    """DenseNet-121 (Huang et al., arXiv:1608.06993): growth 32, blocks of 6-12-24-16 layers, halved between them."""

    places: ClassVar = {
        "bottom": ["dense1.*.bn1", "trans1.bn", "dense2.*.bn1", "trans2.bn"],
        "top": ["dense3.*.bn1", "trans3.bn", "dense4.*.bn1"],
        "bottom/activation": ["dense1.*.conv2", "dense2.*.conv2"],
        "top/activation": ["dense3.*.conv2", "dense4.*.conv2"],
    }

    def __init__(
        self, growth: int = 32, blocks: tuple[int, ...] = (6, 12, 24, 16), classes: int = 10, channels: int = 3
    ) -> None:
        super().__init__()
        width = 2 * growth
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        body: list[nn.Module] = []
        for number, count in enumerate(blocks, 1):
            block = nn.Sequential(*(Dense(width + i * growth, growth) for i in range(count)))
            width += count * growth
            body.append(block)
            self.add_module(f"dense{number}", block)
            if number < len(blocks):
                self.add_module(f"trans{number}", Transition(width))
                width //= 2
        self.bn = nn.BatchNorm2d(width)
        self.linear = nn.Linear(width, classes)
        self.blocks = len(blocks)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for number in range(1, self.blocks):
            x = self.get_submodule(f"trans{number}")(self.get_submodule(f"dense{number}")(x))
        x = self.get_submodule(f"dense{self.blocks}")(x)
        return self.linear(F.relu(self.bn(x)).mean((2, 3)))


class Squeezed(nn.Module):
    """A pre-activation basic block whose branch is weighed channel by channel (Hu et al., arXiv:1709.01507), reduction 16."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(inputs, width, 1, stride, bias=False) if stride != 1 or inputs != width else None
        self.fc1 = nn.Conv2d(width, width // 16, 1)
        self.fc2 = nn.Conv2d(width // 16, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(x))
        around = x if self.shortcut is None else self.shortcut(out)
        out = self.conv2(F.relu(self.bn2(self.conv1(out))))
        weight = self.fc2(F.relu(self.fc1(out.mean((2, 3), keepdim=True)))).sigmoid()
        return out * weight + around


class SENet(nn.Module):
    """SENet-18: pre-activation squeeze-and-excitation blocks 2-2-2-2 of widths 64-128-256-512."""

    places: ClassVar = {
        "bottom": ["layer1.*.bn*", "layer2.*.bn*"],
        "top": ["layer3.*.bn*", "layer4.*.bn*"],
        "bottom/activation": ["layer1.*.conv*", "layer2.0.conv*"],
        "top/activation": ["layer3.*.conv*", "layer4.*.conv*"],
    }

    def __init__(self, classes: int = 10, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(Squeezed(64, 64, 1), Squeezed(64, 64, 1))
        self.layer2 = nn.Sequential(Squeezed(64, 128, 2), Squeezed(128, 128, 1))
        self.layer3 = nn.Sequential(Squeezed(128, 256, 2), Squeezed(256, 256, 1))
        self.layer4 = nn.Sequential(Squeezed(256, 512, 2), Squeezed(512, 512, 1))
        self.linear = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        return self.linear(out.mean((2, 3)))


@MODELS("densenet121")
def densenet121(
    weights: str | None = None, classes: Classes = 10, channels: Channels = 3, size: Side = 32
) -> Classifier:
    """CIFAR DenseNet-121 (arXiv:1608.06993): 6,956,298 parameters. ``channels``, ``size``: of the images."""
    return cifar_classifier(
        lambda: DenseNet(classes=classes, channels=channels), "densenet121", weights, channels, size
    )


@MODELS("senet18")
def senet18(weights: str | None = None, classes: Classes = 10, channels: Channels = 3, size: Side = 32) -> Classifier:
    """CIFAR SENet-18 (arXiv:1709.01507), pre-activation: 11,260,354 parameters. ``channels``, ``size``: of the images."""
    return cifar_classifier(lambda: SENet(classes, channels), "senet18", weights, channels, size)
