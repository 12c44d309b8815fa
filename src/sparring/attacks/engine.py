"""The one loop: continuous batching of jobs (image, restart, target) through any method.

``slots`` rows are live; a free slot is refilled from the queue. **The Law**: an image's answer does not depend on
slots, order, neighbours, sharding or resume: noise is keyed by image, every step is row-wise, and the choice among
an image's jobs is by (quality, job number), never by arrival. Jobs that ran ahead of their turn count as if they had waited.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sparring.attacks.turns import Turns
from sparring.core.geometry import Ball, Norm, distance, within
from sparring.core.noise import Noise
from sparring.core.query import Ledger, Method, Query, Reparametrisation
from sparring.core.rows import Rows
from sparring.core.victim import Access, Goal, Victim

Stop = Literal["success", "never"]
AHEAD_AFTER = 4  # a job that has had a quarter of its steps will probably fail: its image's next jobs may begin
CUDA_POLL = 4  # on a GPU, look for finished rows every few steps: each look is a device sync


@dataclass(frozen=True)
class Batch:
    """Images to attack: clean (N,C,H,W) in [0,1], label (N,), keys (N,) int64 noise keys, eps (N,) in norm
    ``norm``.

    targets (N,T) classes to aim at, one job each, or None; ``must_hit``: only reaching the target counts.
    mask: optional (N,1|C,H,W) pixels the attack may change. start: optional (N,C,H,W) points to begin at, for
    attacks that use them.
    """

    clean: Tensor
    label: Tensor
    keys: Tensor
    norm: Norm
    eps: Tensor
    targets: Tensor | None = None
    must_hit: bool = False
    mask: Tensor | None = None
    start: Tensor | None = None


@dataclass(frozen=True)
class Outcome:
    """Per image, (N,...): the chosen point and what it cost. ``success`` is the attack's own view of its *source*;
    the judge decides what counts. Steps are -1 where nothing was hit; ``job`` numbers (restart, target) pairs."""

    x: Tensor
    success: Tensor
    margin: Tensor
    distance: Tensor
    forwards: Tensor
    backwards: Tensor
    job: Tensor
    first_hit: Tensor
    best_hit: Tensor
    nonfinite_gradients: Tensor
    zero_gradients: Tensor


def _unseen(clean: Tensor) -> Rows:
    """What is known of images nobody has looked at yet: the clean image, no hit (-1), nothing spent."""
    count, device = len(clean), clean.device
    zero = torch.zeros(count, dtype=torch.int64, device=device)
    return Rows(
        x=clean.clone(),
        margin=torch.full((count,), -torch.inf, device=device),
        size=torch.full((count,), torch.inf, device=device),
        won=zero.bool(),
        first=zero - 1,
        hit=zero - 1,
        forwards=zero,
        backwards=zero,
        nonfinite=zero,
        flat=zero,
        broke=zero.bool(),
    )


class _Live:
    """The rows in flight: their jobs, the attack's state and what the ledger has written down."""

    def __init__(self, batch: Batch, image: Tensor, job: Tensor, seed: int) -> None:
        count, device = len(image), batch.clean.device
        target = image if batch.targets is None else batch.targets[image, job % batch.targets.shape[1]]
        self.job = Rows(
            image=image,
            number=job,
            clean=batch.clean[image],
            label=batch.label[image],
            target=target,
            eps=batch.eps[image],
            t=torch.zeros(count, dtype=torch.int64, device=device),
            stream=Noise.of(seed, "attack", batch.keys[image], job).key,
        )
        self.best = _unseen(batch.clean[image])
        self.state = Rows()

    def __len__(self) -> int:
        return len(self.job)

    def join(self, other: _Live) -> None:
        if not len(self):
            self.job, self.best, self.state = other.job, other.best, other.state
            return
        self.job, self.best, self.state = (
            Rows.cat([a, b])
            for a, b in zip((self.job, self.best, self.state), (other.job, other.best, other.state), strict=True)
        )

    def keep(self, index: Tensor) -> None:
        self.job, self.best, self.state = self.job.keep(index), self.best.keep(index), self.state.keep(index)


