"""Survivors: which images of a block a run has still to attack, by the rows of all that ran before it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparring.evaluation.plan.cell import Cell, Run
from sparring.evaluation.plan.grid import Plan
from sparring.evaluation.plan.stages import looks_at_survivors
from sparring.evaluation.results.closed import pool_mask
from sparring.evaluation.results.table import RowTable

Judged = Callable[
    [int], list[pa.Table]
]  # the rows of a block that a cell, by its number, has until now; -1: the clean images


class Survivors:
    """What a plan on survivors spares. An image's answer depends on its own rows alone: it is the same in any block, and on resume."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.facts = {str(c.threat): c.threat.facts() for c in plan.cells}
        self.cells: dict[str, list[Cell]] = {}  # by run those that judge its points
        self.before: dict[
            str, tuple[int, tuple[str, ...]]
        ] = {}  # the cell that asks for it first, and the runs of that before it
        for number, cell in enumerate(plan.cells):
            for at, run in enumerate(cell.runs):
                self.cells.setdefault(run.id, []).append(cell)
                self.before.setdefault(run.id, (number, tuple(r.id for r in cell.runs[:at])))

    def left(self, run: Run, judged: Judged) -> frozenset[str] | None:
        """Ids of the images that a run attacks, None: all. A run of several cells attacks what any of them needs."""
        if not self._looks_at_survivors(run):
            return None
        number, own = self.before[run.id]
        tables = [t for i in range(-1, number) for t in judged(i)]
        tables += [t.filter(pc.field("run").isin(list(own))) for t in judged(number)] if own else []
        return self._left(run, RowTable(pa.concat_tables(tables), threats=self.facts))

    def wronged(self, judged: Judged) -> list[Run]:
        """Runs that spared an image which all rows together show to be unbroken: rows before them were lost, and came out otherwise when they
        were made again. What breaks an image once breaks it whatever is added, so all rows may be asked at once.
        """
        runs = [run for run in self.plan.runs.values() if self._looks_at_survivors(run)]
        if not runs:
            return []
        tables = [t for i in range(-1, len(self.plan.cells)) for t in judged(i)]
        rows = RowTable(pa.concat_tables(tables), threats=self.facts)
        spared = {run.id: set(rows.at("image", rows.where(run=run.id) & rows.spared).tolist()) for run in runs}
        return [run for run in runs if spared[run.id] and self._misses(run, rows, spared[run.id])]

    def _misses(self, run: Run, rows: RowTable, spared: set[str]) -> bool:
        left = self._left(run, rows)
        return left is None or bool(left & spared)

    def _looks_at_survivors(self, run: Run) -> bool:
        return self.plan.survivors and all(map(looks_at_survivors, self.cells[run.id]))

    def _left(self, run: Run, rows: RowTable) -> frozenset[str] | None:
        alive = [self._alive(cell, rows) for cell in self.cells[run.id]]
        left = None if None in alive else frozenset[str]().union(*(a for a in alive if a))
        if not run.on_from:
            return left
        near = frozenset(rows.at("image", rows.where(run=run.on_from, source_fooled=True)).tolist())
        return near if left is None else left & near

    @staticmethod
    def _alive(cell: Cell, rows: RowTable) -> frozenset[str] | None:
        """Ids of the images that a cell's closed pool leaves, on the 8-bit lattice as well; None: all, where nothing was attacked yet, and by
        gradients on a random system, whose worst point none can be sure to have.
        """
        number = cell.defense, str(cell.threat), cell.attack.norm, cell.attack.budget
        mask, clean = pool_mask(rows, *number), rows.clean(cell.defense)
        random = bool(rows["random"][clean].any())
        if not (mask & ~clean).any() or (random and cell.attack.method.kind == "iterative"):
            return None
        worst = rows.pick(mask)
        stored = np.nan_to_num(worst.p_8bit) if not random else np.zeros(len(worst.images))
        return frozenset(i for i, p, q in zip(worst.images, worst.p_select, stored, strict=True) if p > 0 or q > 0)
