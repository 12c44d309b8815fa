"""A toy package with one thing of each kind, as somebody else would write it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from sparring.analysis.base import Analysis
from sparring.analysis.panel import Grid, Panel
from sparring.attacks.method import Method
from sparring.attacks.query import Query
from sparring.checks.base import Answer, Context, check
from sparring.core.noise import Noise
from sparring.core.rows import Rows
from sparring.core.spec import option
from sparring.core.victim import Access, Victim
from sparring.data.images import ImageSet
from sparring.defenses.base import Defended, InputDefense, Stage, Surrogate
from sparring.models.classifier import Classifier
from sparring.models.weights import load_weights, seeded
from sparring.subject import Subject
from sparring.testing.networks import context, images
from sparring.threats.base import Options, Seat, View, threat_kind
from sparring.training.base import Scales, Trained, Training, TrainingSpec
from sparring.training.classifier import train_classifier
from sparring.training.loop import LoopConfig


@dataclass(frozen=True, kw_only=True)
class ToyStep(Method):
    """Steps of full size along the gradient's sign. Norm: linf. Differs from the paper: there is none."""

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
    """Toy: gradients through the defense; where that is random no draw ends the attack."""
    victim = Victim((defended.system(),), Access.GRADIENT)
    stop = "never" if defended.random else "success"
    return Seat("", (View("default", victim),), Access.GRADIENT, stop, defended.system(), defended.name)


def toy_net(classes: int = 4, size: int = 8, weights: str | None = None) -> Classifier:
    """A linear network on 3 x size x size images. weights=FILE."""
    with seeded(3):
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, classes)).eval()
    if weights:
        load_weights(network, weights)
    return Classifier(network, name="toy_net", channels=3, size=size)


def toy_data(count: int = 12) -> ImageSet:
    """Random images with the toy network's labels."""
    x = torch.randint(0, 256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(4)).to(torch.uint8)
    return ImageSet.of(x, toy_net()(x / 255).argmax(1).detach(), name="toy_data")


@check("T1", "toy", "A", "INFO", fires=lambda: context(x=0 * images()), silent=context)
def toy_check(c: Context) -> list[Answer]:
    """Raised if: every pixel of every image is black. Why: it is a toy. What to do: nothing."""
    most = float(c.x.max())
    return [Answer(most > 0, most, 0.0, f"the brightest pixel is {most:.3f}")]


@dataclass(frozen=True, kw_only=True)
class ToyLight(Analysis):
    """How bright the images are that the model calls by each label. Source: it is a toy."""

    pictures: ClassVar[bool] = False
    example: ClassVar[str] = "toy-light toy_net:weights=random --data toy_data"

    scale: float = option(1.0, help="what one white pixel counts")

    def panel(self, subject: Subject) -> Panel:
        x = subject.images.x
        with torch.no_grad():
            label = subject.prepared.model(x).argmax(1)
        light = {str(k): self.scale * float(x[label == k].mean()) for k in label.unique().tolist()}
        return Panel("light by label", light, tables=[Grid("light", ("label", "mean"), list(light.items()))])


@dataclass(frozen=True, kw_only=True)
class ToyTraining(Training):
    """The toy network from nothing. Source: it is a toy."""

    scales: ClassVar[Scales] = {"small": LoopConfig(epochs=2), "paper": LoopConfig(epochs=20)}
    example: ClassVar[str] = "toy-train --data toy_data --out toy.safetensors"

    smoothing: float = option(0.0, help="label smoothing: share of the other classes")

    def train(self, spec: TrainingSpec) -> Trained:
        model, config = f"toy_net:size={spec.images.x.shape[-1]}", spec.schedule.config(self.scales)
        classifier = train_classifier(
            spec.images, config, spec.out, spec.progress, model=model, smoothing=self.smoothing, log=spec.log
        )
        return Trained.of(spec.out, classifier.name.replace(spec.out.name, str(spec.out)))


def half(x: Tensor) -> Tensor:
    """A function as a defense."""
    return x / 2