class _Loop:
    """One engine call. Holds what is constant over it, the per-image results and the queue."""

    def __init__(
        self,
        method: Method,
        victim: Victim,
        batch: Batch,
        restarts: int,
        stop: Stop,
        seed: int,
        reparam: Reparametrisation | None,
        queries: int | None,
    ) -> None:
        self.method, self.victim, self.batch, self.stop = method, victim, batch, stop
        self.seed, self.reparam = seed, reparam
        self.minimal = method.goal is Goal.MINIMAL
        self.kappa = float(getattr(method, "kappa", 0.0))
        self.total = int(getattr(method, "iterations", method.steps))
        self.jobs = restarts * (1 if batch.targets is None else batch.targets.shape[1])
        own = getattr(method, "queries", None)
        caps = [c for c in (own, None if queries is None else queries // self.jobs) if c is not None]
        self.purse = min(caps) if caps else None  # forwards a job may spend
        count = len(batch.clean)
        blank = _unseen(batch.clean)
        self.result = blank.put(job=blank.first)
        # where a first success is all that is wanted an image's next job waits for the last one's failure
        self.in_turn = torch.full_like(blank.won, stop == "success")
        if self.minimal:
            self.in_turn = self.in_turn & torch.isfinite(batch.eps)
        # a query is paid for whether it was needed or not: only gradients are taken ahead of their turn
        free = victim.access is method.needs is Access.GRADIENT and self.purse is None and self.jobs > 1
        self.turns = Turns(count, self.jobs, self.in_turn.tolist(), free)

    def query(self, live: _Live) -> Query:
        job, batch = live.job, self.batch
        zero = torch.zeros_like(job.t)

        def observe(point: Tensor, margin: Tensor) -> None:
            best = live.best
            if point.dim() == 5:
                point, margin = self.best_of(point, margin, job.clean)
            won = (margin > 0) & (margin >= self.kappa)
            size = distance(point - job.clean, batch.norm) if self.minimal else best.size
            if self.minimal:
                better = torch.where(best.won, won & (size < best.size), won | (margin > best.margin))
            elif self.stop == "success":
                better = ~best.won & (margin > best.margin)
            else:
                better = margin > best.margin
            now = live.job.t
            found = Rows(x=point, margin=margin, size=size, won=won, hit=torch.where(won, now, -1))
            first = torch.where(won & (best.first < 0), now, best.first)
            live.best = best.where(better, found).put(first=first)

        def spend(forwards: int | Tensor, backwards: int | Tensor, unit: int) -> Tensor:
            paid, spent = torch.zeros_like(live.best.forwards) + forwards, live.best.forwards
            if self.purse is not None:
                paid = torch.minimum(paid, (self.purse - spent).clamp_min(0) // unit * unit)
                live.best = live.best.put(broke=live.best.broke | (spent + paid + unit > self.purse))
            live.best = live.best.put(forwards=spent + paid, backwards=live.best.backwards + backwards)
            return paid

        def note_gradient(grad: Tensor) -> None:
            total = grad.flatten(1).abs().sum(1)
            live.best = live.best.put(
                nonfinite=live.best.nonfinite + ~torch.isfinite(total), flat=live.best.flat + (total == 0)
            )

        return Query(
            clean=job.clean,
            label=job.label,
            target=None if batch.targets is None else job.target,
            ball=Ball(batch.norm, job.eps, None if batch.mask is None else batch.mask[job.image]),
            t=job.t,
            victim=self.victim,
            stream=Noise(job.stream, zero, zero, batch.keys[job.image]),
            ledger=Ledger(observe, spend, note_gradient),
            must_hit=batch.must_hit,
            reparam=self.reparam,
            start=None if batch.start is None else batch.start[job.image],
        )

    def best_of(self, points: Tensor, margin: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        """The one of a row's candidates (B,k,C,H,W) to write down: the nearest winner of a minimum-norm attack, else the
        largest margin."""
        rank = margin
        if self.minimal:
            size = distance((points - clean[:, None]).flatten(0, 1), self.batch.norm).unflatten(0, margin.shape)
            won = (margin > 0) & (margin >= self.kappa)
            rank = torch.where(won.any(1)[:, None], torch.where(won, -size, -torch.inf), margin)
        index = torch.arange(len(points), device=points.device), rank.argmax(1)
        return points[index], margin[index]

    def refill(self, live: _Live, slots: int) -> None:
        room = slots - len(live)
        if self.turns.ahead and room > len(self.turns) and len(live):
            late = live.job.keep((live.job.t >= self.total // AHEAD_AFTER).nonzero()[:, 0])
            running = list(zip(late.image.tolist(), late.number.tolist(), strict=True))
            self.turns.look_ahead(running, room - len(self.turns))
        taken = self.turns.take(room)
        if not taken:
            return
        jobs = torch.tensor(taken, device=self.batch.clean.device)
        new = _Live(self.batch, jobs[:, 0], jobs[:, 1], self.seed)
        new.state = self.method.init(self.query(new))
        live.join(new)

    def score_last(self, live: _Live, index: Tensor) -> None:
        """The last iterate of rows that ran to the end was never looked at: look now."""
        rows = copy.copy(live)
        rows.keep(index)
        q = self.query(rows)
        if self.victim.access >= Access.SCORES and self.method.needs >= Access.SCORES:
            q.scores(rows.state.x, "last")
        elif self.victim.access >= Access.LABEL and self.method.needs >= Access.LABEL:
            q.labels(rows.state.x, "last")
        else:  # a blind attack: its last point is its answer
            rows.best = rows.best.put(x=rows.state.x, size=distance(rows.state.x - rows.job.clean, self.batch.norm))
        live.best = Rows(**{k: getattr(live.best, k).index_copy(0, index, getattr(rows.best, k)) for k in live.best})

    def retire(self, live: _Live, index: Tensor) -> int:
        """Write finished rows into their images' results; returns how many images are settled."""
        done = live.best.keep(index).put(job=live.job.number[index], image=live.job.image[index])
        settled = 0
        while waves := self.turns.waves(done):
            settled += sum(self.settle(wave) for wave in waves)
            done = done.keep(done.image[:0])
        return settled

    def settle(self, done: Rows) -> int:
        """Merge one finished job each of different images; returns how many images are through."""
        i = done.image
        new = Rows(**{k: v for k, v in done.items() if k != "image"})
        old = self.result.keep(i)
        total = {k: getattr(old, k) + getattr(new, k) for k in ("forwards", "backwards", "nonfinite", "flat")}
        merged = old.where(self._prefer(new, old), new).put(**total)
        self.result = Rows(**{k: getattr(self.result, k).index_copy(0, i, getattr(merged, k)) for k in merged})
        enough = new.won & ((new.size <= self.batch.eps[i]) | (not self.minimal))
        last = (new.job + 1 == self.jobs) | self.in_turn[i] & enough
        turn = self.in_turn[i]
        for image, job, through in zip(i[turn].tolist(), new.job[turn].tolist(), last[turn].tolist(), strict=True):
            self.turns.passed(image, job, through)
        return int(last.sum())

    def _prefer(self, new: Rows, old: Rows) -> Tensor:
        """(B,) is the new job's point better? Better quality first, then the lower job number: order of arrival is
        no reason.
        """
        keys = [(-new.margin, -old.margin), (new.job, old.job)]
        if self.minimal:
            keys = [(~new.won, ~old.won), (new.size, old.size), (new.job, old.job)]
        better, tied = torch.zeros_like(new.won), torch.ones_like(new.won)
        for mine, theirs in keys:
            better = better | tied & (mine < theirs)
            tied = tied & (mine == theirs)
        return better | (old.job < 0)

    def run(self, slots: int, progress: Callable[[int], None] | None) -> Outcome:
        none = torch.zeros(0, dtype=torch.int64, device=self.batch.clean.device)
        live = _Live(self.batch, none, none, self.seed)
        poll = CUDA_POLL if self.batch.clean.device.type == "cuda" else 1
        tick, asks_first = 0, bool(getattr(self.method, "settled", False)) or not self.total
        while len(live) or self.turns:
            room = len(live)
            self.refill(live, slots)
            if asks_first and len(live) > room:  # the first point may have been enough
                self.drop_finished(live, progress)
                if not len(live):
                    continue
            last = live.job.t.amax()
            state = self.method.advance(self.query(live), live.state)
            live.state, live.job = state, live.job.put(t=live.job.t + 1)
            tick += 1
            if tick % poll == 0 or int(last) + 1 >= self.total:
                self.drop_finished(live, progress)
        return self.outcome()

    def drop_finished(self, live: _Live, progress: Callable[[int], None] | None) -> None:
        """Retire rows that have run to the end, won (where a first success is all that is wanted) or spent everything."""
        ended = getattr(self.method, "done", None)
        out = live.job.t >= self.total
        unseen = ~live.best.broke & (not getattr(self.method, "settled", False))
        if ended is not None:
            over = ended(self.query(live), live.state)
            out, unseen = out | over, unseen & ~(over & live.best.won)
        out = out | live.best.broke
        unseen = unseen & out
        if self.minimal:  # nothing is nearer than the clean image; with a budget, inside it is near enough
            near = live.job.eps.where(torch.isfinite(live.job.eps) & (self.stop == "success"), 0.0)
            out = out | live.best.won & (live.best.size <= near)
        elif self.stop == "success":
            out, unseen = out | live.best.won, unseen & ~live.best.won
        if bool(out.any()):
            if bool(unseen.any()):
                self.score_last(live, unseen.nonzero()[:, 0])
            settled = self.retire(live, out.nonzero()[:, 0])
            if progress:
                progress(settled)
            if self.turns.ahead:  # jobs that ran ahead for nothing
                needless = [self.turns.is_settled(i) for i in live.job.image.tolist()]
                out = out | torch.tensor(needless, device=out.device)
            live.keep((~out).nonzero()[:, 0])

    def outcome(self) -> Outcome:
        r, batch = self.result, self.batch
        size = distance(r.x - batch.clean, batch.norm)
        inside = within(r.x - batch.clean, batch.eps, batch.norm)
        if not self.minimal and not bool(inside.all()):
            raise AssertionError(f"{type(self.method).__name__} left its ball: a bug, please report it")
        return Outcome(
            x=r.x,
            success=r.won & inside,
            margin=r.margin,
            distance=size,
            forwards=r.forwards,
            backwards=r.backwards,
            job=r.job,
            first_hit=r.first,
            best_hit=r.hit,
            nonfinite_gradients=r.nonfinite,
            zero_gradients=r.flat,
        )


def run(
    method: Method,
    victim: Victim,
    batch: Batch,
    *,
    restarts: int = 1,
    stop: Stop = "success",
    slots: int = 64,
    seed: int = 0,
    reparam: Reparametrisation | None = None,
    queries: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Outcome:
    """Attack every image of ``batch``; see ``Batch`` and ``Outcome`` for shapes.

    ``stop``: "success" ends an image at its first success (deterministic targets); "never" spends the whole budget
    and keeps the highest margin (transfer, oblivious and randomised seats). Minimum-norm methods run on; with a finite
    eps and "success" they end where they find a point inside it, and only such a point is a success. ``queries``:
    forwards an image may spend, shared evenly by its jobs; what it cannot pay for does not count.
    """
    with torch.no_grad():
        return _Loop(method, victim, batch, restarts, stop, seed, reparam, queries).run(slots, progress)


def cost_per_image(method: Method, victim: Victim, jobs: int, targeted: bool, values: int) -> tuple[int, int]:
    """(forwards, backwards) of an image of so many ``values`` that survives everything. ``asks`` and ``derives`` of a method say how many
    answers and gradients a step takes where that is not one; ``classes``: gradients of a step without a target; ``opening``:
    (forwards, backwards) of the start; ``longest(values)``: iterations, where the image limits them."""
    steps = int(getattr(method, "iterations", method.steps))
    if longest := getattr(method, "longest", None):
        steps = min(steps, longest(values))
    last = 0 if getattr(method, "settled", False) else victim.score_cost
    opening = getattr(method, "opening", (0, 0))
    if method.needs is Access.GRADIENT:
        derives = int(getattr(method, "derives", 1 if targeted else getattr(method, "classes", 1)))
        return jobs * ((steps + opening[0]) * victim.cost + last), jobs * (steps * derives + opening[1]) * victim.cost
    if method.needs is Access.NONE:
        return 0, 0
    asked = (steps * int(getattr(method, "asks", 1)) + opening[0]) * victim.score_cost + last
    return jobs * min(asked, getattr(method, "queries", asked)), 0
