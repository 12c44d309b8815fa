"""What an attack is given at each step: the rows it works on and the only questions it may ask.

A ``Query`` is read-only, one row per live job. Every answer is also written to the engine's ledger, so a point an
attack merely looked at counts, best-so-far exists once, and calls are counted per row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.core import losses
from sparring.core.geometry import Ball
from sparring.core.losses import LossName
from sparring.core.noise import Noise
from sparring.core.system import Reparametrisation
from sparring.core.victim import Gradient, Victim

CANDIDATE_BUDGET = 12_800_000  # elements of candidates (rows x candidates x pixels) held at once


@dataclass(frozen=True)
class Ledger:
    """Where the engine writes down what an attack has seen.

    observe(x, success margin): (B,C,H,W) and (B,), or candidates (B,k,C,H,W) and (B,k). spend(forwards, backwards,
    unit) -> (B,) forwards that the row's query budget could pay, a multiple of ``unit``. note_gradient(grad). capped: is there a query budget?
    left() -> (B,) forwards that are left of it.
    """

    observe: Callable[[Tensor, Tensor], None]
    spend: Callable[[int | Tensor, int | Tensor, int], Tensor]
    note_gradient: Callable[[Tensor], None]
    left: Callable[[], Tensor]
    capped: bool = True


@dataclass(frozen=True)
class Query:
    """clean (B,C,H,W) in [0,1]; label (B,); target (B,) class to aim at or None; ball; t (B,) iterations done.

    ``must_hit``: the goal is the target itself; otherwise a target only guides an untargeted attack. The victim, the stream of noise and
    the ledger are private: every question goes through a method here, which meters it.
    """

    clean: Tensor
    label: Tensor
    target: Tensor | None
    ball: Ball
    t: Tensor
    _victim: Victim
    _stream: Noise
    _ledger: Ledger
    must_hit: bool = False
    reparam: Reparametrisation | None = None
    start: Tensor | None = None  # (B,C,H,W) points to begin at, where the caller gave some

    @property
    def random(self) -> bool:
        """Does the victim answer otherwise at every call? Then the largest of many margins is a lucky one."""
        return self._victim.random

    @property
    def of_mean(self) -> bool:
        """Are objectives asked of the mean probability over draws, not of each draw?"""
        return self.random and self._victim.combine == "probs"

    def noise(self, tag: str) -> Noise:
        """The attack's own randomness at this step."""
        return self._stream.on(self.t).child("attack").child(tag)

    def steady_noise(self, tag: str) -> Noise:
        """Noise that is the same at every step."""
        return self._stream.on(torch.zeros_like(self.t)).child(tag)

    def gradient(
        self, x: Tensor, loss: LossName = "ce", call: str = "", via: Callable[[Tensor], Tensor] | None = None
    ) -> Gradient:
        """Ascent gradient of the named objective of this goal at ``x``. A second call in one step needs its own
        ``call``. ``via``: a differentiable map of the image (input diversity); its output is no candidate.
        """

        def objective(logits: Tensor, rows: slice) -> Tensor:
            target = None if self.target is None else self.target[rows]
            return losses.objective(loss, logits, self.label[rows], target)

        point = self._emit(x)
        with torch.enable_grad():
            leaf = point.detach().requires_grad_(via is not None)
            shown = leaf if via is None else via(leaf)
        answer = self._victim.gradient(shown.detach(), objective, self._draws(call))
        paid = self._ledger.spend(self._victim.cost, self._victim.cost, self._victim.cost)
        grad = answer.grad if via is None else torch.autograd.grad(shown, leaf, answer.grad)[0]
        self._ledger.note_gradient(grad)
        if via is None:
            logits = self._verified(point, answer.logits, call) if self._victim.amp else answer.logits
            self._ledger.observe(point, torch.where(paid >= self._victim.cost, self.margin(logits), -torch.inf))
        return answer._replace(grad=self._pulled(grad, x))

    def jacobian(
        self, x: Tensor, rows_of: Callable[[Tensor, slice], Tensor], call: str = ""
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients at ``x`` of k linear functions of the logits, for one forward and k backwards.

        ``rows_of(logits (b,K), rows) -> (b,k,K)`` gives their coefficients. Returns the gradients (B,k,C,H,W), the
        coefficients (B,k,K) and the logits (B,K).
        """
        point = self._emit(x)
        grads, weights, logits = self._victim.jacobian(point, rows_of, self._draws(call))
        paid = self._ledger.spend(self._victim.cost, self._victim.cost * grads.shape[1], self._victim.cost)
        if self._victim.amp:
            logits = self._verified(point, logits, call)
        self._ledger.observe(point, torch.where(paid >= self._victim.cost, self.margin(logits), -torch.inf))
        return torch.stack([self._pulled(g, x) for g in grads.unbind(1)], 1), weights, logits

    @property
    def affords(self) -> Tensor:
        """(B,) int64: how many more answers the row's query budget pays for."""
        return self._ledger.left() // self._victim.score_cost

    def scores(self, x: Tensor, call: str = "", only: Tensor | None = None, probe: bool = False) -> Tensor:
        """Scores of the deployed system: (B,K) for points (B,C,H,W), (B,k,K) for candidates (B,k,C,H,W).

        ``only`` (B,) bool: ask about these rows, the others answer 0 and pay nothing. ``probe``: asked to learn from, inside the ball or not, and no
        candidate.
        """
        return self._ask(x, call, self._victim.scores, self.margin, only=only, probe=probe)

    def labels(self, x: Tensor, call: str = "", only: Tensor | None = None, probe: bool = False) -> Tensor:
        """Labels of the deployed system: (B,) for points (B,C,H,W), (B,k) for candidates (B,k,C,H,W); ``only`` and ``probe`` as
        in ``scores``.
        """
        judge = lambda labels: 2.0 * self.fooled(labels) - 1  # noqa: E731
        return self._ask(x, call, self._victim.labels, judge, only=only, probe=probe)

    def fooled(self, labels: Tensor) -> Tensor:
        """(B,) or (B,k) bool: do these labels fulfil the goal?"""
        wide = labels.dim() - 1
        if self.must_hit and self.target is not None:
            return labels == self.target.reshape(-1, *(1,) * wide)
        return labels != self.label.reshape(-1, *(1,) * wide)

    def candidates(self, count: int, make: Callable[[int, int], Tensor], call: str = "") -> Tensor:
        """(B,count) margins (positive: goal fulfilled) of ``count`` candidates a row, made and scored in slices, so that
        a large population fits in memory. ``make(first, last) -> (B,last-first,C,H,W)``.
        """
        size = max(1, CANDIDATE_BUDGET // max(1, self.clean.numel()))
        margins: list[Tensor] = []
        for first in range(0, count, size):
            last = min(first + size, count)
            z = self._ask(make(first, last), call, self._victim.scores, self.margin, first)
            margins.append(self.margin(z))
        return torch.cat(margins, 1)

    def _ask(
        self,
        x: Tensor,
        call: str,
        ask: Callable[[Tensor, Noise], Tensor],
        judge: Callable[[Tensor], Tensor],
        first: int = 0,
        only: Tensor | None = None,
        probe: bool = False,
    ) -> Tensor:
        """Points (B,C,H,W) are candidates with k = 1. What a row's query budget cannot pay for is not asked: answer 0."""
        single = x.dim() == 4
        points = x[:, None] if single else x
        if self.reparam is not None:
            points = torch.stack([self._emit(u) for u in points.unbind(1)], 1)
        count, unit, noise = points.shape[1], self._victim.score_cost, self._draws(call)
        wanted = torch.ones_like(self.t) if only is None else only.to(self.t.dtype)
        paid = self._ledger.spend(wanted * unit * count, 0, unit)
        if only is None and not self._ledger.capped:  # every row asks everything
            full = ask(points.flatten(0, 1), noise if single else noise.repeat(count, first)).unflatten(0, (-1, count))
            if not probe:
                self._ledger.observe(points, judge(full))
            return full[:, 0] if single else full
        affordable = torch.arange(count, device=x.device) * unit < paid[:, None]
        asked = affordable.flatten().nonzero()[:, 0]
        noise = noise if single else noise.repeat(count, first)
        # where nobody may ask: never show a network an empty batch
        answer = ask(points.flatten(0, 1)[asked], noise.at(asked)) if len(asked) else self._nothing(ask)
        full = answer.new_zeros(len(x) * count, *answer.shape[1:]).index_copy(0, asked, answer)
        full = full.unflatten(0, (len(x), count))
        if not probe:
            self._ledger.observe(points, torch.where(affordable, judge(full), -torch.inf))
        return full[:, 0] if single else full

    def _nothing(self, ask: Callable[[Tensor, Noise], Tensor]) -> Tensor:
        """An answer about no image: labels (0,), or scores (0,K) wide enough for every label."""
        if ask == self._victim.labels:
            return self.label[:0]
        return self.clean.new_zeros(0, max(2, int(self.label.amax()) + 1))

    def margin(self, logits: Tensor) -> Tensor:
        """(B,) or (B,k) positive iff logits (B,K) or (B,k,K) fulfil the goal."""
        target = self.target if self.must_hit else None
        if logits.dim() == 2:
            return losses.success_margin(logits, self.label, target)
        count = logits.shape[1]
        label, target = self.label.repeat_interleave(count), None if target is None else target.repeat_interleave(count)
        return losses.success_margin(logits.flatten(0, 1), label, target).unflatten(0, (-1, count))

    def project(self, x: Tensor) -> Tensor:
        """Onto ball and box."""
        return self.ball.project(x, self.clean)

    def _verified(self, point: Tensor, logits: Tensor, call: str) -> Tensor:
        """bfloat16 logits with those rows that look won re-scored in float32: half precision proposes, it never decides."""
        won = (self.margin(logits) > 0).nonzero()[:, 0]
        if not len(won):
            return logits
        exact = self._victim.logits(point[won], self._draws(call).at(won))
        spent = torch.zeros(len(point), dtype=torch.int64, device=point.device)
        self._ledger.spend(spent.index_fill(0, won, self._victim.cost), 0, self._victim.cost)
        return logits.index_copy(0, won, exact)

    def _draws(self, call: str) -> Noise:
        return self._stream.on(self.t).child("defense-in-attack").child(call)

    def _emit(self, x: Tensor) -> Tensor:
        return x if self.reparam is None else self.reparam.emit(x, self.clean, self.ball)

    def _pulled(self, grad: Tensor, x: Tensor) -> Tensor:
        """Gradients at the victim -> those at the attack's own variable; none where a pixel may not change: a step would be spent there."""
        grad = grad.nan_to_num(0.0, 0.0, 0.0)
        grad = grad if self.reparam is None else self.reparam.pullback(grad, x, self.clean, self.ball)
        return grad if self.ball.mask is None else grad * self.ball.mask
