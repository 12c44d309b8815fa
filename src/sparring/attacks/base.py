"""``Attack``: a method with its ball, restarts and goal; what a spec text names and what users run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sparring.attacks import engine
from sparring.attacks.engine import Batch, Outcome, Stop
from sparring.core.errors import SparringError
from sparring.core.geometry import Norm
from sparring.core.noise import Noise, image_keys
from sparring.core.query import Reparametrisation
from sparring.core.registry import ATTACKS
from sparring.core.spec import build, check_fields, check_finite, parse, show, spec_text
from sparring.core.victim import Access, Goal, System, Victim

LIBRARIES = ("foolbox", "torchattacks")  # whose attacks a spec may name: attacks/foreign.py
TargetChoice = Literal["random", "next", "least"] | int


@dataclass(frozen=True)
class Setting:
    """The fields every attack spec shares, whatever the method.

    norm, eps (pixel units of [0,1]; None: the data's default budget, unbounded for minimum-norm methods), restarts,
    targets (aim at this many runner-up classes in turn, success still untargeted), target (a targeted goal:
    "random", "next", "least" likely, or a class number).
    """

    norm: Norm | None = None
    eps: float | None = None
    restarts: int = 1
    targets: int = 0
    target: TargetChoice | None = None


@dataclass(frozen=True)
class Attack:
    """A method in a setting. Frozen; ``dataclasses.replace`` to vary. ``str()`` is its canonical spec text."""

    method: Any  # a Method; its own fields are read by name
    setting: Setting = Setting()

    def __post_init__(self) -> None:
        check_finite(self.name, self.method)
        check_finite(self.name, self.setting)

    @property
    def norm(self) -> Norm:
        return self.setting.norm or self.method.norms[0]

    @property
    def name(self) -> str:
        """The method's registered name."""
        return type(self.method).spec_name

    def __str__(self) -> str:
        parts = [p for p in (spec_text(self.method).partition(":")[2],) if p]
        for field, default in (
            ("norm", self.method.norms[0]),
            ("eps", None),
            ("restarts", 1),
            ("targets", 0),
            ("target", None),
        ):
            value = getattr(self.setting, field)
            if value is not None and value != default:
                parts.append(f"{field}={show(value)}")
        return f"{self.name}:{','.join(parts)}" if parts else self.name

    @property
    def budget(self) -> float:
        """eps: the setting's, else the method's own (one pixel), else infinite."""
        eps = self.setting.eps if self.setting.eps is not None else getattr(self.method, "own_eps", None)
        return math.inf if eps is None else float(eps)

    @property
    def bounded(self) -> bool:
        """Has the attack the ball it needs?"""
        return self.budget < math.inf or self.method.goal is Goal.MINIMAL or self.method.needs is Access.NONE

    def cost(self, victim: Victim, classes: int, values: int) -> tuple[int, int]:
        """(forwards, backwards) of an image of so many ``values`` that survives everything; what a dry run prints."""
        targeted = bool(self.setting.targets) or self.setting.target is not None
        forwards, backwards = engine.cost_per_image(self.method, victim, self.jobs(classes), targeted, values)
        return forwards + (victim.score_cost if self.setting.targets else 0), backwards

    def with_eps(self, eps: float) -> Attack:
        """The same attack at another budget."""
        return replace(self, setting=replace(self.setting, eps=eps))

    def jobs(self, classes: int) -> int:
        """Jobs per image: restarts x targets (at most classes - 1)."""
        return self.setting.restarts * max(1, min(self.setting.targets, classes - 1))

    def on(
        self,
        victim: Victim,
        x: Tensor,
        y: Tensor,
        keys: Tensor,
        *,
        stop: Stop = "success",
        slots: int = 64,
        seed: int = 0,
        mask: Tensor | None = None,
        reparam: Reparametrisation | None = None,
        progress: Callable[[int], None] | None = None,
        eps: Tensor | None = None,
        queries: int | None = None,
        start: Tensor | None = None,
    ) -> Outcome:
        """Run against a victim. x (N,C,H,W) in [0,1], y (N,), keys (N,) noise keys; eps (N,) overrides the setting.

        ``queries``: forwards an image may spend. ``start`` (N,C,H,W): points that decision attacks begin at.
        """
        if victim.access < self.method.needs:
            raise SparringError(
                f"{self.name} needs {self.method.needs.name} access, this seat grants {victim.access.name}"
            )
        if eps is None:
            if not self.bounded:
                raise SparringError(f"{self.name}: eps is missing; write {self.name}:eps=8/255")
            eps = torch.full((len(x),), self.budget, device=x.device)
        targets, must_hit, extra = self._targets(victim, x, y, keys, seed)
        batch = Batch(x, y, keys, self.norm, eps.to(x.dtype), targets, must_hit, mask, start)
        outcome = engine.run(
            self.method,
            victim,
            batch,
            restarts=self.setting.restarts,
            stop=stop,
            slots=slots,
            seed=seed,
            reparam=reparam,
            queries=queries,
            progress=progress,
        )
        return replace(outcome, forwards=outcome.forwards + extra)

    def run(
        self,
        model: nn.Module | System | Victim,
        x: Tensor,
        y: Tensor,
        *,
        seed: int = 0,
        slots: int = 64,
        stop: Stop = "success",
        ids: list[str] | None = None,
        mask: Tensor | None = None,
        queries: int | None = None,
        start: Tensor | None = None,
    ) -> Outcome:
        """Attack ``model`` (images in [0,1] -> logits) on images x (N,C,H,W) in [0,1] with true labels y (N,).

        Returns an ``Outcome``: ``.x`` the adversarial images, ``.success``, ``.distance``, ``.forwards`` per image.
        Parameters, buffers, modes, ``.grad`` and the inputs are left untouched.
        Raises SparringError for inputs outside [0,1], NaN, integer images, or a model in train mode.
        """
        if not torch.is_floating_point(x) or x.dim() != 4:
            raise SparringError(f"x must be a float tensor (N,C,H,W) in [0,1], got {tuple(x.shape)} {x.dtype}")
        if len(x) and not (bool(torch.isfinite(x).all()) and x.min() >= -1e-6 and x.max() <= 1 + 1e-6):
            raise SparringError(
                f"x must be pixels in [0,1], got {x.min():.3g}..{x.max():.3g}; move mean/std into the model"
            )
        if len(y) != len(x):
            raise SparringError(f"{len(x)} images but {len(y)} labels")
        if isinstance(model, nn.Module) and any(m.training for m in model.modules()):
            raise SparringError("the model is in train mode; call model.eval() first")
        if not isinstance(model, Victim):
            system = model if isinstance(model, System) else System(network=model)
            model = Victim((system,), Access.GRADIENT)
        keys = image_keys(ids if ids is not None else [str(i) for i in range(len(x))]).to(x.device)
        x, y = x.clamp(0, 1), y.to(x.device).long()
        return self.on(model, x, y, keys, seed=seed, slots=slots, stop=stop, mask=mask, queries=queries, start=start)

    def _targets(
        self, victim: Victim, x: Tensor, y: Tensor, keys: Tensor, seed: int
    ) -> tuple[Tensor | None, bool, int]:
        """((N,T) classes or None, must they be hit?, extra forwards per image)."""
        choice, count = self.setting.target, self.setting.targets
        if (choice is None and not count) or not len(x):
            return None, choice is not None, 0
        if choice is not None and count:
            raise SparringError(
                f"{self.name}: target= (a targeted goal) and targets= (a multi-target untargeted attack) exclude each other"
            )
        scores = victim.scores(x, Noise.of(seed, "targets", keys))
        classes, cost = scores.shape[1], victim.score_cost
        others = scores.scatter(1, y[:, None], -torch.inf)
        if choice is None:
            return others.topk(min(count, classes - 1), 1).indices, False, cost
        if isinstance(choice, int):
            if not 0 <= choice < classes:
                raise SparringError(f"{self.name}: target={choice} is not one of the {classes} classes")
            target = torch.full_like(y, choice)
        elif choice == "least":
            target = scores.scatter(1, y[:, None], torch.inf).argmin(1)
        elif choice == "next":
            target = (y + 1) % classes
        else:
            shift = Noise.of(seed, "targets", keys).integers("class", classes - 1, (1,))[:, 0]
            target = (y + 1 + shift) % classes
        return target[:, None], True, cost


_SHARED = {
    "norm": (Norm | None, None),
    "eps": (float | None, None),
    "restarts": (int, 1),
    "targets": (int, 0),
    "target": (TargetChoice | None, None),
}


def attack(text: str | Attack) -> Attack:
    """An ``Attack`` from spec text: ``attack("pgd:eps=8/255,steps=40,restarts=5")``, or one of another library:
    ``attack("torchattacks.PGD:eps=8/255,steps=40")``.
    """
    if isinstance(text, Attack):
        return text
    spec = parse(text)
    if spec.name.partition(".")[0] in LIBRARIES:
        from sparring.attacks.foreign import foreign_attack  # which imports this module

        return foreign_attack(spec)
    ATTACKS[spec.name]  # an unknown name is refused before its fields are
    own = {k: v for k, v in spec.values.items() if k not in _SHARED}
    shared = check_fields(spec.name, {k: v for k, v in spec.values.items() if k in _SHARED}, _SHARED)
    method = build(ATTACKS, replace(spec, values=own))
    result = getattr(method, "wrap", Attack)(method, Setting(**shared))
    if result.norm not in method.norms:
        raise SparringError(f"{spec.name}: norm={result.norm} is not supported (takes {', '.join(method.norms)})")
    if (result.setting.eps or 0) < 0 or result.setting.restarts < 1 or result.setting.targets < 0:
        raise SparringError(f"{spec.name}: eps and targets must not be negative and restarts must be at least 1")
    return result
