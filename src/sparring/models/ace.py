"""ACE trained jointly with its classifier (ACE paper, sec. 4 and 5): f(x + lam F(x)), F two caged layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

from annotated_types import Ge, Le
from torch import Tensor, nn

from sparring.core.errors import SparringError
from sparring.core.ranges import Classes, Extended
from sparring.core.registry import MODELS
from sparring.models.attach import base_model
from sparring.models.cifar import MEAN, STD, CifarResNet
from sparring.models.classifier import Classifier
from sparring.models.unet import Caged
from sparring.models.weights import fill, seeded


class AceNet(nn.Module):
    """Pixels in [0,1] (B,C,H,W) -> logits of ``classifier`` at x + lam F(x); lam=0: the classifier alone, lam=inf: at F(x).

    Differs from the paper: it does not say where mean and std go; here ACE sees pixels, the classifier normalises.
    """

    def __init__(
        self, classifier: nn.Module, lam: float, channels: int = 3, middle: Annotated[int, Ge(1), Le(4096)] = 16
    ) -> None:
        super().__init__()
        self.lam = lam
        self.caged = Caged(channels, middle) if lam > 0 else nn.Identity()
        self.classifier = classifier

    def bait(self, x: Tensor) -> Tensor:
        """What the classifier is shown."""
        if self.lam == 0:
            return x
        return self.caged(x) if math.isinf(self.lam) else x + self.lam * self.caged(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.bait(x))


def joined(make: Callable[[], Classifier], lam: float, middle: int, weights: str | None, name: str) -> Classifier:
    """What ``make`` draws behind ACE, with the weights of a file or drawn ones. Raises SparringError for a negative lam."""
    if lam < 0:
        raise SparringError(f"{name}: lam={lam:g} must not be negative")
    with seeded(0):
        base = make()
        network = AceNet(base, lam, base.channels or 3, middle)
    fill(network, weights)
    return Classifier(network.eval(), name=name, channels=base.channels or 3, size=base.size)


@MODELS("ace")
def ace(
    model: str,
    lam: Extended = 10.0,
    middle: Annotated[int, Ge(1), Le(4096)] = 16,
    weights: str | None = None,
    classes: Classes = 10,
) -> Classifier:
    """A network trained jointly with ACE at ``lam`` (0, 10, 100, inf): ``model`` is its spec without weights (``resnet18``, ``vgg11``, ``ace_toy``,
    inner fields by ;); ``middle``: ACE's inner width. The defense that goes with it is ``shift``; without it the bait defends nothing.
    """
    return joined(lambda: base_model(model, classes), lam, middle, weights, f"ace:model={model},lam={lam:g}")


@MODELS("ace_resnet")
def ace_resnet(
    depth: Annotated[int, Ge(8), Le(1202)] = 20,
    lam: Extended = 10.0,
    middle: Annotated[int, Ge(1), Le(4096)] = 16,
    weights: str | None = None,
    classes: Classes = 10,
) -> Classifier:
    """A CIFAR ResNet of ``depth`` (6n+2) trained jointly with ACE, as ``ace`` joins them."""
    if depth < 8 or (depth - 2) % 6:
        raise SparringError(f"depth={depth} must be 6n+2 and at least 8")
    name = f"ace_resnet:depth={depth},lam={lam:g}"
    return joined(lambda: Classifier(CifarResNet(depth, classes), MEAN, STD, size=32), lam, middle, weights, name)
