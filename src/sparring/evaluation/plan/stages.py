"""Stages: who attacks first, where every attack looks only at the images that those before it left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from sparring.attacks.method import Kind
from sparring.core.victim import Access, Goal
from sparring.evaluation.plan.cell import Cell, runs_of

ORDER: tuple[Kind, ...] = ("iterative", "single step", "blind", "query", "transfer")
assert set(ORDER) == set(get_args(Kind))


def in_stages(cells: Sequence[Cell], seed: int) -> list[Cell]:
    """Cells in the order in which they run: gradient attacks of whoever inherits most points, then of the others, then what knows or does less;
    smaller balls before larger ones, whose pools hold their points; what begins at other points last.

    A cell whose attacks would go on to their end comes after one that stops at the first success: where that point fools the deployed system as well,
    the rest is spared.
    """

    def turn(cell: Cell) -> tuple[bool, int, int, float, bool]:
        kind = ORDER.index(cell.attack.method.kind)
        goes_on = any(run.on_from for run in cell.runs)
        return bool(cell.seat.warm), kind, -len(cell.threat.kind.dominated), cell.attack.budget, goes_on

    return sorted((part for cell in cells for part in _nearest_first(cell, seed)), key=turn)


def looks_at_survivors(cell: Cell) -> bool:
    """May images be spared in a cell? Not where its points are averaged or join no pool, nor without a ball: there every image has its own number."""
    return cell.seat.pooled and not cell.seat.averaged and math.isfinite(cell.attack.budget) and not cell.check


def _nearest_first(cell: Cell, seed: int) -> list[Cell]:
    seat, method = cell.seat, cell.attack.method
    late = seat.stop == "never" and method.goal is not Goal.MINIMAL and method.needs is not Access.NONE
    random = seat.judge.random or any(v.victim.random for v in seat.views)
    if not late or random or not looks_at_survivors(cell):
        return [cell]
    near = runs_of(replace(seat, stop="success"), cell.attack, seed)
    far = (replace(run, on_from=first.id) for first, run in zip(near, cell.runs, strict=True))
    return [replace(cell, seat=replace(seat, stop="success"), runs=tuple(near)), replace(cell, runs=tuple(far))]
