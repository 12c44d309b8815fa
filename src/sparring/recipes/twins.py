"""Cells where the attacker who knows the defense did less harm than the paper's: there the adaptive attack failed, and its number is no evidence of robustness."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sparring.evaluation.results.table import CLEAN
from sparring.recipes.expand import Seat
from sparring.recipes.numbers import Number, Replay
from sparring.recipes.recipe import Recipe


@dataclass(frozen=True)
class WeakTwin:
    """A cell, its numbers (means over seeds) under the paper's attacker and under who knows the defense, and the images behind each."""

    labels: tuple[str, ...]
    paper: float
    adaptive: float
    n_paper: int
    n_adaptive: int

    @property
    def flag(self) -> str:
        """What stands beside the number."""
        side = "above" if self.adaptive > self.paper else "below"
        return f"{side} {self.paper:.4g} of the paper's attacker: the adaptive attack failed"

    @property
    def line(self) -> str:
        """The cell and both numbers."""
        return f"{'/'.join(self.labels)}: {self.adaptive:.4g} (n = {self.n_adaptive}) under adaptive is {self.flag} (n = {self.n_paper})"


def weak_twins(recipe: Recipe, replay: Replay | None) -> list[WeakTwin]:
    """Those of a replay. The more a number is, the less the attack did: of a metric of robustness, and of a distance; of one minus a quotient it is
    the other way. Clean images have no attacker, and of a cell that names no threat nobody knows which way is worse.
    """
    cells: dict[tuple[str, ...], dict[Seat, list[Number]]] = {}
    for number in replay.numbers if replay else ():
        if number.threat not in (CLEAN, "") and not math.isnan(number.value):
            cells.setdefault(number.labels, {}).setdefault(number.seat, []).append(number)
    sign = -1 if recipe.cell and recipe.cell.complement else 1
    twins: list[WeakTwin] = []
    for labels, seats in cells.items():
        if len(seats) == 2:
            paper, adaptive = _mean(seats["paper"]), _mean(seats["adaptive"])
            if sign * (adaptive - paper) > 0:
                twins.append(WeakTwin(labels, paper, adaptive, seats["paper"][0].n, seats["adaptive"][0].n))
    return twins


def _mean(numbers: Sequence[Number]) -> float:
    return sum(x.value for x in numbers) / len(numbers)
