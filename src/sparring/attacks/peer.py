"""Attacks of other libraries in our seats: ``torchattacks.PGD:eps=8/255,steps=40``, ``foolbox.L2DeepFoolAttack:norm=l2``.

The peer sees the seat's source as a plain network (with the surrogates, draws and access that the seat declares); its
points are judged like any others. The Law does not hold for them: their randomness and batching are their own.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparring.attacks.attack import Attack, Setting
from sparring.attacks.engine import Batch, Outcome, RunOptions
from sparring.attacks.method import Kind, Method
from sparring.core.errors import SparringError
from sparring.core.extras import need
from sparring.core.geometry import NORMS, Norm, distance, within
from sparring.core.losses import success_margin
from sparring.core.noise import Noise, word
from sparring.core.ranges import NonNegative, number
from sparring.core.registry import suggest
from sparring.core.spec import Spec, convert, show
from sparring.core.victim import Goal, Victim

Option = bool | int | float | str | None


@dataclass(frozen=True)
class Peer(Method):
    """A peer's attack: library, class name and constructor options. Needs gradients as far as we know."""

    norms = NORMS
    library: str
    name: str
    options: tuple[tuple[str, Option], ...] = ()

    @property
    def kind(self) -> Kind:
        return "iterative"

    def call(self, network: nn.Module, x: Tensor, y: Tensor, eps: float | None) -> Tensor:
        """The peer's points (N,C,H,W) for images x and labels y."""
        library = need(self.library, "peers")
        if self.library == "torchattacks":
            budget = {} if eps is None else {"eps": eps}
            return getattr(library, self.name)(network, **budget, **dict(self.options))(x, y)
        model = library.PyTorchModel(network, bounds=(0, 1), device=x.device)
        return getattr(library.attacks, self.name)(**dict(self.options))(model, x, y, epsilons=eps)[1]


class UnboundedPeer(Peer):
    """The same without a budget: the nearest adversarial point."""

    goal = Goal.MINIMAL


@dataclass(frozen=True)
class PeerAttack(Attack):
    """A peer's attack in a setting. It cannot keep masks, starts, query caps, reparametrizations or an eps that differs between images:
    given one, it raises SparringError.
    """

    unused = ("restarts", "targets", "target")
    method: Peer

    @classmethod
    def why_unused(cls, field: str) -> str:
        return "give the peer's own option"

    @property
    def name(self) -> str:
        return f"{self.method.library}.{self.method.name}"

    def __str__(self) -> str:
        parts = [f"{k}={show(v)}" for k, v in self.method.options]
        parts += [f"norm={self.norm}"] + ([f"eps={show(self.budget)}"] if self.setting.eps is not None else [])
        return f"{self.name}:{','.join(parts)}"

    def cost(self, victim: Victim, classes: int, values: int) -> tuple[int, int]:
        """Unknown before it runs: one gradient a step, where it has steps."""
        steps = dict(self.method.options).get("steps", 1)
        steps = int(steps) if isinstance(steps, int | float) else 1
        return steps * victim.cost, steps * victim.cost

    def brief(self, steps: int) -> Attack:
        return self  # its options are its own

    def perform(self, victim: Victim, batch: Batch, eps: Tensor, options: RunOptions) -> Outcome:
        """``slots`` images at a time; ``stop`` is not its to obey. ``forwards`` is the mean of a batch."""
        given = {"mask": batch.mask, "start": batch.start, "queries": batch.queries, "reparam": options.reparam}
        for name, value in given.items():
            if value is not None:
                raise SparringError(f"{self}: an attack of another library cannot be given {name}=")
        if len(eps) and float(eps.min()) != float(eps.max()):
            raise SparringError(f"{self}: an attack of another library cannot be given an eps per image")
        budget = float(eps[0]) if len(eps) and math.isfinite(float(eps[0])) else None
        x, y = batch.clean, batch.label
        points, calls = x.clone(), torch.zeros_like(y)
        for rows in torch.arange(len(x), device=x.device).split(options.slots):
            network = _Source(victim, options.seed).eval()
            with torch.enable_grad():
                peers = self.method.call(network, x[rows].clone(), y[rows], budget)
            points[rows] = peers.detach().to(x.dtype)
            calls[rows] = -(-network.calls // len(rows))
            if options.progress:
                options.progress(len(rows))
        with torch.no_grad():
            logits = victim.logits(points, Noise.of(options.seed, "attack", batch.keys))
        margin = success_margin(logits, y, None)
        won = (margin > 0) & within(points - x, eps, self.norm)
        hit, zero = torch.where(won, 0, -1), torch.zeros_like(y)
        size = distance(points - x, self.norm)
        outcome = Outcome.unseen(x).put(
            x=points, success=won, margin=margin, distance=size, job=zero, first_hit=hit, best_hit=hit
        )
        return outcome.put(forwards=calls, backwards=calls, margin_end=margin)


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


def peer_attack(spec: Spec) -> PeerAttack:
    """An attack from ``LIBRARY.CLASS:norm=...,eps=...,option=value``; options are checked against the constructor."""
    library, _, name = spec.name.partition(".")
    module = need(library, "peers")
    home = module if library == "torchattacks" else module.attacks
    if not inspect.isclass(getattr(home, name, None)):
        known = [n for n in dir(home) if inspect.isclass(getattr(home, n))]
        raise SparringError(f"{library} has no attack {name!r}{suggest(name, known)}")
    known = inspect.signature(getattr(home, name).__init__).parameters
    options: list[tuple[str, Option]] = []
    norm: Norm = "linf"
    eps: float | None = None
    for key, text in spec.values.items():
        if key == "norm":
            norm = convert(spec.name, key, Norm, text)
        elif key == "eps":
            eps = convert(spec.name, key, NonNegative, text)
        elif key not in known:
            raise SparringError(f"{spec.name}: unknown field {key!r}{suggest(key, known)}")
        else:
            options.append((key, _value(text)))
    method = (UnboundedPeer if eps is None else Peer)(library, name, tuple(sorted(options)))
    return PeerAttack(method, Setting(norm=norm, eps=eps))


def _value(text: str) -> Option:
    if text.lower() in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[text.lower()]
    try:
        value = number(text)
    except ValueError:
        return text
    if not math.isfinite(value):
        raise SparringError(
            f"{text} is not a finite number, which an attack of another library takes no more than ours"
        )
    return int(value) if value.is_integer() and "." not in text and "/" not in text else value
