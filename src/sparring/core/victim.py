"""The victim: the only door from an attack to a model. It grants an access, averages over randomness, counts calls.

A ``System`` is what an attacker sees: a chain of parts, a network, a readout. A ``Victim`` wraps one system (or an
ensemble of them) with an access grade and with the rule by which draws are combined into one objective.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from sparring.core.errors import AccessError
from sparring.core.noise import Noise

ROW_BUDGET = 3_200_000  # input elements per network call; larger requests run in micro-batches of whole images

Combine = Literal["logits", "probs", "loss"]


class Access(IntEnum):
    """What an attacker may ask of the system it queries. Each grade includes the ones below."""

    NONE = 0
    LABEL = 1
    SCORES = 2
    GRADIENT = 3


class Goal(Enum):
    """BUDGET: the best point inside a given ball. MINIMAL: the nearest adversarial point."""

    BUDGET = "budget"
    MINIMAL = "minimal"


class Gradient(NamedTuple):
    """An answer to ``gradient``: d objective / d x (B,C,H,W), the objective (B,), the combined logits (B,K), and those
    of each member of an ensemble (B,S,K)."""

    grad: Tensor
    loss: Tensor
    logits: Tensor
    members: Tensor


@dataclass(frozen=True)
class Part:
    """One stage as an attacker sees it. ``forward(x, noise)`` is what is deployed, to the bit; ``backward`` is
    "exact" (autograd), "identity", or a module whose Jacobian at the actual intermediate stands in (BPDA). ``atoms``: how many equally likely
    things a random stage does, 0: not finitely many."""

    name: str
    forward: Callable[[Tensor, Noise], Tensor]
    backward: Literal["exact", "identity"] | Callable[[Tensor], Tensor] = "exact"
    random: bool = False
    atoms: int = 0


@dataclass(frozen=True)
class Readout:
    """The deployed decision: one draw, or a rule over ``samples`` draws. Scores are log-probabilities or logits."""

    rule: Literal["single", "vote", "mean-prob", "mean-logit"] = "single"
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


class _Bpda(torch.autograd.Function):
    """Forward: the deployed stage. Backward: the stand-in's Jacobian at the same input (Athalye et al. 2018, BPDA)."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, out: Tensor, stand_in: Any) -> Tensor:
        ctx.save_for_backward(u)
        ctx.stand_in = stand_in
        return out.clone()

    @staticmethod
    def backward(ctx: Any, *cotangent: Any) -> Any:
        if ctx.stand_in == "identity":
            return cotangent[0], None, None
        (u,) = ctx.saved_tensors
        with torch.enable_grad():
            v = u.detach().requires_grad_(True)
            grad = torch.autograd.grad(ctx.stand_in(v), v, cotangent[0])[0]
        return grad, None, None


def apply_part(part: Part, u: Tensor, noise: Noise) -> Tensor:
    """One stage on intermediates ``u`` with its declared backward."""
    if part.backward == "exact":
        return part.forward(u, noise)
    with torch.no_grad():
        out = part.forward(u.detach(), noise)
    return _Bpda.apply(u, out, part.backward)  # type: ignore[return-value]


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
        z = (self.network(u, noise.child("network")) if self.noisy else self.network(u)).float()
        if not self.has_noise:  # nothing random: every draw is the same draw
            return z[:, None].expand(-1, draws, -1)
        return z.reshape(len(x), draws, -1)

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


