"""Small fixed systems with known answers: the fixtures of checks and the controls B3 and B4 of the protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sparring.attacks.attack import attack
from sparring.checks.base import Context
from sparring.core.noise import Noise
from sparring.defenses.base import Backward, Defended, Stage, Surrogate

SHAPE = (3, 8, 8)
CLASSES = 4


def linear_net(classes: int = CLASSES, seed: int = 0, scale: float = 1.0) -> nn.Sequential:
    """A linear classifier on 3x8x8 images in [0,1]."""
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(192, classes)
    layer.weight.data = scale * torch.randn(classes, 192, generator=generator)
    layer.bias.data = -layer.weight.data.sum(1) / 2
    return nn.Sequential(nn.Flatten(), layer).eval()


def linear_layer(model: nn.Module) -> nn.Linear:
    """The one linear layer of a linear classifier."""
    return next(m for m in model.modules() if isinstance(m, nn.Linear))


def images(count: int = 24, seed: int = 0) -> Tensor:
    """Random images on the 8-bit lattice."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *SHAPE), generator=generator) / 255


def context(
    model: nn.Module | None = None, stages: tuple[Stage, ...] = (), x: Tensor | None = None, **changes: object
) -> Context:
    """A context around a model (default: linear) with its own predictions as labels."""
    model = model or linear_net()
    x = images() if x is None else x
    state = [m.training for m in model.modules()]
    with torch.no_grad():
        y = model.eval()(x).argmax(1)
    for module, training in zip(model.modules(), state, strict=True):
        module.training = training
    plain = Context(
        model=model,
        network=model,
        x=x,
        y=y,
        ids=[str(i) for i in range(len(x))],
        systems=[Defended(model, stages, name="+".join(s.name for s in stages) or "none")],
        attacks=[attack("pgd:eps=8/255,steps=3"), attack("ddn:steps=3")],
    )
    return replace(plain, **changes)


class FunctionStage(Stage):
    """A stage from a function (x, noise) -> x."""

    def __init__(
        self,
        function: Callable[[Tensor, Noise], Tensor],
        *,
        name: str = "toy",
        random: bool = False,
        backward: Backward = "exact",
    ) -> None:
        super().__init__(name, Surrogate(backward={str(backward): backward}, random=random, why="a control"))
        self.function = function

    def forward(self, x: Tensor, noise: Noise) -> Tensor:
        return self.function(x, noise)


def eight_levels(x: Tensor, noise: Noise) -> Tensor:
    """Rounds to eight levels: no gradient, the commonest mask."""
    return (x * 7).round() / 7


class Lookup(nn.Module):
    """Classifies an image by the class written into its first pixel; useful where the answer must be known."""

    def forward(self, x: Tensor) -> Tensor:
        label = (x[:, 0, 0, 0] * 10).floor().long().clamp(0, CLASSES - 1)
        return 10.0 * nn.functional.one_hot(label, CLASSES).to(x.dtype) + 0.0 * x.flatten(1).sum(1, keepdim=True)


class CoinNet(nn.Module):
    """Passes its input's first pixel to the right class, unless the coin stage has raised it beyond 1: then all is
    lost.
    """

    x: Tensor
    labels: Tensor

    def __init__(self, labels: Tensor, x: Tensor) -> None:
        super().__init__()
        self.register_buffer("x", x)
        self.register_buffer("labels", labels)

    def forward(self, x: Tensor) -> Tensor:
        tails = x[:, 0, 0, 0] > 1.5
        body = x[:, :, 1:].flatten(1)
        nearest = torch.cdist(body, self.x[:, :, 1:].flatten(1)).argmin(1)
        label = self.labels[nearest]
        wrong = (label + 1) % CLASSES
        return nn.functional.one_hot(torch.where(tails, wrong, label), CLASSES).to(x.dtype) * 10 + 0 * x.flatten(1).sum(
            1, keepdim=True
        )


def coin_system(p: float = 0.8, count: int = 200) -> tuple[Defended, Tensor, Tensor]:
    """B4, the null control: (system, x, y) whose answer is right with probability p, whatever a small attack does."""
    x = images(count, seed=3)
    y = torch.arange(count) % CLASSES

    def toss(u: Tensor, noise: Noise) -> Tensor:
        tails = noise.uniform("coin", (1,))[:, 0] >= p
        u = u.clone()
        u[:, 0, 0, 0] = u[:, 0, 0, 0] + 2.0 * tails
        return u

    stage = FunctionStage(toss, name="coin", random=True)
    return Defended(CoinNet(y, x).eval(), (stage,), name="coin", id=f"coin{p}"), x, y


@dataclass(frozen=True)
class LinearControl:
    """B3, the exact control: weights (K,d), bias (K,). Untargeted linf with the box is solvable per coordinate and
    rival.
    """

    weight: Tensor
    bias: Tensor

    def robust(self, x: Tensor, y: Tensor, eps: float) -> Tensor:
        """(N,) bool: does no point of the linf ball in the box change the label? float64, closed form."""
        w, b, z = self.weight.double(), self.bias.double(), x.flatten(1).double()
        low, high = (z - eps).clamp(0, 1) - z, (z + eps).clamp(0, 1) - z
        margin = torch.full((len(x),), -torch.inf, dtype=torch.float64)
        for rival in range(len(b)):
            direction = w[rival] - w[y]
            gain = torch.maximum(direction * low, direction * high).sum(1)
            reach = (direction * z).sum(1) + b[rival] - b[y] + gain
            margin = torch.where(y == rival, margin, torch.maximum(margin, reach))
        return margin <= 0
