"""A toy package with one thing of each kind, as somebody else would write it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparring.attacks.method import Method
from sparring.attacks.query import Query
from sparring.checks.base import Answer, Context, check
from sparring.checks.controls import context
from sparring.core.noise import Noise
from sparring.core.rows import Rows
from sparring.core.victim import Access, Victim
from sparring.data.images import ImageSet
from sparring.defenses.base import Defended, InputDefense, Stage, Surrogate
from sparring.models.classifier import Classifier
from sparring.threats.base import Options, Seat, View, threat_kind


@dataclass(frozen=True, kw_only=True)
class ToyStep(Method):
    """One step of fixed size along the gradient's sign. Norm: linf. Differs from the paper: there is none."""

    norms = ("linf",)
    steps: int = 1

    def init(self, q: Query) -> Rows:
        return Rows(x=q.clean)

    def advance(self, q: Query, s: Rows) -> Rows:
        return s.put(x=q.project(s.x + q.ball.eps[:, None, None, None] * q.gradient(s.x).grad.sign()))


class Dim(Stage):
    def __init__(self, share: float) -> None:
        super().__init__("toy-dim", Surrogate(backward={"exact": "exact"}, random=False, why="linear"))
        self.share = share

    def forward(self, x: Tensor, noise: Noise) -> Tensor:
        return self.share * x


@dataclass(frozen=True)
class ToyDim(InputDefense):
    """Darker images; defends nothing."""

    share: float = 0.9

    def stage(self) -> Stage:
        return Dim(self.share)


@threat_kind("toy-seat", grants=Access.GRADIENT, over=("oblivious",), shows="nothing, it is a toy")
def toy_seat(defended: Defended, others: Sequence[Defended], options: Options) -> Seat:
    """Toy: gradients through the defense, stops at the first success."""
    victim = Victim((defended.system(),), Access.GRADIENT)
    return Seat("", (View("default", victim),), Access.GRADIENT, "success", defended.system(), defended.name)


def toy_net(classes: int = 4) -> Classifier:
    """A linear network on 3x8x8 images."""
    layer = nn.Linear(192, classes)
    layer.weight.data = torch.randn(classes, 192, generator=torch.Generator().manual_seed(3))
    return Classifier(nn.Sequential(nn.Flatten(), layer).eval(), name="toy_net")


def toy_data(count: int = 12) -> ImageSet:
    """Random images with the toy network's labels."""
    x = torch.randint(0, 256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(4)).to(torch.uint8)
    return ImageSet.of(x, toy_net()(x / 255).argmax(1).detach(), name="toy_data")


@check("T1", "toy", "A", "INFO", fires=context, silent=context)
def toy_check(c: Context) -> list[Answer]:
    """Raised if: never. Why: it is a toy. What to do: nothing."""
    return [Answer(True, 0.0, 0.0, "a toy is a toy")]


def half(x: Tensor) -> Tensor:
    """A function as a defense."""
    return x / 2
