"""A cell of the grid and its runs: one attack from one seat, and what makes its points."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Literal

from sparring.attacks.attack import Attack
from sparring.core.code import code_of
from sparring.core.victim import Access, Goal
from sparring.evaluation.records.provenance import code_hash
from sparring.threats import Seat, Threat, View


@dataclass(frozen=True)
class Run:
    """One attack on one source: what makes points. ``id`` hashes everything that can change them. ``warm``: the run whose points
    a decision attack begins at. ``among``: ids of the images that are attacked, None: all. ``on_from``: the run that stopped at its first success
    where this one goes on; where that one found none, this one would take the same way.
    """

    id: str
    view: View
    attack: Attack
    stop: Literal["success", "never"]
    seed: int
    white: bool
    queries: int | None = None
    warm: Run | None = None
    among: frozenset[str] | None = None
    on_from: str = ""

    def cost(self, classes: int, values: int) -> tuple[int, int]:
        """(forwards, backwards) of an image of so many values that survives everything."""
        forwards, backwards = self.attack.cost(self.view.victim, classes, values)
        return min(forwards, self.queries or forwards), backwards


@dataclass(frozen=True)
class Cell:
    """One entry of the product. Its rows come from judging its runs' points on ``seat.judge``. ``check``: the check that asked for it."""

    defense: str
    threat: Threat
    attack: Attack
    seat: Seat
    runs: tuple[Run, ...]
    check: str = ""


def runs_of(seat: Seat, attack: Attack, seed: int) -> list[Run]:
    """One run a view and repeat."""
    found, code = [], (code_hash(), code_of(type(attack.method)))
    for view in seat.views:
        if view.reparam is not None and not (
            attack.method.reparametrizes and attack.method.goal is not Goal.MINIMAL and attack.norm == "linf"
        ):
            continue  # level reparametrisation is defined on linf balls, and nothing that another library could be told
        for repeat in range(seat.repeats):
            own = seed + 1_000_003 * repeat
            blind = attack.method.needs is Access.NONE
            source = "blind" if blind else view.id
            key = (str(attack), source, seat.stop, own, _resolved(attack), seat.queries, code)
            digest = hashlib.sha256(repr(key).encode()).hexdigest()[:20]
            white = seat.stop == "success" and view.victim.systems[0].frozen is None
            found.append(
                Run(
                    digest,
                    view if seat.repeats == 1 else replace(view, draw=repeat),
                    attack,
                    seat.stop,
                    own,
                    white,
                    seat.queries,
                )
            )
    return found


def _resolved(attack: Attack) -> dict[str, Any]:
    return {**vars(attack.method), **vars(attack.setting)}
