"""Attacks of other libraries in our seats: ``torchattacks.PGD:eps=8/255,steps=40``, ``foolbox.L2DeepFoolAttack:norm=l2``.

The peer sees the seat's source as a plain network (with the surrogates, draws and access that the seat declares); its
points are judged like any others. The Law does not hold for them: their randomness and batching are their own.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sparring.attacks.base import Attack, Setting
from sparring.attacks.engine import Outcome
from sparring.core.errors import SparringError
from sparring.core.extras import need
from sparring.core.geometry import NORMS, Norm, distance, within
from sparring.core.losses import success_margin
from sparring.core.noise import Noise, word
from sparring.core.registry import suggest
from sparring.core.spec import Spec, convert, number, show
from sparring.core.victim import Access, Goal, Victim


@dataclass(frozen=True)
class Foreign:
    """A peer's attack: library, class name and constructor options. Needs gradients as far as we know."""

    needs: ClassVar = Access.GRADIENT
    norms: ClassVar = NORMS
    steps: ClassVar = 0
    spec_name: ClassVar = "foreign"
    library: str
    name: str
    options: tuple[tuple[str, Any], ...] = ()
    bounded: bool = field(default=True, repr=False)

    @property
    def goal(self) -> Goal:
        return Goal.BUDGET if self.bounded else Goal.MINIMAL

    def call(self, network: nn.Module, x: Tensor, y: Tensor, eps: float | None) -> Tensor:
        """The peer's points (N,C,H,W) for images x and labels y."""
        library = need(self.library, "peers")
        if self.library == "torchattacks":
            budget = {} if eps is None else {"eps": eps}
            return getattr(library, self.name)(network, **budget, **dict(self.options))(x, y)
        model = library.PyTorchModel(network, bounds=(0, 1), device=x.device)
        return getattr(library.attacks, self.name)(**dict(self.options))(model, x, y, epsilons=eps)[1]


class ForeignAttack(Attack):
    """A peer's attack in a setting; the same face as any ``Attack``."""

    def __str__(self) -> str:
        parts = [f"{k}={show(v)}" for k, v in self.method.options]
        parts += [f"norm={self.norm}"] + ([f"eps={show(self.budget)}"] if self.setting.eps is not None else [])
        return f"{self.method.library}.{self.method.name}:{','.join(parts)}"

    def cost(self, victim: Victim, classes: int, values: int) -> tuple[int, int]:
        """Unknown before it runs: one gradient a step, where it has steps."""
        steps = int(dict(self.method.options).get("steps", 1))
        return steps * victim.cost, steps * victim.cost

    def on(
        self,
        victim: Victim,
        x: Tensor,
        y: Tensor,
        keys: Tensor,
        *,
        seed: int = 0,
        slots: int = 64,
        progress: Callable[[int], None] | None = None,
        eps: Tensor | None = None,
        **ignored: Any,
    ) -> Outcome:
        """As ``Attack.on``, ``slots`` images at a time. ``stop``, masks, starts and query caps are not theirs to obey:
        given one they cannot keep (mask, start, queries, reparam, an eps that differs between images) this raises SparringError. ``forwards`` is
        the mean of a batch.
        """
        for name in ("mask", "start", "queries", "reparam"):
            if ignored.get(name) is not None:
                raise SparringError(f"{self}: an attack of another library cannot be given {name}=")
        budget = self.setting.eps
        if eps is not None and len(eps):
            if float(eps.min()) != float(eps.max()):
                raise SparringError(f"{self}: an attack of another library cannot be given an eps per image")
            budget = float(eps[0])
        points, calls = x.clone(), torch.zeros(len(x), dtype=torch.int64, device=x.device)
        for rows in torch.arange(len(x), device=x.device).split(slots):
            network = _Source(victim, seed).eval()
            with torch.enable_grad():
                found = self.method.call(network, x[rows].clone(), y[rows], budget)
            points[rows] = found.detach().to(x.dtype)
            calls[rows] = -(-network.calls // len(rows))
            if progress:
                progress(len(rows))
        with torch.no_grad():
            logits = victim.logits(points, Noise.of(seed, "attack", keys))
        margin = success_margin(logits, y, None)
        size = distance(points - x, self.norm)
        inside = within(points - x, torch.full_like(size, math.inf if budget is None else budget), self.norm)
        zero = torch.zeros_like(calls)
        won = (margin > 0) & inside
        hit = torch.where(won, 0, -1)
        return Outcome(points, won, margin, size, calls, calls, zero, hit, hit, zero, zero)


class _Source(nn.Module):
    """A victim as a differentiable network. Every call draws fresh noise; ``calls`` counts images."""

    def __init__(self, victim: Victim, seed: int) -> None:
        super().__init__()
        self.victim, self.seed, self.calls, self.asked = victim, seed, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        self.asked += 1
        self.calls += len(x) * self.victim.cost
        keys = torch.arange(len(x), device=x.device) + (word("foreign") % 2**31)
        return self.victim.graph(x, Noise.of(self.seed, "foreign", keys, self.asked))


def foreign_attack(spec: Spec) -> ForeignAttack:
    """An attack from ``LIBRARY.CLASS:norm=...,eps=...,option=value``; options are checked against the constructor."""
    library, _, name = spec.name.partition(".")
    module = need(library, "peers")
    home = module if library == "torchattacks" else module.attacks
    if not inspect.isclass(getattr(home, name, None)):
        known = [n for n in dir(home) if inspect.isclass(getattr(home, n))]
        raise SparringError(f"{library} has no attack {name!r}{suggest(name, known)}")
    known = inspect.signature(getattr(home, name).__init__).parameters
    options: list[tuple[str, Any]] = []
    norm: Norm = "linf"
    eps: float | None = None
    for key, text in spec.values.items():
        if key == "norm":
            norm = convert(spec.name, key, Norm, text)
        elif key == "eps":
            eps = convert(spec.name, key, float, text)
        elif key not in known:
            raise SparringError(f"{spec.name}: unknown field {key!r}{suggest(key, known)}")
        else:
            options.append((key, _value(text)))
    method = Foreign(library, name, tuple(sorted(options)), eps is not None)
    return ForeignAttack(method, replace(Setting(), norm=norm, eps=eps))


def _value(text: str) -> Any:
    if text.lower() in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[text.lower()]
    try:
        value = number(text)
    except ValueError:
        return text
    return int(value) if value.is_integer() and "." not in text and "/" not in text else value
