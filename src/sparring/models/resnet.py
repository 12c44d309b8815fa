"""The CIFAR classifiers that the defective paper masks: ResNet-18, ResNet-50, its "WRN-32-4" and a small ResNet-10.

As in the family its code is taken from: a 3x3 stem without pooling, shortcuts of a 1x1 convolution and BatchNorm where the
shape changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from sparring.core.errors import SparringError
from sparring.core.ranges import Classes
from sparring.core.registry import MODELS
from sparring.models.classifier import Classifier
from sparring.models.weights import fill, seeded

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
GRAY_MEAN, GRAY_STD = (0.1307,), (0.3081,)  # of MNIST, as the defective paper's code has them
Channels = Literal[1, 3]
Side = Annotated[int, Ge(8), Le(1024)]


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Identity, or a 1x1 convolution and BatchNorm where the shape changes."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class Basic(nn.Module):
    """Two 3x3 convolutions (He et al., arXiv:1512.03385, sec. 4.2)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1 to four times the width (arXiv:1512.03385, Fig. 5)."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.shortcut = shortcut(inputs, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + self.shortcut(x))


class ResNet(nn.Module):
    """Normalised images (B,``channels``,H,W) -> logits (B,classes). Stage k has ``blocks[k]`` blocks of ``widths[k]`` channels; the
    stride is 2 from the second stage on. ``places``: where the defective paper masks it (``models.defective``).
    """

    def __init__(
        self,
        block: type[Basic | Bottleneck],
        blocks: Sequence[int],
        widths: Sequence[int],
        stem: int,
        classes: int,
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, stem, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        inputs = stem
        for number, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            stage = []
            for i in range(count):
                stage.append(block(inputs, width, 2 if number and not i else 1))
                inputs = width * block.expansion
            setattr(self, f"layer{number + 1}", nn.Sequential(*stage))
        self.linear = nn.Linear(inputs, classes)
        self.stages = len(blocks)
        low, high = (["layer1"], ["layer3"]) if self.stages == 3 else (["layer1", "layer2"], ["layer3", "layer4"])
        within = ["*.bn2"] if block is Bottleneck else ["*.bn1", "*.bn2"]
        # stage 1 and the WRN keep their 1x1 shortcuts whole, as the code does
        down = [f"{s}.0.shortcut.1" for s in (*low, *high) if s != "layer1" and self.stages == 4 and block is Basic]
        within_activated = ["*.bn2", "*"] if block is Bottleneck else ["*.bn1", "*"]
        self.places = {
            "bottom": ["bn1", *_each(low, within), *(d for d in down if d.split(".")[0] in low)],
            "top": [*_each(high, within), *(d for d in down if d.split(".")[0] in high)],
            "bottom/activation": ["bn1", *_each(low, within_activated)],
            "top/activation": _each(high, within_activated),
        }

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        for number in range(self.stages):
            out = self.get_submodule(f"layer{number + 1}")(out)
        return self.linear(out.mean((2, 3)))


def _each(stages: Sequence[str], within: Sequence[str]) -> list[str]:
    return [f"{s}.{w}" for s in stages for w in within]


def cifar_classifier(
    make: Callable[[], nn.Module], name: str, weights: str | None, channels: Channels = 3, size: Side = 32
) -> Classifier:
    """A network for images of ``channels`` x ``size`` x ``size`` as a Classifier: random weights (seed 0), or those of a file."""
    with seeded(0):
        network = make()
    fill(network, weights)
    mean, std = (MEAN, STD) if channels == 3 else (GRAY_MEAN, GRAY_STD)
    return Classifier(network.eval(), mean, std, name=name, channels=channels, size=size)


def widths(width: int, bottom: float) -> list[int]:
    """Widths of four stages, doubling; the first two times ``bottom``, rounded up (7 and 13 of 64 and 128 at 0.1)."""
    if width < 1 or bottom <= 0:
        raise SparringError(f"width={width} must be at least 1 and bottom={bottom:g} positive")
    return [math.ceil(width * f) for f in (bottom, 2 * bottom, 4, 8)]


def _family(
    depth: int, block: type[Basic | Bottleneck], blocks: Sequence[int], default: int
) -> Callable[..., Classifier]:
    def factory(
        width: Annotated[int, Ge(1), Le(4096)] = default,
        bottom: Annotated[float, Gt(0), Le(100)] = 1.0,
        weights: str | None = None,
        classes: Classes = 10,
        channels: Channels = 3,
        size: Side = 32,
    ) -> Classifier:
        def make() -> nn.Module:
            return ResNet(block, blocks, widths(width, bottom), width, classes, channels)

        return cifar_classifier(make, f"resnet{depth}", weights, channels, size)

    factory.__doc__ = (
        f"CIFAR ResNet-{depth} (arXiv:1512.03385 with a 3x3 stem), {'-'.join(map(str, blocks))} blocks. ``width``: of the stem and "
        f"the first stage; ``bottom``: factor on the widths of the first two stages (the defective paper's DC and x n). ``channels``, ``size``: of the images, "
        f"1 and 28 for MNIST."
    )
    return factory


MODELS("resnet10")(_family(10, Basic, (1, 1, 1, 1), 16))
MODELS("resnet18")(_family(18, Basic, (2, 2, 2, 2), 64))
MODELS("resnet50")(_family(50, Bottleneck, (3, 4, 6, 3), 64))


@MODELS("wrn32x4")
def wrn32x4(weights: str | None = None, classes: Classes = 10) -> Classifier:
    """The defective paper's "WRN-32-4": a post-activation ResNet-32 (5-5-5 blocks), stem 16, widths 64-128-256.

    Differs from the paper: its text calls it a wide ResNet; its code is this. Trained here from PyTorch's default initial
    weights, there from He's.
    """
    return cifar_classifier(lambda: ResNet(Basic, (5, 5, 5), (64, 128, 256), 16, classes), "wrn32x4", weights)
