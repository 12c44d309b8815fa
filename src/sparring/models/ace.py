"""ACE trained jointly with its classifier (ACE paper, sec. 4 and 5): f(x + lam F(x)), F two caged layers."""

from __future__ import annotations

import math
from typing import Annotated

from annotated_types import Ge, Le
from torch import Tensor, nn

from sparring.core.errors import SparringError
from sparring.core.ranges import Classes, Extended
from sparring.core.registry import MODELS
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


@MODELS("ace_resnet")
def ace_resnet(
    depth: Annotated[int, Ge(8), Le(1202)] = 20,
    lam: Extended = 10.0,
    middle: Annotated[int, Ge(1), Le(4096)] = 16,
    weights: str | None = None,
    classes: Classes = 10,
) -> Classifier:
    """A CIFAR ResNet of ``depth`` (6n+2) trained jointly with ACE at ``lam`` (0, 10, 100, inf); ``middle``: ACE's inner width.

    The defense that goes with it is ``shift``; without it the bait defends nothing.
    """
    if depth < 8 or (depth - 2) % 6 or lam < 0 or middle < 1:
        raise SparringError(
            f"depth={depth} must be 6n+2 and at least 8, lam={lam} not negative, middle={middle} at least 1"
        )
    with seeded(0):
        network = AceNet(Classifier(CifarResNet(depth, classes), MEAN, STD), lam, 3, middle)
    fill(network, weights)
    return Classifier(network.eval(), name=f"ace_resnet:depth={depth},lam={lam:g}", channels=3, size=32)
