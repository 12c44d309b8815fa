"""Other libraries whose attacks a spec may name: where each keeps them, which norm they mean, and how one is called."""

from __future__ import annotations

import inspect
import random
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from types import ModuleType
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from sparring.core.errors import SparringError, one_line
from sparring.core.extras import need
from sparring.core.geometry import Norm
from sparring.core.registry import suggest

Option = bool | int | float | str | None


RATIO_CLASSES = 4
POWERS: Mapping[Norm, float] = {"linf": torch.inf, "l2": 2, "l1": 1, "l0": 0}


@dataclass(frozen=True)
class PeerQuestion:
    """What a library's attack is asked: a network of so many classes, images x (N,C,H,W) in [0,1], true labels y (N,), the ball (eps None: the
    nearest point) and the options of the library's own.
    """

    network: nn.Module
    classes: int
    x: Tensor
    y: Tensor
    norm: Norm
    eps: float | None
    options: Mapping[str, Option] = field(default_factory=dict)


class Library(ABC):
    """A library of attacks. ``module``: where they are. ``means``: the norm of those that take none. ``ours``: parameters that no spec may set, since
    the seat sets them; ``targeted`` is among them, for labels are true ones and a targeted attack would look for what is no error. ``ratio``: attacks
    whose difference-of-logits ratio sorts for ``RATIO_CLASSES`` classes; of fewer they fail.
    """

    name: ClassVar[str]
    module: ClassVar[str]
    means: ClassVar[Mapping[str, Norm]] = {}
    ours: ClassVar[tuple[str, ...]] = ("self", "model", "targeted", "norm", "kwargs", "args", "callback")
    ratio: ClassVar[tuple[str, ...]] = ()

    def attacks(self) -> ModuleType:
        """The module of its attacks. Raises SparringError where it is not installed."""
        return need(self.module, "peers")

    def attack(self, name: str) -> Callable[..., object]:
        """One of its attacks. Raises SparringError where there is none of that name."""
        entries = {n: v for n, v in vars(self.attacks()).items() if self.holds(v)}
        if name not in entries:
            raise SparringError(f"{self.name} has no attack {name!r}{suggest(name, entries)}")
        return entries[name]

    def holds(self, entry: object) -> bool:
        """Is this an attack of its module?"""
        return inspect.isclass(entry)

    def fields(self, name: str) -> list[str]:
        """The options of one of its attacks, by its own names."""
        return [p for p in inspect.signature(self.attack(name)).parameters if p not in self.ours]

    def budget(self, name: str) -> str | None:
        """The parameter that takes eps, or None: it looks for the nearest point."""
        return "eps" if "eps" in inspect.signature(self.attack(name)).parameters else None

    def norm(self, name: str) -> Norm | None:
        """The norm that one of its attacks means, or None: it is told one, or does not say."""
        return self.means.get(name)

    def given(self, name: str, question: PeerQuestion, spelled: Mapping[Norm, object]) -> dict[str, object]:
        """Keyword arguments of an attack: options, budget, how many classes there are, and the norm as the library spells it."""
        budget, parameters = self.budget(name), inspect.signature(self.attack(name)).parameters
        counts = {p: question.classes for p in ("n_classes", "num_classes") if p in parameters}  # 10 by default
        arguments: dict[str, object] = {**counts, **question.options}
        if budget and question.eps is not None:
            arguments[budget] = question.eps
        if "norm" in parameters:
            if question.norm not in spelled:
                raise SparringError(f"{self.name}.{name}: norm={question.norm} is none of its own")
            arguments["norm"] = spelled[question.norm]
        return arguments

    @abstractmethod
    def call(self, name: str, question: PeerQuestion) -> object:
        """What the attack returns."""

    def points(self, name: str, question: PeerQuestion, seed: int) -> Tensor:
        """Points (N,C,H,W) of an attack in the images' floats, wherever they lie. The global generators are seeded for it, and are then as before.
        Raises SparringError for what fails there, and for what is no float image of this shape.
        """
        x = question.x
        if name in self.ratio and question.classes < RATIO_CLASSES:
            question = replace(question, network=_Widened(question.network, RATIO_CLASSES - question.classes))
        try:
            with _generators(seed), torch.enable_grad():
                points = self.call(name, question)
        except SparringError:
            raise
        except Exception as error:
            raise SparringError(f"{self.name}.{name}: {one_line(error)}") from error
        if isinstance(points, np.ndarray):
            points = torch.as_tensor(points)
        if not isinstance(points, Tensor) or points.shape != x.shape or not points.is_floating_point():
            said = f"{tuple(points.shape)} {points.dtype}" if isinstance(points, Tensor) else type(points).__name__
            raise SparringError(
                f"{self.name}.{name} returned {said} for images {tuple(x.shape)} {x.dtype}; only float images of their shape can be judged"
            )
        return points.detach().to(x)


