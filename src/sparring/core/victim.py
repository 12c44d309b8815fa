"""The victim: the only door from an attack to a model. It grants an access, averages over randomness, counts calls.

A ``Victim`` wraps one system (or an ensemble of them) with an access grade and with the rule by which draws are combined into one
objective.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import torch
from torch import Tensor

from sparring.core.access import Access, offered
from sparring.core.errors import AccessError
from sparring.core.losses import label_of
from sparring.core.noise import Noise
from sparring.core.shown import many, shown
from sparring.core.system import Combine, Readout, System, log_mean_prob

# Input elements of one network call, by device; larger requests run in micro-batches of whole images. On a CPU 3.2 million made gradients 1.1
# to 1.9 times slower (docs/measured.md): activations no longer fit the cache.
ROW_BUDGETS = {"cpu": 800_000}
ROW_BUDGET = 3_200_000  # of other devices


Objective = Callable[[Tensor, slice], Tensor]  # logits (b,K), which b rows of the batch -> (b,)


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


def images_a_call(x: Tensor, calls: int) -> int:
    """How many of the images ``x`` (B,C,H,W) one network call takes where each is shown ``calls`` times; at least one."""
    budget = ROW_BUDGETS.get(x.device.type, ROW_BUDGET)
    return max(1, budget // max(1, x[0].numel() * calls)) if len(x) else 1


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

    def __repr__(self) -> str:
        return shown(
            self, many(len(self.systems), "system"), self.access.name, f"{many(self.draws, 'draw')} of {self.combine}"
        )

    def __post_init__(self) -> None:
        """Raises AccessError where a network has less to offer: attacked all the same it would look robust."""
        for system in self.systems:
            offers = offered(system.network)
            if offers < self.access:
                ways = "decision" if offers is Access.LABEL else "score,decision"
                raise AccessError(
                    f"the network{f' behind {system.name!r}' if system.name else ''} is a black box that gives {offers.name}, no {self.access.name}: evaluate it "
                    f"with --threat {ways}, or with transfer and --sources MODEL"
                )

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

    def gradient(self, x: Tensor, objective: Objective, noise: Noise) -> Gradient:
        """Ascent gradient at ``x`` (B,C,H,W) of ``objective(logits (b,K), rows) -> (b,)``; ``rows`` says which b
        rows of B.
        """
        self._require_gradient()
        return Gradient(*_in_micro_batches(x, noise, self.cost, lambda u, n, i: self._gradient(u, objective, n, i)))

    def _gradient(self, x: Tensor, objective: Objective, noise: Noise, rows: slice) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.amp):
                z = self._draw(leaf, noise)
            z = z.float()
            logits = self._combined(z)
            each = [objective(z[:, j], rows) for j in range(z.shape[1])] if self.combine == "loss" else []
            loss = torch.stack(each, 1).mean(1) if each else objective(logits, rows)
            grad = _pulled(loss.sum(), leaf)
        logits, members = logits.detach(), logits.detach()[:, None]
        if len(self.systems) > 1:
            members = torch.stack([self._combined(part) for part in torch.split(z.detach(), self._widths, 1)], 1)
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
                grads = [_pulled(z, leaf, weights[:, k], keep=k + 1 < count) for k in range(count)]
            return torch.stack(grads, 1), weights, z.detach()

        grads, coefficients, logits = _in_micro_batches(x, noise, self.cost, call)
        return grads, coefficients, logits

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
        return label_of(self._answer(x, noise, vote=True))

    def _scores(self, system: System, x: Tensor, noise: Noise, vote: bool) -> Tensor:
        """(B,K): one answer of ``system``, or for a random one the mean (or majority) of ``answers`` of them."""
        if self.answers == 1 or not system.random:
            return system.scores(x, noise)
        many = system.scores(x.repeat_interleave(self.answers, 0), noise.repeat(self.answers))
        rule = "vote" if vote else "mean-prob"
        return Readout(rule, self.answers).scores(many.reshape(len(x), self.answers, -1))

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
    """Split a batch so that one call holds no more input elements than its device's budget; whole images, at least one."""
    size = images_a_call(x, cost)
    if len(x) <= size:
        return call(x, noise, slice(0, len(x)))
    parts: list[tuple[Tensor, ...]] = []
    for start in range(0, len(x), size):
        rows = slice(start, min(start + size, len(x)))
        parts.append(call(x[rows], noise.at(torch.arange(rows.start, rows.stop, device=noise.key.device)), rows))
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def _pulled(output: Tensor, leaf: Tensor, cotangent: Tensor | None = None, keep: bool = False) -> Tensor:
    """The gradient of ``output`` at ``leaf``; zero where the one does not depend on the other, though on parameters it may."""
    return torch.autograd.grad(output, leaf, cotangent, retain_graph=keep, allow_unused=True, materialize_grads=True)[0]
