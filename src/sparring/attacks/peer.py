"""Attacks of other libraries in our seats: ``torchattacks.PGD:eps=8/255,steps=40``, ``foolbox.L2DeepFoolAttack``, ``art.DeepFool``, ``adv_lib.ddn``.

The peer sees the seat's source as a plain network (with the surrogates, draws and access that the seat declares); its
points are judged like any others. The Law does not hold for them: their randomness and batching are their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sparring.attacks.attack import ELSEWHERE, Attack, Setting
from sparring.attacks.engine import Batch, Outcome, RunOptions
from sparring.attacks.libraries import LIBRARIES, Option, PeerQuestion
from sparring.attacks.method import Kind, Method
from sparring.core.columns import STOPS
from sparring.core.errors import SparringError
from sparring.core.geometry import EPS_SLACK, NORMS, Ball, Norm, distance, per_row, within
from sparring.core.losses import success_margin
from sparring.core.noise import Noise, word
from sparring.core.ranges import NonNegative, number
from sparring.core.registry import suggest
from sparring.core.spec import Spec, convert, show
from sparring.core.victim import Goal, Victim


@dataclass(frozen=True)
class Peer(Method):
    """A peer's attack: library, name and options. Needs gradients as far as we know."""

    norms = NORMS
    reparametrizes = False
    library: str
    name: str
    options: tuple[tuple[str, Option], ...] = ()

    @property
    def kind(self) -> Kind:
        return "iterative"


class UnboundedPeer(Peer):
    """One that was given no ball or takes none: the nearest adversarial point."""

    goal = Goal.MINIMAL


