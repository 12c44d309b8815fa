"""Our attacks as those of other libraries: called as theirs are, and answering with what theirs answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, overload

import numpy as np
import torch
from torch import Tensor, nn

from sparring.attacks.attack import Attack, attack
from sparring.core.errors import SparringError
from sparring.core.extras import need
from sparring.core.geometry import Ball, Norm
from sparring.core.victim import Goal

Network = Callable[[Tensor], Tensor]


class FoolboxModel(Protocol):
    """What we ask of a model of foolbox."""

    @property
    def bounds(self) -> tuple[float, float]: ...
    def __call__(self, inputs: Tensor, /) -> Tensor: ...


class Preprocessor(Protocol):
    """What we ask of ART's preprocessing."""

    apply_predict: bool

    def __call__(self, x: np.ndarray, /) -> tuple[np.ndarray, object]: ...


class Estimator(Protocol):
    """What we ask of ART's PyTorchClassifier."""

    preprocessing_operations: Sequence[Preprocessor]

    @property
    def model(self) -> nn.Module: ...
    @property
    def input_shape(self) -> tuple[int, ...]: ...
    @property
    def clip_values(self) -> tuple[np.ndarray, np.ndarray] | None: ...


@dataclass(frozen=True)
class Box:
    """The box [low, high] of another library's images, which are [0,1] here."""

    low: float = 0.0
    high: float = 1.0

    @property
    def width(self) -> float:
        return self.high - self.low

    def ours(self, x: Tensor) -> Tensor:
        """Images of this box in [0,1]."""
        return x if self == Box() else (x - self.low) / self.width

    def theirs(self, x: Tensor) -> Tensor:
        """Images of [0,1] in this box."""
        return x if self == Box() else x * self.width + self.low

    def budget(self, eps: float, norm: Norm) -> float:
        """A radius in this box as one in [0,1]; l0 counts pixels in both."""
        return eps if norm == "l0" else eps / self.width

    def network(self, network: Network) -> Network:
        """A network of images in this box, or itself, as one of images in [0,1]."""
        return network if self == Box() else lambda x: network(self.theirs(x))


