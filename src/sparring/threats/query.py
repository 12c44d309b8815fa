"""T11, T12: who may ask, for scores or for labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sparring.core.errors import SparringError
from sparring.core.ranges import Count, Draws
from sparring.core.victim import Access, Victim
from sparring.defenses.base import Defended
from sparring.threats.base import Options, Seat, View, threat_kind


@threat_kind("score", grants=Access.SCORES, over=("decision",), deployed=True, shows="what so many scores give away")
def score(
    defended: Defended, others: Sequence[Defended], options: Options, queries: Count = 1000, answers: Draws = 1
) -> Seat:
    """T11: scores of the deployed system, at most ``queries`` draws of it per image. ``answers``: draws of a random system
    averaged into one score.
    """
    return _black_box(defended, Access.SCORES, queries, answers)


@threat_kind("decision", grants=Access.LABEL, deployed=True, shows="what so many labels give away")
def decision(
    defended: Defended,
    others: Sequence[Defended],
    options: Options,
    queries: Count = 1000,
    answers: Draws = 5,
    warm: str = "",
) -> Seat:
    """T12: labels of the deployed system, at most ``queries`` draws of it per image. ``answers``: draws of a random system
    whose majority is believed, so that no point rests on one lucky draw. ``warm``: a threat of the same evaluation, such as
    transfer: attacks begin at the points of its first attack where these fool the target (PROTOCOL 4.2, D6).
    """
    return replace(_black_box(defended, Access.LABEL, queries, answers), warm=warm)


def _black_box(defended: Defended, access: Access, queries: int, answers: int) -> Seat:
    if min(queries, answers) < 1:
        raise SparringError("queries and answers must be at least 1")
    system = defended.system()
    victim = Victim((system,), access, answers=answers)
    stop = "never" if defended.random else "success"
    return Seat("", (View("default", victim),), access, stop, system, defended.name, queries=queries)
