"""P16 goal."""

from __future__ import annotations

from sparring.attacks.attack import attack
from sparring.checks.base import Answer, Context, check
from sparring.checks.controls import context


@check(
    "P16",
    "goal",
    "A",
    "FAIL",
    fires=lambda: context(attacks=[attack("pgd:eps=8/255,steps=3,target=least")]),
    silent=context,
)
def goal(c: Context) -> list[Answer]:
    """Raised if: every attack aims at a class (target=) or is kept to some of the pixels (mask=).

    Why: the number that is reported is of an attacker who wants any other class and may change every pixel; one who must reach a certain class, or may
    change a few pixels only, breaks fewer images.

    What to do: add an attack without target= and mask=, or use targets=N, which guides an untargeted attack.
    """
    aimed = [a for a in c.attacks if a.setting.target is not None or a.setting.mask is not None]
    ok = not c.attacks or len(aimed) < len(c.attacks)
    text = (
        f"{len(aimed)} of {len(c.attacks)} attacks aim at a class of their own choice or are kept to some of the pixels"
    )
    if not ok:
        text += (
            ": the number is of an attacker who wants any other class and may change every pixel, and they are weaker"
        )
    return [Answer(ok, len(aimed), len(c.attacks), text)]
