"""What an attack is given at each step: the rows it works on and the only questions it may ask.

A ``Query`` is read-only, one row per live job. Every answer is also written to the engine's ledger, so a point an
attack merely looked at counts, best-so-far exists once, and calls are counted per row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sparring.core import losses
from sparring.core.geometry import Ball
from sparring.core.losses import LossName
from sparring.core.noise import Noise
from sparring.core.rows import Rows
from sparring.core.victim import Access, Goal, Gradient, Victim


class Reparametrisation(Protocol):
    """x' = h(v): the attack moves v inside the ball, the victim sees h(v) (threat T9, PROTOCOL 4.4 card L1)."""

    def emit(self, v: Tensor, clean: Tensor, ball: Ball) -> Tensor:
        """The image h(v), inside ball and box."""
        ...

    def pullback(self, grad: Tensor, v: Tensor, clean: Tensor, ball: Ball) -> Tensor:
        """Gradient at h(v) -> gradient at v."""
        ...


@dataclass(frozen=True)
class Ledger:
    """Where the engine writes down what an attack has seen: observe(x, success margin (B,)), spend(forwards,
    backwards), grad.
    """

    observe: Callable[[Tensor, Tensor], None]
    spend: Callable[[int | Tensor, int | Tensor], None]
    note_gradient: Callable[[Tensor], None]


@dataclass(frozen=True)
class Query:
    """clean (B,C,H,W) in [0,1]; label (B,); target (B,) class to aim at or None; ball; t (B,) iterations done.

    ``must_hit``: the goal is the target itself; otherwise a target only guides an untargeted attack.
    """

    clean: Tensor
    label: Tensor
    target: Tensor | None
    ball: Ball
    t: Tensor
    victim: Victim
    stream: Noise
    ledger: Ledger
    must_hit: bool = False
    reparam: Reparametrisation | None = None

    def noise(self, tag: str) -> Noise:
        """The attack's own randomness at this step."""
        return self.stream.on(self.t).child("attack").child(tag)

    def gradient(self, x: Tensor, loss: LossName = "ce", call: str = "") -> Gradient:
        """Ascent gradient of the named objective of this goal at ``x``. A second call in one step needs its own
        ``call``.
        """

        def objective(logits: Tensor, rows: slice) -> Tensor:
            target = None if self.target is None else self.target[rows]
            return losses.objective(loss, logits, self.label[rows], target)

        point = self._emit(x)
        answer = self.victim.gradient(point, objective, self._draws(call))
        self.ledger.spend(self.victim.cost, self.victim.cost)
        self.ledger.note_gradient(answer.grad)
        logits = self._verified(point, answer.logits, call) if self.victim.amp else answer.logits
        self._observe(point, logits)
        grad = answer.grad.nan_to_num(0.0, 0.0, 0.0)
        if self.reparam is not None:
            grad = self.reparam.pullback(grad, x, self.clean, self.ball)
        return answer._replace(grad=grad)

    def scores(self, x: Tensor, call: str = "") -> Tensor:
        """(B,K) scores of one answer of the deployed system."""
        point = self._emit(x)
        scores = self.victim.scores(point, self._draws(call))
        self.ledger.spend(self.victim.score_cost, 0)
        self._observe(point, scores)
        return scores

    def labels(self, x: Tensor, call: str = "") -> Tensor:
        """(B,) labels of one answer of the deployed system."""
        point = self._emit(x)
        labels = self.victim.labels(point, self._draws(call))
        self.ledger.spend(self.victim.score_cost, 0)
        won = labels == self.target if self.must_hit and self.target is not None else labels != self.label
        self.ledger.observe(point, 2 * won.to(x.dtype) - 1)
        return labels

    def margin(self, logits: Tensor) -> Tensor:
        """(B,) positive iff logits fulfil the goal."""
        return losses.success_margin(logits, self.label, self.target if self.must_hit else None)

    def project(self, x: Tensor) -> Tensor:
        """Onto ball and box."""
        return self.ball.project(x, self.clean)

    def _verified(self, point: Tensor, logits: Tensor, call: str) -> Tensor:
        """bfloat16 logits with those rows that look won re-scored in float32: half precision proposes, it never decides."""
        won = (self.margin(logits) > 0).nonzero()[:, 0]
        if not len(won):
            return logits
        exact = self.victim.logits(point[won], self._draws(call).at(won))
        spent = torch.zeros(len(point), dtype=torch.int64, device=point.device)
        self.ledger.spend(spent.index_fill(0, won, self.victim.cost), 0)
        return logits.index_copy(0, won, exact)

    def _draws(self, call: str) -> Noise:
        return self.stream.on(self.t).child("defense-in-attack").child(call)

    def _emit(self, x: Tensor) -> Tensor:
        return x if self.reparam is None else self.reparam.emit(x, self.clean, self.ball)

    def _observe(self, point: Tensor, logits: Tensor) -> None:
        self.ledger.observe(point, self.margin(logits))


class Method(Protocol):
    """An attack: a frozen dataclass with two pure functions over rows. The engine owns the loop.

    ``init`` makes the state of new rows (a leaf ``x`` is required); ``advance`` is one iteration. Optional
    ``done(q, s) -> (B,) bool`` ends rows early. Class variables: ``needs`` (Access), ``goal`` (Goal),
    ``norms`` (supported norms, the first is the default). ``steps``: iterations.
    """

    @property
    def needs(self) -> Access: ...
    @property
    def goal(self) -> Goal: ...
    @property
    def norms(self) -> tuple[str, ...]: ...
    @property
    def steps(self) -> int: ...

    def init(self, q: Query) -> Rows: ...
    def advance(self, q: Query, s: Rows) -> Rows: ...
