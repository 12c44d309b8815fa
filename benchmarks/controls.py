"""Controls: systems whose truth is known, against which the checks and the verdict are measured.

``python benchmarks/controls.py`` lists them; ``--train FOLDER [--seeds 0 1 2]`` trains the few MNIST networks that some of them need and keeps them
there (four minutes a seed on one core). ``benchmarks/verdict.py`` evaluates them.

A control is a model (images in [0,1] -> logits), perhaps defenses with what they declare, and perhaps a faulty attack. It says what it is:

honest              gradients are right, whatever the defense is worth
masked              gradients are wrong or absent and nothing is declared; a better attack breaks it as it breaks the network inside
hidden randomness   draws random numbers that it does not declare
truly robust        its gradients need what it declares, and it does withstand much of the budget
faulty attack       the undefended network, attacked badly
"""

from __future__ import annotations

import argparse
import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from sparring.attacks.attack import Attack, attack
from sparring.attacks.pgd import PGD
from sparring.attacks.query import Query
from sparring.core.geometry import Norm
from sparring.core.noise import Noise
from sparring.core.ranges import Part, Share
from sparring.core.rows import Rows
from sparring.data.images import ImageSet
from sparring.data.sources import load_data
from sparring.defenses.base import DefenseLike, InputDefense, Stage, Surrogate
from sparring.models.load import load_model
from sparring.models.small import SmallCNN
from sparring.models.trained import MeanLogits
from sparring.models.weights import load_weights, seeded

DATA = os.environ.get("SPARRING_DATA", "../shared/data")
Kind = Literal["honest", "masked", "hidden randomness", "truly robust", "faulty attack"]
DataSet = Literal["mnist", "cifar"]
SPECS: dict[DataSet, str] = {"mnist": "mnist5k:split=test", "cifar": f"{DATA}/cifar10_test_0-699.npz"}
# in l2 1.5 about a third of the digits withstand everything, whatever the control; in the other balls of digits nearly none
BALLS: dict[DataSet, dict[Norm, tuple[float, ...]]] = {
    "mnist": {"linf": (0.2,), "l2": (1.5, 2.5)},
    "cifar": {"linf": (2 / 255, 8 / 255), "l2": (0.5,)},
}
DEPTHS = (20, 32, 44, 56)  # of the CIFAR networks that are there


# ---------------------------------------------------------------------------------------------------- networks underneath


class Linear(nn.Module):
    """A linear classifier of 28x28 digits."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(784, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1))


class Thermometer(nn.Module):
    """Each pixel as 15 bits, is it above 1/16, 2/16, ... (Buckman et al. 2018), and the small CNN on them. Comparisons have no slope."""

    def __init__(self) -> None:
        super().__init__()
        self.network = SmallCNN(15, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(((x - self.levels(x)).sign() + 1) / 2)

    def levels(self, x: Tensor) -> Tensor:
        return torch.arange(1, 16, device=x.device).reshape(1, -1, 1, 1) / 16


class Passable(Thermometer):
    """The same, and its comparisons have the gradient of a slope: what an attacker puts in their place."""

    def forward(self, x: Tensor) -> Tensor:
        above = x - self.levels(x)
        return self.network(straight((4 * above + 0.5).clamp(0, 1), (above.sign() + 1) / 2))


def winners(x: Tensor, share: float) -> Tensor:
    """The largest ``share`` of each image's activations; the others become 0 (k-winners-take-all, Xiao et al. 2019)."""
    flat = x.flatten(1)
    least = flat.topk(max(1, int(share * flat.shape[1])), 1).values[:, -1:]
    return torch.where(flat >= least, flat, 0.0).reshape(x.shape)


class Winners(SmallCNN):
    """The small CNN with k-winners-take-all in place of ReLU."""

    share = 0.1

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(winners(self.conv1(x), self.share), 2)
        x = F.max_pool2d(winners(self.conv2(x), self.share), 2)
        x = F.adaptive_avg_pool2d(x, 4)
        return self.linear(winners(self.hidden(x.flatten(1)), self.share))


