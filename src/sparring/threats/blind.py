"""T0: who asks nothing."""

from __future__ import annotations

from collections.abc import Sequence

from sparring.core.ranges import Draws
from sparring.core.victim import Access, Victim
from sparring.defenses.base import Defended
from sparring.threats.base import Options, Seat, View, threat_kind


@threat_kind("noise", grants=Access.NONE, shows="what chance alone does, mean over draws")
def noise(defended: Defended, others: Sequence[Defended], options: Options, draws: Draws = 10) -> Seat:
    """T0: no access; random noise, ``draws`` fresh draws per image, mean accuracy. Nothing is pooled."""
    victim = Victim((defended.system(),), Access.NONE)
    return Seat(
        "",
        (View("default", victim),),
        Access.NONE,
        "never",
        defended.system(),
        "none",
        pooled=False,
        averaged=True,
        repeats=draws,
    )