class _Widened(nn.Module):
    """A network (B,K) with more classes that are never said: so far below the others that no loss pulls to them."""

    def __init__(self, network: nn.Module, more: int) -> None:
        super().__init__()
        self.network, self.more = network, more
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        logits = self.network(x)
        low, high = logits.detach().aminmax(dim=1, keepdim=True)
        return torch.cat([logits, (low - 1000 * (1 + high - low)).expand(-1, self.more)], 1)


@contextmanager
def _generators(seed: int) -> Iterator[None]:
    """The global generators, which libraries draw from, seeded; afterwards as before."""
    numpy, python = np.random.get_state(), random.getstate()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy)
            random.setstate(python)


class Foolbox(Library):
    """https://github.com/bethgelab/foolbox: its second answer, clipped to the ball."""

    name = "foolbox"
    module = "foolbox.attacks"
    ours = (*Library.ours, "distance")

    def budget(self, name: str) -> str | None:
        return "epsilons"

    def norm(self, name: str) -> Norm | None:
        declared = inspect.getattr_static(self.attack(name), "distance", None)
        known = isinstance(declared, need("foolbox", "peers").distances.LpDistance)
        return next((norm for norm, power in POWERS.items() if known and power == declared.p), None)

    def call(self, name: str, question: PeerQuestion) -> object:
        distance = need("foolbox", "peers").distances.LpDistance(POWERS[question.norm])
        asked = {"distance": distance} if "distance" in inspect.signature(self.attack(name)).parameters else {}
        attack, base = vars(self.attacks())[name](**question.options, **asked), need("foolbox.attacks.base", "peers")
        if question.eps is None and isinstance(attack, base.FixedEpsilonAttack):
            raise SparringError(f"foolbox.{name} needs a ball; give one, as in foolbox.{name}:eps=8/255")
        model = need("foolbox", "peers").PyTorchModel(question.network, bounds=(0, 1), device=question.x.device)
        return attack(model, question.x, question.y, epsilons=question.eps)[1]


class Torchattacks(Library):
    """https://github.com/Harry24k/adversarial-attacks-pytorch."""

    name = "torchattacks"
    module = "torchattacks"
    means: ClassVar[Mapping[str, Norm]] = {
        **dict.fromkeys(("CW", "DeepFool", "PGDL2", "PGDRSL2"), "l2"),
        **dict.fromkeys(("EADEN", "EADL1"), "l1"),
        **dict.fromkeys(("JSMA", "OnePixel", "Pixle", "SparseFool"), "l0"),
    }
    ours = (*Library.ours, "device")
    ratio = ("APGD", "APGDT", "AutoAttack")

    def norm(self, name: str) -> Norm | None:
        """What has an eps and neither takes a norm nor is listed lives in linf."""
        if name in self.means or self.budget(name) is None:
            return self.means.get(name)
        return None if "norm" in inspect.signature(self.attack(name)).parameters else "linf"

    def call(self, name: str, question: PeerQuestion) -> object:
        given = self.given(name, question, {"linf": "Linf", "l2": "L2", "l1": "L1"})
        return vars(self.attacks())[name](question.network, **given)(question.x, question.y)


