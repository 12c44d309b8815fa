"""Which images of a run are worth a look: those that speak against its numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sparring.evaluation.results.table import RowTable
from sparring.evaluation.results.verdicts import Verdict

EXHIBITS = 6  # images of a system and threat whose pictures are stored


@dataclass(frozen=True)
class Exhibit:
    """An image of a system and threat, and the attack and run whose stored point of it is worth a look."""

    image: str
    attack: str
    run: str


def worth_a_look(
    rows: RowTable, verdicts: Iterable[Verdict], defenses: Iterable[str], threats: Iterable[str]
) -> dict[tuple[str, str], list[Exhibit]]:
    """Of each system and threat whose examples are worth a look, at most ``EXHIBITS`` images, each with the point that did most to it: those whose
    robustness a check doubts, then those that were broken, then the others, and last what is wrong without an attack.
    """
    doubted: dict[tuple[str, str], set[str]] = {}
    for verdict in verdicts:
        doubted.setdefault((verdict.defense, verdict.threat), set()).update(verdict.suspects)
    chosen: dict[tuple[str, str], list[Exhibit]] = {}
    for defense in defenses:
        clean = rows.clean(defense)
        wrong = clean & (rows["k"] == 0)
        for threat in (t for t in threats if rows.facts(t).pictured):
            at = np.flatnonzero(rows.where(defense=defense, threat=threat, averaged=False) & ~rows.spared)
            share = rows["k"][at] / np.maximum(1, rows["draws"][at])
            at = at[np.lexsort((rows["l2"][at], np.isinf(rows["eps"][at]), share))]
            images = rows.texts["image"].at(at)
            worst = np.sort(np.unique(images.numbers, return_index=True)[1])  # of each image its first, in that order
            at, images = at[worst], images.at(worst)
            suspect = images.among(doubted.get((defense, threat), ()))
            last = images.among(rows.at("image", wrong))
            first = at[np.lexsort((np.arange(len(at)), last, ~suspect))][:EXHIBITS]
            chosen[defense, threat] = [
                Exhibit(*(str(rows.at(name, int(row))) for name in ("image", "attack", "run"))) for row in first
            ]
    return chosen