@dataclass(frozen=True, repr=False)
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
        """``slots`` images at a time; ``stop`` is not its to obey. ``forwards`` is the mean of a batch. With a budget of zero nothing is asked: the
        image is the only point. Where a peer with a budget hands the image back, the last point that it tried is judged.
        """
        given = {"mask": batch.mask, "start": batch.start, "queries": batch.queries, "reparam": options.reparam}
        for name, value in given.items():
            if value is not None:
                raise SparringError(f"{self}: an attack of another library cannot be given {name}=")
        if len(eps) and float(eps.min()) != float(eps.max()):
            raise SparringError(f"{self}: an attack of another library cannot be given an eps per image")
        budget = float(eps[0]) if len(eps) and math.isfinite(float(eps[0])) else None
        x, y = batch.clean, batch.label
        points, calls = x.clone(), torch.zeros_like(y)
        library, own = LIBRARIES[self.method.library], dict(self.method.options)
        with torch.no_grad():
            classes = victim.graph(x[:1], Noise.of(options.seed, "attack", batch.keys[:1])).shape[1] if len(x) else 0
        for rows in torch.arange(len(x), device=x.device).split(options.slots) if budget != 0 else ():
            network = _Source(victim, options.seed, batch.keys[rows], x[rows]).eval()
            question = PeerQuestion(network, classes, x[rows].clone(), y[rows], self.norm, budget, own)
            seed = Noise.of(options.seed, "peer", batch.keys[rows[:1]]).integers("seed", 2**31, (1,))
            answer = library.points(self.method.name, question, int(seed))
            points[rows] = answer if budget is None else _moved(answer, network.tried, x[rows], eps[rows], self.norm)
            calls[rows] = -(-network.calls // len(rows))
            if options.progress:
                options.progress(len(rows))
        points, outside = _brought_back(points, x, eps, self)
        with torch.no_grad():
            logits = victim.logits(points, Noise.of(options.seed, "attack", batch.keys))
        margin = success_margin(logits, y, None)
        won = (margin > 0) & within(points - x, eps, self.norm)
        hit, zero = torch.where(won, 0, -1), torch.zeros_like(y)
        size = distance(points - x, self.norm)
        outcome = Outcome.unseen(x).put(
            x=points, success=won, margin=margin, distance=size, job=zero, first_hit=hit, best_hit=hit
        )
        stopped = torch.where(outside, STOPS.index("outside the ball"), 0)
        return outcome.put(forwards=calls, backwards=calls, margin_end=margin, stopped=stopped)


def _moved(answer: Tensor, tried: Tensor, clean: Tensor, eps: Tensor, norm: Norm) -> Tensor:
    """The answer (N,C,H,W), or where it is the clean image the point of the ball nearest to what was tried last: an attack that fails there did move."""
    back = ((answer == clean) & tried.isfinite()).flatten(1).amin(1)
    return torch.where(per_row(back, answer), Ball(norm, eps).project(tried.clamp(0, 1), clean), answer)


def _brought_back(points: Tensor, clean: Tensor, eps: Tensor, attack: PeerAttack) -> tuple[Tensor, Tensor]:
    """Points that may be judged, and which were none (N,) bool: outside the box, not finite, or, of an attack with a budget, outside its ball. Left
    there they would count as attacks that failed; they are judged at the nearest point that is allowed, and R7 counts them.
    """
    finite = points.isfinite()
    boxed = torch.where(finite, points, clean).clamp(0, 1)
    outside = (~finite | ((boxed - points).abs() > EPS_SLACK)).flatten(1).amax(1)
    if attack.method.goal is Goal.MINIMAL:
        return boxed, outside
    beyond = ~within(boxed - clean, eps, attack.norm)
    nearest = Ball(attack.norm, eps).project(boxed, clean)
    return torch.where(per_row(beyond, boxed), nearest, boxed), outside | beyond


class _Source(nn.Module):
    """A victim as a differentiable network, of images in the dtype of ``clean`` (N,C,H,W) whatever it is shown. Every call draws fresh noise; ``calls``
    counts images. ``keys`` (N,): those of the images that the peer was given. ``tried`` (N,C,H,W): the last point of each that it showed.
    """

    def __init__(self, victim: Victim, seed: int, keys: Tensor, clean: Tensor) -> None:
        super().__init__()
        self.victim, self.seed, self.keys, self.clean, self.calls, self.asked = victim, seed, keys, clean, 0, 0
        self.tried = clean.clone()
        self.place = nn.Parameter(
            torch.empty(0, device=keys.device), requires_grad=False
        )  # by which libraries find the device

    def forward(self, x: Tensor) -> Tensor:
        self.asked += 1
        self.calls += len(x) * self.victim.cost
        x = x.to(self.dtype)
        image = self._whose(x.detach())
        moved = (x.detach() != self.clean[image]).flatten(1).amax(1)
        self.tried[image[moved]] = x.detach()[moved]
        keys = self.keys
        if len(x) != len(keys):  # an image may stand there several times, each with noise of its own
            keys = torch.arange(len(x), device=x.device) + (word("foreign") % 2**31)
        noise = replace(Noise.of(self.seed, "foreign", keys, self.asked), image=self.keys[image])
        return self.victim.graph(x, noise)

    @property
    def dtype(self) -> torch.dtype:
        return self.clean.dtype

    def _whose(self, x: Tensor) -> Tensor:
        """(B,) which of the images each of ``x`` was made of: the nearest, where a library shows some of them, or in parts."""
        if len(x) == len(self.clean):
            return torch.arange(len(x), device=x.device)
        return torch.cdist(x.flatten(1).nan_to_num(), self.clean.flatten(1)).argmin(1)


def peer_attack(spec: Spec) -> PeerAttack:
    """An attack from ``LIBRARY.NAME:norm=...,eps=...,option=value``; options are checked against those that it takes."""
    home, _, name = spec.name.partition(".")
    library = LIBRARIES[home]
    fields, norm = library.fields(name), library.norm(name)
    budget = library.budget(name)
    options: list[tuple[str, Option]] = []
    eps: float | None = None
    for key, text in spec.values.items():
        if key == "norm":
            asked = convert(spec.name, key, Norm, text)
            if norm and asked != norm:
                raise SparringError(f"{spec.name}: norm={asked}, but it is an attack in {norm}; leave norm out")
            norm = asked
        elif key == "eps":
            eps = convert(spec.name, key, NonNegative, text)
        elif key in fields and key != budget:
            options.append((key, _value(text)))
        else:
            raise SparringError(f"{spec.name}: unknown field {key!r}{_called(key, fields, spec.name)}")
    if norm is None and budget is None:
        raise SparringError(f"{spec.name}: which norm? It does not say; write {spec.name}:norm=l2")
    method = (UnboundedPeer if eps is None or budget is None else Peer)(home, name, tuple(sorted(options)))
    return PeerAttack(method, Setting(norm=norm or "linf", eps=eps))


def _called(field: str, fields: Sequence[str], name: str) -> str:
    """What a field as some other library calls it is here."""
    if field not in ELSEWHERE:
        return suggest(field, fields)
    same = [f for f in fields if ELSEWHERE.get(f) == ELSEWHERE[field]]
    if same:
        return f"; {name} calls it {' or '.join(same)}"
    return f"; of our own attacks {ELSEWHERE[field]} (docs/migration.md); {name} takes {', '.join(fields)}"


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