class Art(Library):
    """https://github.com/Trusted-AI/adversarial-robustness-toolbox: arrays of NumPy in, and out."""

    name = "art"
    module = "art.attacks.evasion"
    means: ClassVar[Mapping[str, Norm]] = {
        **dict.fromkeys(("BoundaryAttack", "CarliniL2Method", "CarliniWagnerASR", "DeepFool", "NewtonFool"), "l2"),
        **dict.fromkeys(("SignOPTAttack", "ZooAttack"), "l2"),
        "CarliniLInfMethod": "linf",
        "ElasticNet": "l1",
        **dict.fromkeys(("CarliniL0Method", "PixelAttack", "SaliencyMapMethod"), "l0"),
    }
    ours = (*Library.ours, "estimator", "classifier", "summary_writer", "verbose", "batch_size")
    ratio = ("AutoAttack", "AutoProjectedGradientDescent", "AutoConjugateGradient", "RescalingAutoConjugateGradient")

    def call(self, name: str, question: PeerQuestion) -> object:
        x, y, network = question.x, question.y, question.network
        estimator = need("art.estimators.classification", "peers").PyTorchClassifier(
            network,
            nn.CrossEntropyLoss(),
            tuple(x.shape[1:]),
            question.classes,
            clip_values=(0.0, 1.0),
            device_type="cpu" if x.device.type == "cpu" else "gpu",
        )
        given = self.given(name, question, {"linf": np.inf, "l2": 2, "l1": 1})
        own = {"verbose": False, "batch_size": len(x)}
        given |= {k: v for k, v in own.items() if k in inspect.signature(self.attack(name)).parameters}
        labels = nn.functional.one_hot(y, question.classes)  # of two classes ART takes plain labels for one output
        return vars(self.attacks())[name](estimator, **given).generate(x.cpu().numpy(), labels.cpu().numpy())


class AdvLib(Library):
    """https://github.com/jeromerony/adversarial-library: functions."""

    name = "adv_lib"
    module = "adv_lib.attacks"
    means: ClassVar[Mapping[str, Norm]] = {
        **dict.fromkeys(("alma", "carlini_wagner_l2", "ddn", "pdgd", "sdf", "str_attack"), "l2"),
        **dict.fromkeys(("carlini_wagner_linf", "pgd_linf"), "linf"),
        **dict.fromkeys(("fga", "sigma_zero", "vfga"), "l0"),
    }
    ours = (*Library.ours, "inputs", "images", "labels", "starting_points", "return_unsuccessful", "return_targets")
    ratio = ("apgd", "apgd_targeted")

    def attacks(self) -> ModuleType:
        if find_spec("adv_lib") is None:
            raise SparringError("adv_lib is not installed; run: pip install --no-deps adv-lib")
        if find_spec("visdom") is None:  # only draws, is imported all the same, and no longer builds
            sys.modules["visdom"] = ModuleType("visdom")
            try:
                return need(self.module, "peers")
            finally:
                del sys.modules["visdom"]
        return need(self.module, "peers")

    def holds(self, entry: object) -> bool:
        return inspect.isfunction(entry)

    def budget(self, name: str) -> str | None:
        """One without a default; others of these names are something else."""
        parameters = inspect.signature(self.attack(name)).parameters
        return next(
            (p for p in ("eps", "ε") if p in parameters and parameters[p].default is inspect.Parameter.empty), None
        )

    def call(self, name: str, question: PeerQuestion) -> object:
        given = self.given(name, question, POWERS)
        if "targeted" in inspect.signature(self.attack(name)).parameters:
            given["targeted"] = False
        return vars(self.attacks())[name](question.network, question.x, question.y, **given)


LIBRARIES: Mapping[str, Library] = {library.name: library for library in (Foolbox(), Torchattacks(), Art(), AdvLib())}
