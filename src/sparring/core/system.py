"""What is deployed, and what an attacker may differentiate instead: a chain of parts in front of a network, with a readout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, Protocol

import torch
from torch import Tensor

from sparring.core.geometry import Ball
from sparring.core.noise import Noise
from sparring.core.shown import many, shown

Combine = Literal["logits", "probs", "loss"]
Rule = Literal["single", "vote", "mean-prob", "mean-logit"]
Map = Callable[[Tensor], Tensor]
Pullback = Callable[[Tensor, Tensor], Tensor]  # input of a stage, cotangent at its output -> cotangent at its input


class Reparametrisation(Protocol):
    """x' = h(v): the attack moves v inside the ball, the victim sees h(v) (threat T9, PROTOCOL 4.4 card L1)."""

    def emit(self, v: Tensor, clean: Tensor, ball: Ball) -> Tensor:
        """The image h(v), inside ball and box."""
        ...

    def pullback(self, grad: Tensor, v: Tensor, clean: Tensor, ball: Ball) -> Tensor:
        """Gradient at h(v) -> gradient at v."""
        ...


@dataclass(frozen=True)
class Part:
    """One stage as an attacker sees it. ``forward(x, noise)`` is what is deployed, to the bit; ``backward`` is
    "exact" (autograd), "identity", or a module whose Jacobian at the actual intermediate stands in (BPDA). ``atoms``: how many equally likely
    things a random stage does, 0: not finitely many."""

    name: str
    forward: Callable[[Tensor, Noise], Tensor]
    backward: Literal["exact", "identity"] | Map = "exact"
    random: bool = False
    atoms: int = 0


@dataclass(frozen=True)
class Readout:
    """The deployed decision: one draw, or a rule over ``samples`` draws. Scores are log-probabilities or logits."""

    rule: Rule = "single"
    samples: int = 1

    def scores(self, logits: Tensor) -> Tensor:
        """(B,samples,K) logits of the draws -> (B,K) scores whose argmax is the deployed label."""
        if self.rule == "mean-logit":
            return logits.mean(1)
        if self.rule == "vote":
            votes = torch.nn.functional.one_hot(logits.argmax(2), logits.shape[2]).to(logits.dtype).mean(1)
            return votes + 1e-4 * logits.softmax(2).mean(1)  # ties go to the larger mean probability
        return logits[:, 0] if self.rule == "single" else log_mean_prob(logits)

    @property
    def combine(self) -> Combine:
        """The first EOT objective that matches this readout (PROTOCOL 1.2)."""
        return "logits" if self.rule == "mean-logit" else "probs"


class _Context(Protocol):
    """What torch hands from forward to backward."""

    rule: Pullback
    saved_tensors: tuple[Tensor, ...]

    def save_for_backward(self, *tensors: Tensor) -> None: ...


class _WithPullback(torch.autograd.Function):
    """Forward: the deployed value. Backward: a rule at the same input (Athalye et al. 2018, BPDA)."""

    @staticmethod
    def forward(ctx: _Context, u: Tensor, out: Tensor, rule: Pullback) -> Tensor:
        ctx.save_for_backward(u)
        ctx.rule = rule
        return out.clone()

    @staticmethod
    def backward(ctx: _Context, *cotangent: Tensor) -> tuple[Tensor, None, None]:
        (u,) = ctx.saved_tensors
        return ctx.rule(u, cotangent[0]), None, None


def with_pullback(u: Tensor, out: Tensor, rule: Pullback) -> Tensor:
    """``out``, which was made from ``u``; its gradient is ``rule(u, cotangent)``, whatever ``out`` was made by."""
    return _WithPullback.apply(u, out, rule)


def vjp(function: Map, u: Tensor, cotangent: Tensor) -> Tensor:
    """J(u)^T cotangent of a differentiable map, by autograd."""
    with torch.enable_grad():
        leaf = u.detach().requires_grad_(True)
        return torch.autograd.grad(function(leaf), leaf, cotangent)[0].detach()


def _passed_by(u: Tensor, cotangent: Tensor) -> Tensor:
    return cotangent


def _of_nothing(u: Tensor, cotangent: Tensor) -> Tensor:
    return torch.zeros_like(u)


def _with_some_gradient(u: Tensor, out: Tensor) -> Tensor:
    """``out``, made from ``u``; where it has no gradient (no_grad, detach, argmax, another library) its gradient is zero, and counted so."""
    return with_pullback(u, out, _of_nothing) if u.requires_grad and not out.requires_grad else out


def apply_part(part: Part, u: Tensor, noise: Noise) -> Tensor:
    """One stage on intermediates ``u`` with its declared backward."""
    if part.backward == "exact":
        return _with_some_gradient(u, part.forward(u, noise))
    with torch.no_grad():
        out = part.forward(u.detach(), noise)
    return with_pullback(u, out, _passed_by if part.backward == "identity" else partial(vjp, part.backward))


@dataclass(frozen=True)
class System:
    """A chain of parts in front of a network, with a readout. ``name`` says what it is; ``id`` fingerprints it.

    ``frozen``: a seed that fixes all inference randomness, per image (threats fixed-w and known-w), or None.
    ``exhaustive``: several draws go through the alternatives of a finitely random stage instead of sampling them.
    ``noisy``: the network itself draws, it is called as network(x, noise).
    """

    network: Callable[..., Tensor]
    parts: tuple[Part, ...] = ()
    readout: Readout = field(default_factory=Readout)
    name: str = ""
    id: str = ""
    frozen: int | None = None
    exhaustive: bool = False
    noisy: bool = False

    def __repr__(self) -> str:
        return shown(self, self.name, many(len(self.parts), "stage"), "random" if self.random else "deterministic")

    @property
    def has_noise(self) -> bool:
        """Whether anything draws, be it frozen."""
        return self.noisy or any(p.random for p in self.parts)

    @property
    def random(self) -> bool:
        return self.frozen is None and self.has_noise

    def logits(self, x: Tensor, noise: Noise, draws: int) -> Tensor:
        """(B,draws,K): ``draws`` joint draws of all stages. A deterministic prefix runs once per image."""
        if self.frozen is not None:
            noise = Noise.of(self.frozen, "frozen", noise.image)
        first = next((i for i, p in enumerate(self.parts) if p.random), len(self.parts))
        u = x
        for i, part in enumerate(self.parts[:first]):
            u = apply_part(part, u, noise.child(f"stage{i}"))
        if self.has_noise and draws > 1:
            u, noise = u.repeat_interleave(draws, 0), replace(noise.repeat(draws), exhaustive=self.exhaustive)
        for i, part in enumerate(self.parts[first:], first):
            u = apply_part(part, u, noise.child(f"stage{i}"))
        z = _with_some_gradient(u, self.network(u, noise.child("network")) if self.noisy else self.network(u)).float()
        if not self.has_noise:  # nothing random: every draw is the same draw
            return z[:, None].expand(-1, draws, -1)
        return z.reshape(x.shape[0], draws, -1)

    def scores(self, x: Tensor, noise: Noise) -> Tensor:
        """(B,K) deployed scores: one call of the deployed system, i.e. ``readout.samples`` draws."""
        return self.readout.scores(self.logits(x, noise, self.readout.samples))

    @property
    def forwards_per_call(self) -> int:
        """Network forwards that one deployed answer costs."""
        return self.readout.samples if self.has_noise else 1


def log_mean_prob(logits: Tensor) -> Tensor:
    """(B,draws,K) -> (B,K): log of the mean over draws of softmax."""
    return logits.log_softmax(2).logsumexp(1) - torch.log(torch.tensor(float(logits.shape[1])))
