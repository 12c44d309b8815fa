"""The ring: runs a plan block by block and writes down what the judge says; anything already on disk is skipped."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial

import pyarrow as pa
import torch
from torch import Tensor

from sparring.attacks.engine import Batch, Outcome, RunOptions
from sparring.core.columns import STOPS
from sparring.core.system import System
from sparring.core.victim import Goal
from sparring.evaluation.plan.cell import Cell, Run
from sparring.evaluation.plan.grid import Plan
from sparring.evaluation.plan.partition import Partition
from sparring.evaluation.records.claims import Claims
from sparring.evaluation.records.rows import table_of
from sparring.evaluation.records.store import Store
from sparring.evaluation.results.table import CLEAN
from sparring.evaluation.run.lattice import lattice_points
from sparring.evaluation.run.pace import Pace, Progress
from sparring.evaluation.run.scorer import SPARED, Scorer
from sparring.evaluation.run.survivors import Survivors
from sparring.subject import Subject

WAIT = 0.5  # seconds between two looks at what others are at


class Ring:
    """Runs a plan block by block: each run attacks the block's images once, each cell judges the points on its
    system.
    """

    def __init__(
        self,
        subject: Subject,
        plan: Plan,
        store: Store,
        slots: int,
        blocks: Partition,
        progress: Progress | None,
        floats: bool = False,
    ) -> None:
        self.subject, self.plan, self.store, self.slots, self.blocks = subject, plan, store, slots, blocks
        self.floats = floats  # keep every point as it was judged
        count = len(subject.images)
        worst = {r.id: max(1.0, sum(plan.cost_of(r))) for r in plan.runs.values()}
        early = {r.id: r.stop == "success" and r.attack.method.goal is not Goal.MINIMAL for r in plan.runs.values()}
        judged = sum(self._judge_cost(c, count) * len(c.runs) for c in plan.cells)
        alike = {r.id: (str(r.attack), early[r.id]) for r in plan.runs.values()}
        self.pace = Pace(count, worst, early, judged, progress, alike)
        self.scorer = Scorer(subject, plan.judge)
        self.survivors = Survivors(plan)
        self.judged: dict[int, list[pa.Table]] = {}  # rows of a block by the number of their cell
        self.device = self.scorer.device

    def go(self, claims: Claims | None = None, done: Collection[str] = ()) -> None:
        """Attack and judge what is not on disk. With ``claims``: beside others, and then, once nobody is at it, all that they made or left when they
        died. ``done``: blocks that others of this command were seen to end.
        """
        if claims is not None:
            self.help(claims)
        left = [rows for rows in self.blocks.slices if self.blocks.id(rows) not in done]
        while left:
            for rows in list(left):
                with claims.taken(self.blocks.id(rows)) if claims else nullcontext(True) as mine:
                    if mine:
                        self._block(rows)
                        left.remove(rows)
            if left:
                self.pace.say("waiting for the other workers")
                time.sleep(WAIT)

    def help(self, claims: Claims, first: int = 0) -> None:
        """Attack and judge, from the block of number ``first`` on, what nobody has made or is at."""
        slices = self.blocks.slices
        for rows in (*slices[first:], *slices[:first]):
            name = self.blocks.id(rows)
            if claims.finished(name):
                continue
            with claims.taken(name) as mine:
                if mine:
                    self._block(rows)
                    claims.finish(name)

    def attend(self, rows: slice, claims: Claims) -> None:
        """Attack and judge a block that was given to this process alone: whoever is said to be at it has died."""
        with claims.taken(self.blocks.id(rows)):
            self._block(rows)

    def claims(self) -> Claims:
        """Who is at which block of this plan."""
        return Claims(self.store.folder, hashlib.sha256("".join(self.cells).encode()).hexdigest()[:20])

    @property
    def cells(self) -> list[str]:
        """What rows of this plan are filed under."""
        return [*(self._clean_name(d) for d in self.subject.systems), *map(self._name, self.plan.cells)]

    def _block(self, rows: slice) -> None:
        for defended in self.subject.systems:
            self._judge_clean(defended, rows)
        # rows of points that had to be made again are judged again where these differ: a run's rows are all of the points beside them
        while sum(self._judge_cell(n, c, rows) for n, c in enumerate(self.plan.cells)) or self._anew(rows):
            self.judged.clear()
        self.scorer.forget()
        self.judged.clear()
        if not self.floats:
            for run in self.plan.runs.values():
                if math.isfinite(run.attack.budget):  # a nearest error is its float point
                    self.store.compact(run.id, self.blocks.id(rows))

    def _anew(self, rows: slice) -> bool:
        """Forget the points of runs that spared an image which is not broken; were there any?"""
        wronged = self.survivors.wronged(partial(self._rows_before, rows))
        for run in wronged:
            self.store.forget_points(run.id, self.blocks.id(rows))
        return bool(wronged)

    def _judge_cost(self, cell: Cell, images: int) -> float:
        """The judge's calls for so many points of one of a cell's runs."""
        return images * 2 * self.plan.judge.cost(cell.seat.judge)

    def _attack(self, run: Run, rows: slice, text: str) -> dict[str, Tensor]:
        block = self.blocks.id(rows)
        stored = self.store.points(run.id, block, exact=True)
        count = rows.stop - rows.start
        if stored is not None:
            self.pace.on_disk(run.id, rows)
            return stored
        x, y, keys = self.scorer.batch(rows)
        skip = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        if run.white:  # a deterministic white seat: what is wrong when clean needs no attack
            first = run.view.victim.systems[0]
            skip = ~self.plan.judge.score(System(first.network, first.parts, first.readout), x, y, keys).first
        done = 0

        def advance(settled: int) -> None:
            nonlocal done
            done += settled
            self.pace.settled(run.id, settled, text)

        spared = self._spared(run, rows).to(x.device) & ~skip
        live = ~skip & ~spared
        start = self._attack(run.warm, rows, text)["x"].to(x.device)[live] if run.warm else None
        batch = Batch(x[live], y[live], keys[live], start=start).capped(run.queries)
        options = RunOptions(run.stop, self.slots, run.seed, run.view.reparam, advance)
        outcome = run.attack.on(run.view.victim, batch, options)
        reason = torch.where(spared, SPARED, STOPS.index("wrong when clean"))
        # an image that is wrong when clean is its own adversarial point, found at once and for nothing
        wrong = {
            "success": skip,
            "job": 0 * y,
            "first_hit": 0 * y,
            "best_hit": 0 * y,
            "stopped": reason,
        }
        whole = Outcome.unseen(x).put(**wrong)
        full = dict(whole.items())
        for k, v in outcome.items():
            full[k][live] = v
        if self.subject.images.lattice:
            # a refined point may be pooled into any ball that holds its float point: it must not be further away
            bounded = run.attack.budget < float("inf")
            eps = torch.full_like(outcome.distance, run.attack.budget) if bounded else outcome.distance
            part = x[live], y[live], keys[live], eps, run.attack.norm, run.seed
            stored, forwards, backwards = lattice_points(run.view.victim, outcome, *part)
            full["x_8bit"] = (x * 255).round().to(torch.uint8)
            full["x_8bit"][live] = (stored * 255).round().to(torch.uint8)
            full["forwards"][live] += forwards
            full["backwards"][live] += backwards
        full = {k: v.cpu() for k, v in full.items()}
        calls, survivors = full["forwards"].sum() + full["backwards"].sum(), (~full["success"]).sum()
        self.store.put_points(run.id, block, full)
        self.pace.finished(run.id, rows, count - done, float(calls), int(survivors), text)
        return full

    def _spared(self, run: Run, rows: slice) -> Tensor:
        """(n,) bool: images that a run on survivors alone leaves as they are."""
        among = run.among if run.among is not None else self.survivors.left(run, partial(self._rows_before, rows))
        ids = self.subject.images.ids[rows]
        return torch.tensor([among is not None and i not in among for i in ids], dtype=torch.bool)

    def _rows_before(self, rows: slice, number: int) -> list[pa.Table]:
        """The rows of a block of the cell of this number, as far as they are made; of -1 those of the clean images."""
        if number not in self.judged:
            block = self.blocks.id(rows)
            names = (
                [self._clean_name(d) for d in self.subject.systems]
                if number < 0
                else [self._name(self.plan.cells[number])]
            )
            self.judged[number] = [self.store.rows(name, block) for name in names]
        return self.judged[number]

    def _judge_cell(self, number: int, cell: Cell, rows: slice) -> bool:
        """Make a block's rows of a cell, unless they are there; were they made?"""
        name = self._name(cell)
        text = f"{cell.defense} | {cell.threat} | {cell.attack}"
        block, cost = self.blocks.id(rows), self._judge_cost(cell, rows.stop - rows.start)
        if self.store.has_rows(name, block):
            for run in cell.runs:
                self.pace.on_disk(run.id, rows)
                self.pace.judge((name, run.id, rows.start), cost, text, made=False)
            return False
        self.pace.say(text)
        tables = self.judged[number] = list[pa.Table]()
        for run in cell.runs:
            points = self._attack(run, rows, text)
            tables.append(table_of(self.scorer.rows_of(cell, run, points, rows)))
            self.pace.judge((name, run.id, rows.start), cost, text)
        whole = tables
        if cell.seat.judged_elsewhere:
            whole = [*tables, table_of(self.scorer.clean_rows(cell.defense, cell.seat.judge, rows, deployed=False))]
        self.store.put_rows(name, block, pa.concat_tables(whole), tuple(r.id for r in cell.runs))
        return True

    def _name(self, cell: Cell) -> str:
        """What the rows of a cell are filed under."""
        runs = [r.id for r in cell.runs]
        return self._cell_id(cell.defense, str(cell.threat), str(cell.attack), cell.seat.judge, runs)

    def _clean_name(self, defense: str) -> str:
        """What the rows of the clean images are filed under."""
        return self._cell_id(defense, CLEAN, "none", self.subject.systems[defense].system(), [])

    def _judge_clean(self, name: str, rows: slice) -> None:
        system, cell = self.subject.systems[name].system(), self._clean_name(name)
        block = self.blocks.id(rows)
        if not self.store.has_rows(cell, block):
            self.store.put_rows(cell, block, table_of(self.scorer.clean_rows(name, system, rows)))

    def _cell_id(self, defense_text: str, threat_text: str, attack_text: str, system: System, runs: list[str]) -> str:
        key = json.dumps(
            [
                defense_text,
                threat_text,
                attack_text,
                system.id,
                system.frozen,
                runs,
                asdict(self.plan.judge),
            ]
        )
        return hashlib.sha256(key.encode()).hexdigest()[:20]