MAKERS: dict[str, Callable[[], nn.Module]] = {"linear": Linear, "thermometer": Thermometer, "winners": Winners}
EPOCHS = {"linear": 4, "adversarial": 8, "distilled": 12, "teacher": 12}  # of the others 8
TRAINED = (
    *("plain0", "plain1", "plain2", "plain3", "plain4", "linear", "thermometer", "winners", "noise", "adversarial"),
    *("teacher", "distilled"),
)
TEMPERATURE = 50.0
TRAIN_EPS = 0.2
TRAIN_STD = 0.3


@dataclass(frozen=True)
class Stock:
    """What controls are built from: networks and images of one data set. ``folder``: where trained networks lie. ``limit``: images that are
    evaluated. ``seed``: which of the trained networks; 0 takes the shipped one where it can.
    """

    data: DataSet = "mnist"
    folder: Path | None = None
    limit: int = 64
    seed: int = 0

    @property
    def spec(self) -> str:
        return SPECS[self.data]

    def images(self) -> ImageSet:
        return load_data(self.spec, limit=self.limit)

    def file(self, name: str) -> Path:
        return (self.folder or Path("controls")) / f"{name}_s{self.seed}.safetensors"

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those of the trained networks ``names`` that are not there."""
        return [n for n in names if self.data == "mnist" and not (self._shipped(n) or self.file(n).exists())]

    def _shipped(self, name: str) -> bool:
        return name == "plain0" and self.seed == 0

    def trained(self, name: str) -> nn.Module:
        """A trained MNIST network by its name in ``TRAINED``."""
        if self._shipped(name):
            return load_model("mnist_cnn")
        network = MAKERS.get(name, SmallCNN)()
        load_weights(network, str(self.file(name)))
        return frozen(network)

    def members(self) -> list[nn.Module]:
        """Independently trained networks, the undefended one first."""
        if self.data == "cifar":
            specs = (f"cifar_resnet{d}:weights={DATA}/cifar10_resnet{d}.safetensors" for d in DEPTHS)
            return [load_model(s) for s in specs]
        return [self.trained(f"plain{i}") for i in range(5)]

    def base(self) -> nn.Module:
        """The undefended network."""
        return self.members()[0] if self.data == "cifar" else self.trained("plain0")

    def other(self) -> nn.Module:
        """Another network for the same images."""
        return self.members()[1] if self.data == "cifar" else self.trained("plain1")

    @property
    def middle(self) -> str:
        """A layer in the middle of the undefended network."""
        return "layer2" if self.data == "cifar" else "conv2"

    @property
    def late(self) -> str:
        """The last layer before the linear one: its values, once negative ones are cut off, are what that one sees."""
        return "layer3" if self.data == "cifar" else "hidden"


def frozen(network: nn.Module) -> nn.Module:
    """In the state in which classifiers are evaluated."""
    return network.eval().requires_grad_(False)


# ---------------------------------------------------------------------------------------------------- training them


def train(stock: Stock, name: str, epochs: int | None = None, limit: int | None = None) -> nn.Module:
    """One of ``TRAINED``, by Adam on the 4,000 training digits (or ``limit`` of them), and kept where ``stock`` finds it."""
    digits = load_data("mnist5k:split=train", limit=limit)
    epochs = epochs or EPOCHS.get(name, 8)
    number = TRAINED.index(name)
    with seeded(100 * stock.seed + number + 1):
        network = MAKERS.get(name, SmallCNN)().train()
        if name in ("noise", "adversarial"):
            network.load_state_dict(_inner(stock.base()).state_dict())
        teacher = stock.trained("teacher") if name == "distilled" else None
        batches = -(-len(digits.x) // 64)
        optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, epochs * batches)
        for _ in range(epochs):
            for part in torch.randperm(len(digits.x)).split(64):
                x, y = digits.x[part], digits.y[part]
                loss = _loss(name, network, teacher, x, y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    path = stock.file(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, path)
    return frozen(network)


def _inner(model: nn.Module) -> nn.Module:
    """The small CNN inside a classifier that was loaded by its spec."""
    return next(m for m in model.modules() if isinstance(m, SmallCNN))


def _loss(name: str, network: nn.Module, teacher: nn.Module | None, x: Tensor, y: Tensor) -> Tensor:
    if name == "teacher":
        return F.cross_entropy(network(x) / TEMPERATURE, y)
    if teacher is not None:
        with torch.no_grad():
            soft = (teacher(x) / TEMPERATURE).softmax(1)
        return F.cross_entropy(network(x) / TEMPERATURE, soft)
    if name == "noise":
        x = x + TRAIN_STD * torch.randn_like(x)
    if name == "adversarial":
        x = _attacked(network, x, y)
    return F.cross_entropy(network(x), y)


def _attacked(network: nn.Module, x: Tensor, y: Tensor, steps: int = 7) -> Tensor:
    """PGD of seven steps in the linf ball (Madry et al. 2018)."""
    low, high = (x - TRAIN_EPS).clamp(0, 1), (x + TRAIN_EPS).clamp(0, 1)
    point = torch.maximum(torch.minimum(x + TRAIN_EPS * (2 * torch.rand_like(x) - 1), high), low)
    for _ in range(steps):
        leaf = point.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(F.cross_entropy(network(leaf), y), leaf)
        point = torch.maximum(torch.minimum(leaf + 0.25 * TRAIN_EPS * slope.sign(), high), low)
    return point.detach()


# ---------------------------------------------------------------------------------------------------- parts of systems


class Outputs(nn.Module):
    """A network whose logits go through a function."""

    def __init__(self, network: nn.Module, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.function = network, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.network(x))


class Inputs(nn.Module):
    """A network whose images go through a function or a module."""

    def __init__(self, function: Callable[[Tensor], Tensor], network: nn.Module) -> None:
        super().__init__()
        self.function, self.network = function, network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.function(x))


def inserted(network: nn.Module, layer: str, behind: nn.Module) -> nn.Module:
    """A copy of a classifier with a module behind one of its layers."""
    changed = copy.deepcopy(network)
    name = next(n for n, _ in changed.named_modules() if n == layer or n.endswith(f".{layer}"))
    parent, _, own = name.rpartition(".")
    owner = changed.get_submodule(parent)
    setattr(owner, own, nn.Sequential(owner.get_submodule(own), behind))
    return changed


class _Ruled(torch.autograd.Function):
    """The identity, or a given value, whose backward is a rule of somebody's own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, rule: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        ctx.rule = rule
        ctx.save_for_backward(x)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *cotangent: Tensor) -> tuple[Tensor, None, None]:
        return ctx.rule(ctx.saved_tensors[0], cotangent[0]), None, None


