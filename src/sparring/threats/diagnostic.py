"""T13, T14: what randomness hides. Diagnostics: nobody attacks like this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sparring.core.ranges import Draw, Draws
from sparring.core.system import System
from sparring.core.victim import Access, Victim
from sparring.defenses.base import Defended
from sparring.threats.base import Options, Seat, View, threat_kind


def _frozen(system: System, w: int) -> System:
    """The system with its randomness fixed at draw ``w``."""
    return replace(system, frozen=w, id=f"{system.id}/w{w}")


@threat_kind("fixed-w", grants=Access.GRADIENT, shows="what is left once the noise stands still")
def fixed_w(defended: Defended, others: Sequence[Defended], options: Options, w: Draw = 0) -> Seat:
    """T13 (diagnostic): the defense's randomness is frozen at draw ``w`` for attack and judge alike."""
    frozen = _frozen(defended.system(), w)
    victim = Victim((frozen,), Access.GRADIENT, amp=options.amp)
    return Seat(
        "",
        (View("default", victim),),
        Access.GRADIENT,
        "success",
        frozen,
        f"{defended.name} at w={w}",
        pooled=False,
    )


@threat_kind(
    "known-w",
    grants=Access.GRADIENT,
    over=("adaptive", "fixed-w"),
    shows="what is left once the judge's own draw is known",
)
def known_w(defended: Defended, others: Sequence[Defended], options: Options, draws: Draws = 10) -> Seat:
    """T14 (diagnostic): the attacker knows the draw that the judge will make (a leaked seed): ``draws`` times, mean
    accuracy. The lower envelope of every claim that rests on randomness.
    """
    judge = defended.system()
    views: list[View] = []
    for w in range(draws if defended.random else 1):
        for variant in defended.variants():
            victim = Victim((_frozen(variant.system, w),), Access.GRADIENT, 1, judge.readout.combine, options.amp)
            views.append(View(variant.name, victim, variant.reparam, _frozen(judge, w), w))
    source = f"{defended.name} with the judge's own draws"
    return Seat("", tuple(views), Access.GRADIENT, "success", judge, source, pooled=False, averaged=True)
