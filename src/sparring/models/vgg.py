"""CIFAR VGGs of the papers: 11 (ACE), 16 (channels), 19 (defective), and 13 between them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from sparring.core.ranges import Classes
from sparring.core.registry import MODELS
from sparring.models.classifier import Classifier
from sparring.models.resnet import cifar_classifier

POOL = 0  # among widths: max-pooling by 2
WIDTHS = {
    11: (64, POOL, 128, POOL, *[256] * 2, POOL, *[512] * 2, POOL, *[512] * 2, POOL),
    13: (*[64] * 2, POOL, *[128] * 2, POOL, *[256] * 2, POOL, *[512] * 2, POOL, *[512] * 2, POOL),
    16: (*[64] * 2, POOL, *[128] * 2, POOL, *[256] * 3, POOL, *[512] * 3, POOL, *[512] * 3, POOL),
    19: (*[64] * 2, POOL, *[128] * 2, POOL, *[256] * 4, POOL, *[512] * 4, POOL, *[512] * 4, POOL),
}


class VGG(nn.Module):
    """VGG with BatchNorm (Simonyan and Zisserman, arXiv:1409.1556, columns A, B, D, E) and a single linear layer. The bottom: its first two resolutions."""

    def __init__(self, widths: Sequence[int], classes: int = 10) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        inputs, number, resolution = 3, 0, 0
        bottom: list[int] = []
        for width in widths:
            if width == POOL:
                layers[f"pool{len(layers)}"] = nn.MaxPool2d(2)
                resolution += 1
                continue
            number += 1
            layers[f"conv{number}"] = nn.Conv2d(inputs, width, 3, 1, 1)
            layers[f"bn{number}"] = nn.BatchNorm2d(width)
            layers[f"relu{number}"] = nn.ReLU()
            inputs = width
            if resolution < 2:
                bottom.append(number)
        self.features = nn.Sequential(layers)
        self.linear = nn.Linear(512, classes)
        top = range(len(bottom) + 1, number + 1)
        self.places = {
            "bottom": [f"features.bn{i}" for i in bottom],
            "top": [f"features.bn{i}" for i in top],
            "bottom/activation": [f"features.relu{i}" for i in bottom],
            "top/activation": [f"features.relu{i}" for i in top],
        }

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.features(x).flatten(1))


def _vgg(depth: int) -> Callable[..., Classifier]:
    def factory(weights: str | None = None, classes: Classes = 10) -> Classifier:
        return cifar_classifier(lambda: VGG(WIDTHS[depth], classes), f"vgg{depth}", weights)

    parameters = {11: "9,231,114", 13: "9,416,010", 16: "14,728,266", 19: "20,040,522"}[depth]
    factory.__doc__ = f"CIFAR VGG-{depth} with BatchNorm (arXiv:1409.1556): {parameters} parameters."
    return factory


for _depth in WIDTHS:
    MODELS(f"vgg{_depth}")(_vgg(_depth))
