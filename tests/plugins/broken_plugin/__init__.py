"""A plug-in in which everything is wrong in some way: every contract suite must say so. ``FAULTS`` in test_contracts.py says which test which."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from sparring.analysis.base import Analysis
from sparring.analysis.panel import Map, Panel
from sparring.attacks.attack import MethodAttack
from sparring.attacks.engine import Batch, Outcome, RunOptions
from sparring.attacks.method import Method
from sparring.attacks.query import Query
from sparring.checks.base import Answer, Context, check
from sparring.core.noise import Noise
from sparring.core.registry import ANALYSES, ATTACKS, DATA, DEFENSES, MODELS, TASKS
from sparring.core.rows import Rows
from sparring.core.spec import option
from sparring.core.victim import Access, Victim
from sparring.data.images import ImageSet
from sparring.data.stream import Held
from sparring.defenses.base import Defended, InputDefense, Stage, Surrogate
from sparring.models.classifier import Classifier
from sparring.models.weights import save_weights
from sparring.subject import Subject
from sparring.testing.networks import context
from sparring.threats.base import Options, Seat, View, threat_kind
from sparring.training.base import Scales, Trained, Training, TrainingSpec
from sparring.training.loop import LoopConfig

calls = itertools.count()


# attacks


@ATTACKS("neighborly")
@dataclass(frozen=True, kw_only=True)
class Neighborly(Method):
    """Looks at its batch mates and at the global generator, and counts half of its gradients."""

    steps: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", self.steps + 1)

    def init(self, q: Query) -> Rows:
        return Rows(x=q.clean)

    def advance(self, q: Query, s: Rows) -> Rows:
        first, second = q.gradient(s.x).grad, q.gradient(s.x, call="again").grad
        step = (first - first.mean(0) + second) * torch.rand(1)
        return s.put(x=q.project(s.x + 0.5 * q.ball.eps[:, None, None, None] * step.sign()))


class Boastful(MethodAttack):
    """Says that it has won, with points that it was not allowed, for queries that it does not count."""

    def perform(self, victim: Victim, batch: Batch, eps: Tensor, options: RunOptions) -> Outcome:
        outcome = super().perform(victim, replace(batch, queries=None, mask=None), eps, options)
        far = (outcome.x + 0.5).clamp(0, 2)
        return outcome.put(x=far, success=torch.ones_like(outcome.success), forwards=outcome.forwards + 1000)


@ATTACKS("boaster")
@dataclass(frozen=True, kw_only=True)
class Boaster(Method):
    """Norm: linf. Differs from the paper: shamelessly."""

    attack_kind: ClassVar[type | None] = Boastful
    steps: int = 2

    def init(self, q: Query) -> Rows:
        return Rows(x=q.clean)

    def advance(self, q: Query, s: Rows) -> Rows:
        q.gradient(s.x)
        return s


@ATTACKS("liar")
@dataclass(frozen=True, kw_only=True)
class Liar(Method):
    """Asks for more than it declares. Norm: linf. Differs from the paper: it lies."""

    needs = Access.LABEL
    steps: int = 2

    def init(self, q: Query) -> Rows:
        return Rows(x=q.clean)

    def advance(self, q: Query, s: Rows) -> Rows:
        return s.put(x=q.project(s.x + q.gradient(s.x).grad.sign()))


# defenses


class Careless(Stage):
    """Draws from the global generator, mixes its images, passes no gradient, and says none of it."""

    def __init__(self) -> None:
        super().__init__("careless", Surrogate(backward={"exact": "exact"}, random=False, why=""))

    def forward(self, x: Tensor, noise: Noise) -> Tensor:
        return ((x + x.mean(0) + 0.1 * torch.rand_like(x)) * 7).round() / 7


@DEFENSES("careless")
@dataclass(frozen=True)
class CarelessDefense(InputDefense):
    def stage(self) -> Stage:
        return Careless()

    def install(self, system: Defended) -> Defended:
        next(system.network.parameters()).data.mul_(2)
        return super().install(system)


# threats


@threat_kind("biased", grants=Access.SCORES, over=("adaptive", "biased"), shows="")
def biased(defended: Defended, others: Sequence[Defended], options: Options) -> Seat:
    victim = Victim((defended.drop().system(),), Access.GRADIENT)
    view = View("default", victim)
    return Seat("", (view, view), Access.GRADIENT, "success", defended.drop().system(), "")


@threat_kind("swapped", grants=Access.GRADIENT, shows="what another model does")
def swapped(defended: Defended, others: Sequence[Defended], options: Options) -> Seat:
    """Needs a model that it does not ask for, and judges on that, though its points join the pool."""
    victim = Victim((defended.system(),), Access.GRADIENT)
    return Seat("", (View("default", victim),), Access.GRADIENT, "never", others[0].system(), "somebody")


# checks


@check("silly", "", "A", "INFO", fires=context, silent=context)
def silly(c: Context) -> list[Answer]:
    """Nothing to say."""
    torch.rand(1)
    c.x.mul_(0.5)
    return [Answer(True, 0.0, 0.0, "")]


@check("Z1", "always", "A", "INFO", fires=context, silent=context)
def always(c: Context) -> list[Answer]:
    """Raised if: always. Why: it is broken. What to do: repair it."""
    return [Answer(False, 0.0, 0.0, f"call {next(calls)}")]


# models


class Moody(nn.Module):
    """Probabilities of a batch, which change with every call, through a step."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.register_buffer("called", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.called += 1  # pyright: ignore[reportOperatorIssue]
        z = self.layer((x - x.mean(0)).round().mean((2, 3))) + self.called
        return (z + torch.rand(4)).softmax(1)


@MODELS("moody")
def moody():
    return Classifier(Moody().eval(), name="moody", channels=3, size=8)


# data


@DATA("glaring")
def glaring():
    x = 255 * torch.rand(6, 3, 8, 8)
    return ImageSet(Held(x + next(calls)), torch.full((6,), -1), ("a",) * 6, "glaring")


# analyses


@ANALYSES("rambling")
@dataclass(frozen=True, kw_only=True)
class Rambling(Analysis):
    example: ClassVar[str] = "another --data test.npz"
    pictures: ClassVar[bool] = False

    points: int = option(3, help="")

    def panel(self, subject: Subject) -> Panel:
        return Panel("rambling", {}, maps=[Map("noise", torch.rand(2, 2) + next(calls))])


# tasks


@TASKS("forgetful")
@dataclass(frozen=True, kw_only=True)
class Forgetful(Training):
    scales: ClassVar[Scales] = {"small": LoopConfig(), "large": LoopConfig()}
    example: ClassVar[str] = "another --data test.npz"

    def train(self, spec: TrainingSpec) -> Trained:
        save_weights(nn.Linear(2, 2), spec.out, {})
        return Trained({}, "done")