class Ruled(nn.Module):
    """``value(x)`` forwards, ``rule(x, cotangent)`` backwards, written by the user as an autograd function of their own."""

    def __init__(
        self, rule: Callable[[Tensor, Tensor], Tensor], value: Callable[[Tensor], Tensor] = lambda x: x
    ) -> None:
        super().__init__()
        self.rule, self.value = rule, value

    def forward(self, x: Tensor) -> Tensor:
        return _Ruled.apply(x, self.value(x.detach()), self.rule)


def field_of(x: Tensor, seed: int = 0) -> Tensor:
    """A random field (C,H,W) of standard normal values that is the same for all images."""
    return torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(seed)).to(x)


class FreshSigns:
    """A rule: the gradient with random signs, others at every call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor, cotangent: Tensor) -> Tensor:
        self.calls += 1
        generator = torch.Generator().manual_seed(self.calls)
        return cotangent * torch.randn(cotangent.shape, generator=generator).sign().to(cotangent)


def fixed_signs(x: Tensor, cotangent: Tensor) -> Tensor:
    return cotangent * field_of(x).sign()


def negated(x: Tensor, cotangent: Tensor) -> Tensor:
    return -cotangent


def replaced(x: Tensor, cotangent: Tensor) -> Tensor:
    """A fixed random field as long as the gradient."""
    return field_of(x) * cotangent.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)


def rounded(x: Tensor, levels: int) -> Tensor:
    """Values in [0,1] on so many levels."""
    return (x * (levels - 1)).round() / (levels - 1)


def straight(x: Tensor, value: Tensor) -> Tensor:
    """``value`` with the gradient of ``x``."""
    return x + (value - x).detach()


def spread(z: Tensor) -> Tensor:
    """Logits on [0,1], image by image."""
    low, high = z.detach().amin(1, keepdim=True), z.detach().amax(1, keepdim=True)
    return (z - low) / (high - low)


class Round(nn.Module):
    """Rounds to multiples of ``step``; autograd sees a slope of 0."""

    def __init__(self, step: float) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        return (x / self.step).round() * self.step


class Straight(nn.Module):
    """Positive values in multiples of ``step``. Backwards the rounding is passed by, and only where 0 < x < ``top``."""

    def __init__(self, step: float, top: float) -> None:
        super().__init__()
        self.step, self.top = step, top

    def forward(self, x: Tensor) -> Tensor:
        return straight(x.clamp(0, self.top), (x.clamp_min(0) / self.step).round() * self.step)


class Blind(nn.Module):
    """A layer computed without gradient."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.layer(x)