class FoolboxAttack:
    """One of our attacks as foolbox's are: ``attack(fmodel, inputs, criterion, epsilons=...)``."""

    def __init__(self, ours: Attack, seed: int) -> None:
        self.ours, self.seed = ours, seed

    def __repr__(self) -> str:
        return f"as_foolbox({str(self.ours)!r})"

    @property
    def distance(self):
        """Foolbox's distance of the attack's norm."""
        distances = need("foolbox", "peers").distances
        return {"linf": distances.linf, "l2": distances.l2, "l1": distances.l1, "l0": distances.l0}[self.ours.norm]

    def repeat(self, times: int) -> FoolboxAttack:
        """The same with ``times`` as many restarts."""
        setting = self.ours.setting
        return FoolboxAttack(replace(self.ours, setting=replace(setting, restarts=times * setting.restarts)), self.seed)

    @overload
    def __call__(
        self, model: FoolboxModel, inputs: Tensor, criterion: object, *, epsilons: Sequence[float | None]
    ) -> tuple[list[Tensor], list[Tensor], Tensor]: ...
    @overload
    def __call__(
        self, model: FoolboxModel, inputs: Tensor, criterion: object, *, epsilons: float | None
    ) -> tuple[Tensor, Tensor, Tensor]: ...
    def __call__(
        self, model: FoolboxModel, inputs: object, criterion: object, *, epsilons: Sequence[float | None] | float | None
    ):
        """(raw points, points clipped to each ball, which of them fool the model), as foolbox has them: a list of points and bool (K,N) for K
        epsilons, points and bool (N,) for one. inputs (N,C,H,W) in the model's bounds, tensors of PyTorch, bare or eagerpy's; criterion:
        true labels (N,) or Misclassification. None: the attack's own budget.

        Raises SparringError for another criterion or another framework.
        """
        foolbox, eagerpy = need("foolbox", "peers"), need("eagerpy", "peers")
        tensor, restore = eagerpy.astensor_(inputs)
        x = _torch(tensor.raw)
        goal = need("foolbox.attacks.base", "peers").get_criterion(criterion)
        if isinstance(goal, foolbox.TargetedMisclassification):
            raise SparringError(
                f"{self.ours.name}: a targeted goal is target=CLASS in the spec; give the true labels here"
            )
        if not isinstance(goal, foolbox.Misclassification):
            raise SparringError(
                f"{self.ours.name}: {type(goal).__name__} is no criterion of ours; give the true labels"
            )
        y = _torch(goal.labels.raw).long()
        box, norm = Box(*map(float, model.bounds)), self.ours.norm
        several = isinstance(epsilons, Sequence)
        asked = [None if e is None else box.budget(float(e), norm) for e in (epsilons if several else [epsilons])]
        raws, clipped = self._points(_Called(box.network(model)), box.ours(x), y, asked)
        raws, clipped = [box.theirs(p) for p in raws], [box.theirs(p) for p in clipped]
        with torch.no_grad():
            fooled = torch.stack([model(p).argmax(1) != y for p in clipped])
        points, inside = [restore(eagerpy.astensor(p)) for p in raws], [restore(eagerpy.astensor(p)) for p in clipped]
        if several:
            return points, inside, restore(eagerpy.astensor(fooled))
        return points[0], inside[0], restore(eagerpy.astensor(fooled[0]))

    def _points(
        self, network: nn.Module, x: Tensor, y: Tensor, budgets: Sequence[float | None]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Our points in [0,1], and the same in their balls: one run for each ball, or one for the nearest points, cut to each."""

        def points(ours: Attack) -> Tensor:
            return ours.run(network, x, y, seed=self.seed, prepare=False).x

        ours = self.ours
        balls = [ours.budget if eps is None else eps for eps in budgets]
        if ours.method.goal is not Goal.MINIMAL:
            raws = [points(ours if eps is None else ours.with_eps(eps)) for eps in budgets]
            return raws, raws
        nearest = points(replace(ours, setting=replace(ours.setting, eps=None)))
        radii = [torch.full((len(x),), eps, device=x.device, dtype=x.dtype) for eps in balls]
        return [nearest] * len(balls), [Ball(ours.norm, radius).project(nearest, x) for radius in radii]


class ArtAttack:
    """One of our attacks as ART's are: ``attack.generate(x, y)`` on arrays."""

    def __init__(self, network: Network, box: Box, ours: Attack, seed: int) -> None:
        self.network, self.box, self.ours, self.seed = network, box, ours, seed

    def __repr__(self) -> str:
        return f"as_art(..., {str(self.ours)!r})"

    def generate(self, x: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
        """Points (N,C,H,W) float32, in the box of the estimator, for images x (N,C,H,W) in it. y: true labels (N,) or one-hot (N,K); None: what the
        network says of the images, as in ART. Raises SparringError for what is none of that.
        """
        place = (
            next((p.device for p in self.network.parameters()), None) if isinstance(self.network, nn.Module) else None
        )
        images = self.box.ours(torch.as_tensor(np.asarray(x), dtype=torch.float32, device=place))
        network = self.box.network(self.network)
        if y is None:
            with torch.no_grad():
                labels = network(images).argmax(1)
        else:
            given = torch.as_tensor(np.asarray(y), device=place)
            labels = given.argmax(1) if given.dim() == 2 and given.shape[1] > 1 else given.reshape(-1).long()
        ours = self.ours
        if self.box != Box() and ours.budget < torch.inf:
            ours = ours.with_eps(self.box.budget(ours.budget, ours.norm))
        outcome = ours.run(
            network if isinstance(network, nn.Module) else _Called(network), images, labels, seed=self.seed
        )
        return self.box.theirs(outcome.x).cpu().numpy().astype(np.float32)


class _Called(nn.Module):
    """A function of images as a network. Its parameters are its own business."""

    def __init__(self, function: Network) -> None:
        super().__init__()
        self.function = function
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _torch(tensor: object) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise SparringError(f"inputs are of type {type(tensor).__name__}; our attacks take tensors of PyTorch")
    return tensor


def as_foolbox(spec: str | Attack, seed: int = 0) -> FoolboxAttack:
    """One of our attacks as a foolbox attack, usable as ``attack(fmodel, inputs, criterion, epsilons=...)``; the same points as
    ``sparring.attack(spec).run`` with that seed. Raises SparringError for a wrong spec, or where foolbox is not installed.
    """
    need("foolbox.attacks.base", "peers").AttackWithDistance.register(FoolboxAttack)
    return FoolboxAttack(attack(spec), seed)


def as_torchattacks(model: nn.Module, spec: str | Attack, seed: int = 0):  # a subclass of what is imported in it
    """One of our attacks as a torchattacks attack of ``model``, usable as ``atk(images, labels)``: points (N,C,H,W) on the model's device; the same
    points as ``sparring.attack(spec).run`` with that seed. Raises SparringError for a wrong spec, or where torchattacks is not installed.
    """
    ours = attack(spec)

    class TorchattacksAttack(need("torchattacks.attack", "peers").Attack):
        def __init__(self) -> None:
            super().__init__(ours.name, model)

        def __repr__(self) -> str:
            return f"as_torchattacks(..., {str(ours)!r})"

        def forward(self, inputs: Tensor, labels: Tensor) -> Tensor:
            """Images in [0,1]; where torchattacks normalizes, the network is given normalized ones."""
            network = self.model if self._normalization_applied is None else _Called(self.get_logits)
            x, y = inputs.detach().to(self.device), labels.detach().to(self.device)
            return ours.run(network, x, y, seed=seed).x

    return TorchattacksAttack()


def as_art(estimator: nn.Module | Estimator, spec: str | Attack, seed: int = 0) -> ArtAttack:
    """One of our attacks as an ART evasion attack, usable as ``attack.generate(x, y)`` on arrays. estimator: ART's PyTorchClassifier, or a network of
    images in [0,1], for which ART need not be installed. eps is in the estimator's units (``clip_values``). The same points as ``sparring.attack(spec).run`` with that
    seed. Raises SparringError for a wrong spec, and for an estimator that preprocesses or has no bounds.
    """
    if isinstance(estimator, nn.Module):
        return ArtAttack(estimator, Box(), attack(spec), seed)
    classifier = need("art.estimators.classification", "peers").PyTorchClassifier
    if not isinstance(estimator, classifier):
        raise SparringError(
            f"estimator is of type {type(estimator).__name__}; give a PyTorchClassifier or an nn.Module"
        )
    if estimator.clip_values is None:
        raise SparringError("the estimator has no clip_values; give PyTorchClassifier clip_values=(0, 1)")
    ramp = np.linspace(0, 1, int(np.prod(estimator.input_shape)), dtype=np.float32).reshape(1, *estimator.input_shape)
    for step in estimator.preprocessing_operations:  # ART standardizes by 0 and 1 where nothing is asked for
        if step.apply_predict and not np.array_equal(step(ramp)[0], ramp):
            raise SparringError(
                f"the estimator preprocesses its images ({type(step).__name__}); move that into the model"
            )
    low, high = (np.unique(bound) for bound in estimator.clip_values)
    if len(low) != 1 or len(high) != 1:
        raise SparringError("the estimator's clip_values differ between pixels; give two numbers")
    need("art.attacks", "peers").EvasionAttack.register(ArtAttack)
    estimator.model.eval()
    return ArtAttack(estimator.model, Box(float(low[0]), float(high[0])), attack(spec), seed)
