"""T1, T2: who does not know the defense, and what it does to an attack that went through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from sparring.core.errors import SparringError
from sparring.core.registry import suggest
from sparring.core.victim import Access, Victim
from sparring.defenses.base import Defended, defense
from sparring.threats.base import Options, Seat, View, threat_kind
from sparring.threats.white import by_identity, through


@threat_kind(
    "oblivious", grants=Access.GRADIENT, pictured=True, shows="what is left of attacks that ignore the defense"
)
def oblivious(
    defended: Defended,
    others: Sequence[Defended],
    options: Options,
    drop: str = "",
    stop: Literal["never", "first"] = "never",
) -> Seat:
    """T1: gradients of the classifier without its defense; run to the end; judged with the defense. ``drop``: the one
    stage the attacker does not know of (``drop=shift``); default: all of them. ``stop=first``: it stops at the first point that fools the bare
    classifier, as the early libraries did, which any small change of an image undoes.
    """
    unknown = {i for i, s in enumerate(defended.stages) if s.name == drop}
    if drop and defended.stages and not unknown:
        raise SparringError(
            f"oblivious: {defended.name} has no stage {drop!r}{suggest(drop, [s.name for s in defended.stages])}"
        )
    bare = defended.drop(unknown if drop else None)
    victim = Victim((bare.system(),), Access.GRADIENT, amp=options.amp)
    return Seat(
        "",
        (View("default", victim),),
        Access.GRADIENT,
        "success" if stop == "first" and not bare.random else "never",
        defended.system(),
        f"{defended.name} without {drop}" if drop else "classifier without its defense",
    )


@threat_kind("bait", grants=Access.GRADIENT, shows="whether points made through the defense fool the bare classifier")
def bait(
    defended: Defended,
    others: Sequence[Defended],
    options: Options,
    behind: str = "none",
    backward: Literal["declared", "identity", "x"] = "declared",
) -> Seat:
    """T2: gradients through the defense, which is then removed, or replaced by that of ``behind`` (a spec), and judged so. ``backward``: what each
    stage declares, the identity, or (x) the identity with the network's gradient at the image itself, as ``white-identity:at=x``. Not pooled.
    """
    at: Literal["output", "x"] = "x" if backward == "x" else "output"
    seat = through(defended, {}, options) if backward == "declared" else by_identity(defended, options, at)
    judge = defense(behind).install(defended.drop()).system()
    return replace(seat, stop="never", judge=judge, pooled=False)