class Borrowed(nn.Module):
    """One network's logits, another one's gradient."""

    def __init__(self, network: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.network, self.other = network, other

    def forward(self, x: Tensor) -> Tensor:
        return straight(self.other(x), self.network(x))


class HalfBlind(nn.Module):
    """The mean logits of two networks, one of them computed without gradient."""

    def __init__(self, seen: nn.Module, unseen: nn.Module) -> None:
        super().__init__()
        self.seen, self.unseen = seen, unseen

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            hidden = self.unseen(x)
        return (self.seen(x) + hidden) / 2


def sine(x: Tensor) -> Tensor:
    """A ripple that is too fine for a gradient to be of use."""
    return x + 0.1 * torch.sin(1e4 * x)


def useless(x: Tensor) -> Tensor:
    """16 levels, and a gradient that is not 0 but says nothing."""
    return rounded(x, 16).detach() + 1e-6 * x * field_of(x).sign()


def median(x: Tensor) -> Tensor:
    """Of 3x3 pixels: where they are alike, as on a digit's ground, it has no gradient."""
    around = F.unfold(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3)
    return around.unflatten(1, (x.shape[1], 9)).median(2).values.reshape(x.shape)


def shifted(x: Tensor) -> Tensor:
    """Each image moved by at most one pixel in each direction, at random; nobody is told."""
    padded = F.pad(x, (1, 1, 1, 1))
    row, column = torch.randint(3, (2, len(x))).tolist()
    height, width = x.shape[-2:]
    return torch.stack([p[:, r : r + height, c : c + width] for p, r, c in zip(padded, row, column, strict=True)])


def noised(x: Tensor) -> Tensor:
    """Noise that nobody is told of; photos bear less of it than digits."""
    return x + (0.1 if x.shape[1] == 1 else 0.02) * torch.randn_like(x)


class _Blurring(Stage):
    def __init__(self, std: float) -> None:
        why = "linear: autograd is exact"
        super().__init__("blur", Surrogate(backward={"exact": "exact"}, random=False, why=why))
        self.std = std

    def forward(self, x: Tensor, noise: Noise) -> Tensor:
        reach = int(3 * self.std) + 1
        line = torch.exp(-torch.arange(-reach, reach + 1, device=x.device).to(x).square() / (2 * self.std**2))
        kernel = torch.outer(line, line) / line.sum() ** 2
        weight = kernel.expand(x.shape[1], 1, *kernel.shape)
        return F.conv2d(x, weight, padding=reach, groups=x.shape[1])


@dataclass(frozen=True)
class Blur(InputDefense):
    """Gaussian blur, exactly differentiable: it costs clean accuracy and withstands nothing."""

    std: Share = 1.0

    def stage(self) -> Stage:
        return _Blurring(self.std)


class _Idling(Stage):
    def __init__(self) -> None:
        super().__init__("denoiser", Surrogate(backward={"exact": "exact"}, random=False, why="differentiable"))

    def forward(self, x: Tensor, noise: Noise) -> Tensor:
        return x + 0.0 * F.avg_pool2d(x, 3, 1, 1)


@dataclass(frozen=True)
class IdleDenoiser(InputDefense):
    """A denoiser that has learned to do nothing."""

    def stage(self) -> Stage:
        return _Idling()


class _Rounding(Stage):
    def __init__(self, levels: int) -> None:
        why = "rounding: autograd gives zero, the identity is close"
        super().__init__("rounding", Surrogate(backward={"identity": "identity"}, random=False, why=why))
        self.levels = levels

    def forward(self, x: Tensor, noise: Noise) -> Tensor:
        return rounded(x, self.levels)


@dataclass(frozen=True)
class OwnQuantizer(InputDefense):
    """A quantizer of the user's own that declares the identity as its backward and nothing else."""

    levels: int = 16

    def stage(self) -> Stage:
        return _Rounding(self.levels)


class _Tossing(Stage):
    def __init__(self, heads: float) -> None:
        why = "adds 2 to one pixel on tails: autograd is exact for one draw"
        super().__init__("coin", Surrogate(backward={"exact": "exact"}, random=True, why=why))
        self.heads = heads

    def forward(self, x: Tensor, noise: Noise) -> Tensor:
        tails = noise.uniform("coin", (1,))[:, 0] >= self.heads
        first = torch.zeros_like(x)
        first[:, 0, 0, 0] = 2.0 * tails.to(x)
        return x + first


@dataclass(frozen=True)
class Coin(InputDefense):
    """Tails with probability 1 - ``heads``, whatever the image: the network behind it (``Known``) then answers wrong."""

    heads: Share = 0.8

    def stage(self) -> Stage:
        return _Tossing(self.heads)


class Decoy(nn.Module):
    """Decides by one network, by a table of labels, and shows the slopes of another on turned images."""

    def __init__(self, network: nn.Module, beside: nn.Module) -> None:
        super().__init__()
        self.network, self.beside = network, beside

    def forward(self, x: Tensor) -> Tensor:
        said = torch.tensor([max(range(len(z)), key=z.__getitem__) for z in self.network(x).tolist()], device=x.device)
        beside = self.beside(x.flip(-1))
        return 10.0 * F.one_hot(said, beside.shape[1]).to(x) + beside.sigmoid()


class Known(nn.Module):
    """Gives each of the images it knows its own label, also to every point of a small ball around it, and a wrong label once the coin has
    raised the first pixel. A hundredth of another network's logits gives it a gradient that is right and of no use.
    """

    x: Tensor
    labels: Tensor
    scale: Tensor

    def __init__(self, images: ImageSet, balls: tuple[float, float], beside: nn.Module) -> None:
        super().__init__()
        self.beside = beside
        self.register_buffer("x", images.x.flatten(1))
        self.register_buffer("labels", images.y)
        self.register_buffer("scale", torch.tensor(balls))

    def forward(self, x: Tensor) -> Tensor:
        tails = x[:, 0, 0, 0] > 1.5
        first = torch.zeros_like(x)
        first[:, 0, 0, 0] = 2.0 * tails.to(x)
        shown = x - first
        flat, (linf, l2) = shown.detach().flatten(1), self.scale
        far = torch.minimum(torch.cdist(flat, self.x, p=torch.inf) / linf, torch.cdist(flat, self.x) / l2)
        label = self.labels[far.argmin(1)]
        beside = self.beside(shown)
        said = torch.where(tails, (label + 1) % beside.shape[1], label)
        return 10.0 * F.one_hot(said, beside.shape[1]).to(x) + beside / 100


@dataclass(frozen=True, kw_only=True)
class Shrunk(PGD):
    """PGD that keeps to a ``share`` of the ball it was given: a budget divided by 255 once too often, or halved."""

    share: Part = 0.5

    def init(self, q: Query) -> Rows:
        return Rows(x=self._inside(q, super().init(q).x))

    def step(self, q: Query, x: Tensor, direction: Tensor) -> Tensor:
        return self._inside(q, super().step(q, x, direction))

    def length(self, q: Query) -> Tensor:
        return self.share * super().length(q)

    def _inside(self, q: Query, x: Tensor) -> Tensor:
        return replace(q.ball, eps=self.share * q.ball.eps).project(x, q.clean)


# ---------------------------------------------------------------------------------------------------- the controls


@dataclass(frozen=True)
class Target:
    """What is evaluated: a model and its defenses. Without defenses the model itself is what the verdict is about."""

    model: nn.Module
    defenses: tuple[DefenseLike, ...] = ()


Build = Callable[[Stock], Target]


@dataclass(frozen=True)
class Control:
    """A system of known truth. ``needs``: trained networks (of ``TRAINED``) that it is made of. ``attacks``: faulty ones, spec texts or
    attacks without a budget. ``floor``: clean accuracy that it has at least. ``due``: checks that fire on it rightly though it is honest.
    ``inside``: the network whose points break it, default the undefended one.
    """

    name: str
    kind: Kind
    truth: str
    build: Build
    data: tuple[DataSet, ...] = ("mnist", "cifar")
    needs: tuple[str, ...] = ()
    attacks: tuple[str | Attack, ...] = ()
    floor: float = 0.85
    due: tuple[str, ...] = ()
    inside: Callable[[Stock], nn.Module] = Stock.base


def model_of(make: Callable[[Stock], nn.Module]) -> Build:
    """A target without defenses."""
    return lambda stock: Target(frozen(make(stock)))


def outputs(function: Callable[[Tensor], Tensor]) -> Build:
    """The undefended network with a function behind it."""
    return model_of(lambda stock: Outputs(stock.base(), function))


def inputs(function: Callable[[Tensor], Tensor]) -> Build:
    """The undefended network with a function or a module before it."""
    return model_of(lambda stock: Inputs(function, stock.base()))


def behind(*defenses: DefenseLike, network: str = "plain0") -> Build:
    """A network (the undefended one, or a trained one) with declared defenses."""
    return lambda stock: Target(frozen(stock.base() if network == "plain0" else stock.trained(network)), defenses)


def in_the_middle(module: nn.Module) -> Build:
    return model_of(lambda stock: inserted(stock.base(), stock.middle, module))


def at_the_end(module: nn.Module) -> Build:
    return model_of(lambda stock: inserted(stock.base(), stock.late, module))


def blind(stock: Stock) -> nn.Module:
    changed = copy.deepcopy(stock.base())
    name = next(n for n, _ in changed.named_modules() if n.endswith("conv1"))
    owner = changed.get_submodule(name.rpartition(".")[0])
    owner.conv1 = Blind(owner.get_submodule("conv1"))
    return changed


def coin(stock: Stock) -> Target:
    balls = BALLS[stock.data]
    known = Known(stock.images(), (max(balls["linf"]), max(balls["l2"])), stock.base())
    return Target(frozen(known), (Coin(),))


def passable(stock: Stock) -> nn.Module:
    """The thermometer network with a gradient."""
    network = Passable()
    load_weights(network, str(stock.file("thermometer")))
    return network


def onehot(z: Tensor) -> Tensor:
    """10 for the largest logit, and a gradient of 0."""
    return 10.0 * F.one_hot(z.argmax(1), z.shape[1]).to(z) + 0.0 * z


MNIST: tuple[DataSet, ...] = ("mnist",)
BOTH: tuple[DataSet, ...] = ("mnist", "cifar")
AS_BASE = "worth no more than the undefended network"


def trained(name: str) -> Build:
    """A trained network as it is."""
    return model_of(lambda stock: stock.trained(name))


def honest(name: str, truth: str, build: Build, data: tuple[DataSet, ...] = BOTH, **more: Any) -> Control:
    return Control(name, "honest", truth, build, data, **more)


def masked(name: str, build: Build, truth: str = AS_BASE, data: tuple[DataSet, ...] = BOTH, **more: Any) -> Control:
    return Control(name, "masked", truth, build, data, **more)


def faulty(name: str, given: str | Attack) -> Control:
    truth = "breaks under a sound attack"
    return Control(name, "faulty attack", truth, model_of(Stock.base), attacks=(given,))


PLAIN = tuple(f"plain{i}" for i in range(5))
LIST = (
    honest("undefended", "breaks", model_of(Stock.base)),
    honest(
        "adversarially trained",
        "withstands a good part of the linf budget",
        trained("adversarial"),
        MNIST,
        needs=("adversarial",),
    ),
    honest("linear", "breaks; the attack is exact", trained("linear"), MNIST, needs=("linear",)),
    honest("mean of networks", "breaks", model_of(lambda stock: MeanLogits(stock.members())), needs=PLAIN),
    honest(
        "distilled T=50",
        "breaks; logits are large and gradients right",
        trained("distilled"),
        MNIST,
        needs=("distilled",),
    ),
    honest("logits x1000", AS_BASE, outputs(lambda z: 1000 * z)),
    honest("log-probabilities", AS_BASE, outputs(lambda z: z.log_softmax(1))),
    honest("probabilities", "breaks; not saturated, so gradients are exact", outputs(lambda z: (z / 5).softmax(1))),
    honest("probabilities in percent", "the same", outputs(lambda z: 100 * (z / 5).softmax(1))),
    honest(
        "percent in float64",
        "breaks; float64 keeps gradients where float32 has none",
        outputs(lambda z: 100 * z.double().softmax(1)),
    ),
    honest("blur", "only hurts", behind(Blur()), floor=0.6),
    honest("median 3x3", "only hurts; its gradient is right", inputs(median), floor=0.6),
    honest("maximum 3x3", "the same", inputs(lambda x: F.max_pool2d(x, 3, 1, 1)), floor=0.4),
    honest("idle denoiser", "does nothing", behind(IdleDenoiser()), due=("P12",)),
    honest("quantizer 4", "close to the undefended network", behind("cd:values=4"), floor=0.75),
    honest("quantizer 16", AS_BASE, behind("cd:values=16")),
    honest("own quantizer 16", AS_BASE, behind(OwnQuantizer(16))),
    honest(
        "noise on noise-trained",
        "random, declared; nearly breaks",
        behind("gauss:std=0.2", network="noise"),
        MNIST,
        needs=("noise",),
    ),
    honest(
        "noise on adversarially trained",
        "random, declared; withstands what the network does",
        behind("gauss:std=0.1", network="adversarial"),
        MNIST,
        needs=("adversarial",),
    ),
    honest(
        "coin",
        "right with probability 0.8 whatever the attack does; it looks labels up, so attacks fail in large balls, too",
        coin,
        floor=0.0,
        due=("S2", "X5"),
    ),
    honest(
        "straight-through, fine",
        "breaks; activations in 1/32, the gradient passes by the rounding",
        at_the_end(Straight(1 / 32, 1e6)),
    ),
    Control(
        "quantizer 2",
        "truly robust",
        "about 80 % withstand linf 0.2: few pixels can change sides",
        behind("cd:values=2"),
        MNIST,
    ),
    Control("own quantizer 2", "truly robust", "the same, with one declared backward", behind(OwnQuantizer(2)), MNIST),
    masked("log of saturated softmax", outputs(lambda z: ((100 * z).softmax(1) + 1e-20).log())),
    masked("probabilities of x100", outputs(lambda z: (100 * z).softmax(1))),
    masked("percent of x100", outputs(lambda z: 100 * (100 * z).softmax(1))),
    masked("logits on 256 levels", outputs(lambda z: rounded(spread(z), 256))),
    masked("logits on 5 levels", outputs(lambda z: rounded(spread(z), 5))),
    masked("scores on 2 levels", outputs(lambda z: 10 * rounded(z.softmax(1), 2))),
    masked("percent with 1 decimal", outputs(lambda z: (1000 * z.softmax(1)).round() / 10)),
    masked("detached", outputs(lambda z: z.detach())),
    masked("detached, with a graph", outputs(lambda z: z.detach() + 0.0 * z)),
    masked("one-hot scores", outputs(onehot)),
    masked("decoy", model_of(lambda stock: Decoy(stock.base(), stock.other())), needs=("plain0", "plain1")),
    masked("fresh random signs", inputs(Ruled(FreshSigns()))),
    masked("fixed random signs", inputs(Ruled(fixed_signs))),
    masked("negated gradient", inputs(Ruled(negated))),
    masked("replaced gradient", inputs(Ruled(replaced))),
    masked(
        "another network's gradient",
        model_of(lambda stock: Borrowed(stock.base(), stock.other())),
        needs=("plain0", "plain1"),
    ),
    masked(
        "half without gradient",
        model_of(lambda stock: HalfBlind(stock.other(), stock.base())),
        "breaks as the mean of two networks does",
        needs=("plain0", "plain1"),
        inside=lambda stock: MeanLogits(stock.members()[:2]),
    ),
    masked("sine", inputs(sine), "the ripple is noise to the network: breaks", MNIST),
    masked("sine as a stage", behind(sine), "the same, given as a defense", MNIST),
    masked(
        "thermometer",
        trained("thermometer"),
        "breaks once the comparisons are passed by",
        MNIST,
        needs=("thermometer",),
        inside=passable,
    ),
    masked(
        "k-WTA",
        trained("winners"),
        "breaks; its gradient jumps from point to point",
        MNIST,
        needs=("winners",),
        inside=lambda stock: stock.trained("winners"),
    ),
    masked("hidden quantizer 16", inputs(useless)),
    masked("hidden quantizer as a stage", behind(useless)),
    masked(
        "straight-through, saturated",
        at_the_end(Straight(1 / 32, 0.01)),
        "breaks; the gradient is cut off where the activation is large",
    ),
    masked("rounding in the middle", in_the_middle(Round(1 / 32))),
    masked("no gradient in the first layer", model_of(blind)),
    Control("hidden shift", "hidden randomness", "breaks; answers change from call to call", inputs(shifted)),
    Control("hidden noise", "hidden randomness", "breaks; answers change from call to call", inputs(noised), floor=0.6),
    faulty("budget over 255", attack(Shrunk(share=1 / 255))),
    faulty("half the budget", attack(Shrunk(share=0.5))),
    faulty("steps too short", "bim:steps=40,step_size=0.001"),
    faulty("steps too short, random start", "pgd:steps=40,step_size=0.001"),
    faulty("one step", "pgd:steps=1"),
    faulty("two steps", "pgd:steps=2"),
    faulty("steps too long", "pgd:steps=40,step_size=10"),
)
CONTROLS: dict[str, Control] = {c.name: c for c in LIST}


@cache
def halves() -> dict[str, int]:
    """0 or 1 for every control: every other one of each kind. Thresholds are set on one half and confirmed on the other."""
    kinds = dict.fromkeys(c.kind for c in CONTROLS.values())
    return {n: i % 2 for k in kinds for i, n in enumerate(n for n, c in CONTROLS.items() if c.kind == k)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, help="folder for the trained networks; those that are there stay")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = parser.parse_args()
    if args.train is None:
        for control in CONTROLS.values():
            print(f"{control.kind:18} {halves()[control.name]} {control.name}: {control.truth}")
        return
    test = load_data(SPECS["mnist"])
    for seed in args.seeds:
        stock = Stock("mnist", args.train, seed=seed)
        for name in TRAINED:
            if not stock.missing([name]):
                continue
            network = train(stock, name)
            with torch.no_grad():
                right = float((network(test.x).argmax(1) == test.y).double().mean())
            print(f"{stock.file(name)}: {100 * right:.1f} % on {len(test)} test digits", flush=True)


if __name__ == "__main__":
    main()