@dataclass(frozen=True)
class Victim:
    """A system (or an ensemble) behind an access grade.

    ``draws``: EOT draws per gradient. ``combine``: how draws and ensemble members become one objective: mean
    "logits", log of mean "probs", or mean "loss" (PROTOCOL 1.2 and T3). ``amp``: run gradients in bfloat16; points
    that look adversarial are re-scored in float32. ``answers``: how many times a random system is asked for one
    score or label (the mean probability, the majority label); each is a query.
    """

    systems: tuple[System, ...]
    access: Access
    draws: int = 1
    combine: Combine = "probs"
    amp: bool = False
    answers: int = 1

    @property
    def random(self) -> bool:
        return any(s.random for s in self.systems)

    @property
    def _widths(self) -> list[int]:
        """Draws of each member in one gradient."""
        return [self.draws if s.random else 1 for s in self.systems]

    @property
    def cost(self) -> int:
        """Network calls per image that one gradient costs."""
        return sum(self._widths)

    @property
    def score_cost(self) -> int:
        """Network calls per image that one score or label costs."""
        return sum(s.forwards_per_call * (self.answers if s.random else 1) for s in self.systems)

    def gradient(self, x: Tensor, objective: Callable[[Tensor, slice], Tensor], noise: Noise) -> Gradient:
        """Ascent gradient at ``x`` (B,C,H,W) of ``objective(logits (b,K), rows) -> (b,)``; ``rows`` says which b
        rows of B.
        """
        self._require_gradient()
        return Gradient(*_in_micro_batches(x, noise, self.cost, lambda u, n, i: self._gradient(u, objective, n, i)))

    def _gradient(self, x: Tensor, objective: Any, noise: Noise, rows: slice) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.amp):
                z = self._draw(leaf, noise)
            z = z.float()
            logits = self._combined(z)
            each = [objective(z[:, j], rows) for j in range(z.shape[1])] if self.combine == "loss" else []
            loss = torch.stack(each, 1).mean(1) if each else objective(logits, rows)
            (grad,) = torch.autograd.grad(loss.sum(), leaf)
        logits, members = logits.detach(), logits.detach()[:, None]
        if len(self.systems) > 1:
            members = torch.stack([self._combined(part) for part in z.detach().split(self._widths, 1)], 1)
        return grad.detach(), loss.detach(), logits, members

    def jacobian(
        self, x: Tensor, rows_of: Callable[[Tensor, slice], Tensor], noise: Noise
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients (B,k,C,H,W) of k linear functions of the combined logits, their coefficients (B,k,K) as
        ``rows_of(logits (b,K), rows)`` chose them, and the logits (B,K): one forward, k backwards.
        """
        self._require_gradient()

        def call(u: Tensor, n: Noise, rows: slice) -> tuple[Tensor, ...]:
            with torch.enable_grad():
                leaf = u.detach().requires_grad_(True)
                with torch.autocast(u.device.type, dtype=torch.bfloat16, enabled=self.amp):
                    z = self._combined(self._draw(leaf, n))
                z = z.float()
                weights = rows_of(z.detach(), rows)
                count = weights.shape[1]
                grads = [
                    torch.autograd.grad(z, leaf, weights[:, k], retain_graph=k + 1 < count)[0] for k in range(count)
                ]
            return torch.stack(grads, 1), weights, z.detach()

        return _in_micro_batches(x, noise, self.cost, call)  # type: ignore[return-value]

    def logits(self, x: Tensor, noise: Noise) -> Tensor:
        """(B,K) float32 combined logits of the draws that ``gradient`` with the same noise would use."""
        self._require(Access.GRADIENT)
        with torch.no_grad():
            return _in_micro_batches(x, noise, self.cost, lambda u, n, _: (self._combined(self._draw(u, n)),))[0]

    def graph(self, x: Tensor, noise: Noise) -> Tensor:
        """(B,K) combined logits with their graph, as ``gradient`` sees them: for attacks that differentiate themselves."""
        self._require(Access.GRADIENT)
        return self._combined(self._draw(x, noise))

    def _draw(self, x: Tensor, noise: Noise) -> Tensor:
        """(B,members*draws,K): every member's logits in every draw."""
        each = [
            s.logits(x, noise.child(f"system{i}"), self.draws if s.random else 1) for i, s in enumerate(self.systems)
        ]
        return torch.cat(each, 1)

    def _combined(self, z: Tensor) -> Tensor:
        if z.shape[1] == 1:
            return z[:, 0]
        return z.mean(1) if self.combine == "logits" else log_mean_prob(z)

    def scores(self, x: Tensor, noise: Noise) -> Tensor:
        """(B,K) scores of one deployed answer, averaged over an ensemble's members."""
        self._require(Access.SCORES)
        return self._answer(x, noise)

    def labels(self, x: Tensor, noise: Noise) -> Tensor:
        """(B,) int64 labels of one deployed answer."""
        self._require(Access.LABEL)
        return self._answer(x, noise, vote=True).argmax(1)

    def _scores(self, system: System, x: Tensor, noise: Noise, vote: bool) -> Tensor:
        """(B,K): one answer of ``system``, or for a random one the mean (or majority) of ``answers`` of them."""
        if self.answers == 1 or not system.random:
            return system.scores(x, noise)
        many = system.scores(x.repeat_interleave(self.answers, 0), noise.repeat(self.answers))
        rule = "vote" if vote else "mean-prob"
        return Readout(rule, self.answers).scores(many.unflatten(0, (len(x), self.answers)))

    def _answer(self, x: Tensor, noise: Noise, vote: bool = False) -> Tensor:
        def ask(u: Tensor, n: Noise, _: slice) -> tuple[Tensor, ...]:
            each = [self._scores(s, u, n.child(f"system{i}"), vote) for i, s in enumerate(self.systems)]
            z = torch.stack(each, 1)
            return (z[:, 0] if z.shape[1] == 1 else z.mean(1) if self.combine == "logits" else log_mean_prob(z),)

        with torch.no_grad():
            return _in_micro_batches(x, noise, self.score_cost, ask)[0]

    def _require_gradient(self) -> None:
        self._require(Access.GRADIENT)
        if torch.is_inference_mode_enabled():
            raise AccessError(
                "gradient attacks cannot run under torch.inference_mode(); use torch.no_grad() or nothing"
            )

    def _require(self, access: Access) -> None:
        if self.access < access:
            raise AccessError(f"this seat grants {self.access.name}, the attack asked for {access.name}")


def _in_micro_batches(
    x: Tensor, noise: Noise, cost: int, call: Callable[[Tensor, Noise, slice], tuple[Tensor, ...]]
) -> tuple[Tensor, ...]:
    """Split a batch so that one call holds at most ROW_BUDGET input elements; whole images, at least one."""
    size = max(1, ROW_BUDGET // max(1, x[0].numel() * cost)) if len(x) else 1
    if len(x) <= size:
        return call(x, noise, slice(0, len(x)))
    parts = []
    for start in range(0, len(x), size):
        rows = slice(start, min(start + size, len(x)))
        parts.append(call(x[rows], noise.at(torch.arange(rows.start, rows.stop, device=noise.key.device)), rows))
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))
