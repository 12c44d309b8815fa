"""The one loop: continuous batching of jobs (image, restart, target) through any method.

``slots`` rows are live; a free slot is refilled from the queue. **The Law**: an image's answer does not depend on
slots, order, neighbours, sharding or resume: noise is keyed by image, every step is row-wise, and the choice among
an image's jobs is by (quality, job number), never by arrival.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attacks.engine.jobs import Turns, waves
from sparring.attacks.engine.outcome import Batch, Outcome, RunOptions
from sparring.attacks.method import Method
from sparring.attacks.query import Ledger, Query
from sparring.core.columns import STOPS
from sparring.core.geometry import Ball, Norm, distance, within
from sparring.core.noise import Noise
from sparring.core.rows import Rows
from sparring.core.victim import Access, Goal, Victim

UNLIMITED = 2**62
POLL = {"cuda": 4}  # by device: after how many steps finished rows are looked for; each look is a device sync


@dataclass(frozen=True)
class Aim:
    """What is aimed at, and how often. ``norm`` of the balls, eps (N,); targets (N,T) classes to aim at, one job each, or None;
    ``must_hit``: only reaching the target counts; ``restarts`` of each target.
    """

    norm: Norm
    eps: Tensor
    targets: Tensor | None = None
    must_hit: bool = False
    restarts: int = 1


class _Live:
    """The rows in flight: their jobs, the attack's state and what the ledger has written down."""

    def __init__(self, batch: Batch, aim: Aim, image: Tensor, job: Tensor, seed: int) -> None:
        count, device = len(image), batch.clean.device
        target = image if aim.targets is None else aim.targets[image, job % aim.targets.shape[1]]
        self.job = Rows(
            image=image,
            number=job,
            clean=batch.clean[image],
            label=batch.label[image],
            target=target,
            eps=aim.eps[image],
            t=torch.zeros(count, dtype=torch.int64, device=device),
            stream=Noise.of(seed, "attack", batch.keys[image], job).key,
        )
        self.over = torch.zeros_like(image).bool()  # finished, and not looked for yet
        self.best: Rows = Outcome.unseen(batch.clean[image]).put(broke=torch.zeros_like(image).bool())
        self.state = Rows()

    def __len__(self) -> int:
        return len(self.job)

    def join(self, other: _Live) -> None:
        self.over = torch.cat([self.over, other.over])
        if len(self.job) == 0:
            self.job, self.best, self.state = other.job, other.best, other.state
            return
        self.job, self.best, self.state = (
            Rows.cat([a, b])
            for a, b in zip((self.job, self.best, self.state), (other.job, other.best, other.state), strict=True)
        )

    def keep(self, index: Tensor) -> None:
        self.job, self.best, self.state = self.job.keep(index), self.best.keep(index), self.state.keep(index)
        self.over = self.over[index]


class _Loop:
    """One engine call. Holds what is constant over it, the per-image results and the queue."""

    def __init__(self, method: Method, victim: Victim, batch: Batch, aim: Aim, options: RunOptions) -> None:
        self.method, self.victim, self.batch, self.aim = method, victim, batch, aim
        self.stop, self.seed, self.reparam, self.progress = (
            options.stop,
            options.seed,
            options.reparam,
            options.progress,
        )
        self.minimal = method.goal is Goal.MINIMAL
        self.total = method.iterations
        self.jobs = aim.restarts * (1 if aim.targets is None else aim.targets.shape[1])
        own = None if method.query_cap is None else torch.full_like(batch.label, method.query_cap)
        shared = None if batch.queries is None else batch.queries // self.jobs
        caps = [c for c in (own, shared) if c is not None]
        self.purse = torch.stack(caps).amin(0) if caps else None  # (N,) forwards that a job of each image may spend
        self.result = Outcome.unseen(batch.clean)
        # where a first success is all that is wanted an image's next job waits for the last one's failure
        self.in_turn = torch.full_like(self.result.success, self.stop == "success")
        if self.minimal:
            self.in_turn = self.in_turn & torch.isfinite(aim.eps)
        self.turns = Turns(len(batch), self.jobs, self.in_turn.tolist())

    def query(self, live: _Live) -> Query:
        job, batch = live.job, self.batch
        zero = torch.zeros_like(job.t)

        def observe(point: Tensor, margin: Tensor) -> None:
            best = live.best
            if point.dim() == 5:
                point, margin = self.best_of(point, margin, job.clean)
            won = (margin > 0) & (margin >= self.method.confidence)
            size = distance(point - job.clean, self.aim.norm) if self.minimal else best.distance
            if self.minimal:
                better = torch.where(best.success, won & (size < best.distance), won | (margin > best.margin))
            elif self.stop == "success":
                better = ~best.success & (margin > best.margin)
            else:
                better = margin > best.margin
            now = live.job.t
            seen = Rows(x=point, margin=margin, distance=size, success=won, best_hit=torch.where(won, now, -1))
            live.best = best.where(better, seen).put(
                first_hit=torch.where(won & (best.first_hit < 0), now, best.first_hit),
                margin_start=torch.where(best.margin_start.isnan(), margin, best.margin_start),
                margin_middle=torch.where(now <= self.total // 2, margin, best.margin_middle),
                margin_end=margin,
            )

        def spend(forwards: int | Tensor, backwards: int | Tensor, unit: int) -> Tensor:
            paid, spent = torch.zeros_like(live.best.forwards) + forwards, live.best.forwards
            if self.purse is not None:
                purse = self.purse[job.image]
                paid = torch.minimum(paid, (purse - spent).clamp_min(0) // unit * unit)
                live.best = live.best.put(broke=live.best.broke | (spent + paid + unit > purse))
            live.best = live.best.put(forwards=spent + paid, backwards=live.best.backwards + backwards)
            return paid

        def left() -> Tensor:
            if self.purse is None:
                return torch.full_like(live.best.forwards, UNLIMITED)
            return self.purse[job.image] - live.best.forwards

        def note_gradient(grad: Tensor) -> None:
            best, total = live.best, grad.flatten(1).abs().sum(1)
            live.best = best.put(
                nonfinite_gradients=best.nonfinite_gradients + ~torch.isfinite(total),
                zero_gradients=best.zero_gradients + (total == 0),
                gradient_end=total.float(),
            )

        return Query(
            clean=job.clean,
            label=job.label,
            target=None if self.aim.targets is None else job.target,
            ball=Ball(self.aim.norm, job.eps, None if batch.mask is None else batch.mask[job.image]),
            t=job.t,
            _victim=self.victim,
            _stream=Noise(job.stream, zero, zero, batch.keys[job.image]),
            _ledger=Ledger(observe, spend, note_gradient, left, capped=self.purse is not None),
            must_hit=self.aim.must_hit,
            reparam=self.reparam,
            start=None if batch.start is None else batch.start[job.image],
        )

    def best_of(self, points: Tensor, margin: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        """The one of a row's candidates (B,k,C,H,W) to write down: the nearest winner of a minimum-norm attack, else the
        largest margin."""
        rank = margin
        if self.minimal:
            size = distance((points - clean[:, None]).flatten(0, 1), self.aim.norm).unflatten(0, margin.shape)
            won = (margin > 0) & (margin >= self.method.confidence)
            rank = torch.where(won.any(1)[:, None], torch.where(won, -size, -torch.inf), margin)
        index = torch.arange(len(points), device=points.device), rank.argmax(1)
        return points[index], margin[index]

    def refill(self, live: _Live, slots: int) -> None:
        room = slots - len(live)
        taken = self.turns.take(room)
        if not taken:
            return
        jobs = torch.tensor(taken, device=self.batch.clean.device)
        new = _Live(self.batch, self.aim, jobs[:, 0], jobs[:, 1], self.seed)
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
            rows.best = rows.best.put(x=rows.state.x, distance=distance(rows.state.x - rows.job.clean, self.aim.norm))
        live.best = live.best.paste(index, rows.best)

    def retire(self, live: _Live, index: Tensor) -> int:
        """Write finished rows into their images' results; returns how many images are settled."""
        done = live.best.keep(index).put(job=live.job.number[index], image=live.job.image[index])
        return sum(self.settle(wave) for wave in waves(done))

    def settle(self, done: Rows) -> int:
        """Merge one finished job each of different images; returns how many images are through."""
        i = done.image
        new = Rows(**{k: v for k, v in done.items() if k not in ("image", "broke")})
        old = self.result.keep(i)
        merged = old.merged(new, self._prefer(new, old))
        self.result = self.result.paste(i, merged)
        enough = new.success & ((new.distance <= self.aim.eps[i]) | (not self.minimal))
        last = (new.job + 1 == self.jobs) | self.in_turn[i] & enough
        again = self.in_turn[i] & ~last
        for image, job in zip(i[again].tolist(), new.job[again].tolist(), strict=True):
            self.turns.failed(image, job)
        return int(last.sum())

    def _prefer(self, new: Rows, old: Rows) -> Tensor:
        """(B,) is the new job's point better? Better quality first, then the lower job number: order of arrival is
        no reason.
        """
        keys = [(-new.margin, -old.margin), (new.job, old.job)]
        if self.minimal:
            keys = [(~new.success, ~old.success), (new.distance, old.distance), (new.job, old.job)]
        better, tied = torch.zeros_like(new.success), torch.ones_like(new.success)
        for mine, theirs in keys:
            better = better | tied & (mine < theirs)
            tied = tied & (mine == theirs)
        return better | (old.job < 0)

    def run(self, slots: int) -> Outcome:
        none = torch.zeros(0, dtype=torch.int64, device=self.batch.clean.device)
        live = _Live(self.batch, self.aim, none, none, self.seed)
        poll = POLL.get(self.batch.clean.device.type, 1)
        tick = oldest = 0  # steps; those that the oldest row has had, known without a look at the device
        asks_first = self.method.settled or not self.total
        while len(live) or self.turns:
            room = len(live)
            self.refill(live, slots)
            if asks_first and len(live) > room:  # the first point may have been enough
                self.drop_finished(live)
                if not len(live):
                    continue
            self.advance(live, frozen=poll > 1)
            tick, oldest = tick + 1, oldest + 1
            if (tick % poll == 0 or oldest >= self.total) and self.drop_finished(live):
                oldest = int(live.job.t.amax()) if len(live) else 0
        return self.outcome()

    def advance(self, live: _Live, frozen: bool) -> None:
        """One step of the method. ``frozen``: rows that are over, and still here until the next look, stay as they were and pay nothing."""
        best, state, t = live.best, live.state, live.job.t
        live.state = self.method.advance(self.query(live), state)
        if frozen:
            live.best, live.state = live.best.where(live.over, best), live.state.where(live.over, state)
            live.job = live.job.put(t=torch.where(live.over, t, t + 1))
            live.over = live.over | self.finished(live)[0]
        else:
            live.job = live.job.put(t=t + 1)

    def finished(self, live: _Live) -> tuple[Tensor, Tensor, Tensor]:
        """(B,) bool: rows that have run to the end, won (where a first success is all that is wanted) or spent everything; why; and those of them whose
        last point was never looked at.
        """
        out = live.job.t >= self.total
        why = torch.where(out, STOPS.index("steps"), -1)
        unseen = ~live.best.broke & (not self.method.settled)
        over = self.method.done(self.query(live), live.state)
        if over is not None:
            out, unseen = out | over, unseen & ~(over & live.best.success)
            why = torch.where(over, STOPS.index("method"), why)
        out = out | live.best.broke
        why = torch.where(live.best.broke, STOPS.index("queries"), why)
        unseen = unseen & out
        if self.minimal:  # nothing is nearer than the clean image; with a budget, inside it is near enough
            near = live.job.eps.where(torch.isfinite(live.job.eps) & (self.stop == "success"), 0.0)
            won = live.best.success & (live.best.distance <= near)
        else:
            won = live.best.success & (self.stop == "success")
            unseen = unseen & ~won
        return out | won, torch.where(won, STOPS.index("success"), why), unseen

    def drop_finished(self, live: _Live) -> bool:
        """Retire rows that are over; were there any?"""
        out, why, unseen = self.finished(live)
        if not bool(out.any()):
            return False
        live.best = live.best.put(stopped=why)
        if bool(unseen.any()):
            self.score_last(live, unseen.nonzero()[:, 0])
        settled = self.retire(live, out.nonzero()[:, 0])
        if self.progress:
            self.progress(settled)
        live.keep((~out).nonzero()[:, 0])
        return True

    def outcome(self) -> Outcome:
        clean, result = self.batch.clean, self.result
        inside = within(result.x - clean, self.aim.eps, self.aim.norm)
        if not self.minimal and not bool(inside.all()):
            raise AssertionError(f"{type(self.method).__name__} left its ball: a bug, please report it")
        size = distance(result.x - clean, self.aim.norm)
        return result.put(success=result.success & inside, distance=size)


def run(method: Method, victim: Victim, batch: Batch, aim: Aim, options: RunOptions) -> Outcome:
    """Attack every image of ``batch``. Minimum-norm methods run on after a success; with a finite eps and ``stop`` "success" they end where
    they find a point inside it, and only such a point is a success. A batch's ``queries`` are shared evenly by an image's jobs.
    """
    with torch.no_grad():
        return _Loop(method, victim, batch, aim, options).run(options.slots)


def cost_per_image(method: Method, victim: Victim, jobs: int, targeted: bool, values: int) -> tuple[int, int]:
    """(forwards, backwards) of an image of so many ``values`` that survives everything, from what the method declares."""
    steps = method.iterations_of(values)
    last = 0 if method.settled else victim.score_cost
    opening, cap = method.opening, method.query_cap
    if method.needs is Access.GRADIENT:
        gradients = steps * method.gradients(targeted)
        return jobs * ((steps + opening[0]) * victim.cost + last), jobs * (gradients + opening[1]) * victim.cost
    if method.needs is Access.NONE:
        return 0, 0
    asked = (steps * method.asks + opening[0]) * victim.score_cost + last
    return jobs * (asked if cap is None else min(asked, cap)), 0
