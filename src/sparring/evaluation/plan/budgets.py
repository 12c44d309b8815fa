"""Budgets: the default ball of a kind of images, and attacks at each budget."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

from sparring.attacks.attack import Attack
from sparring.core.errors import SparringError
from sparring.core.spec import show
from sparring.core.victim import Access

SMALL = 1 / 5  # of the usual l2 budget: a smaller one was meant in linf
USUAL_L1 = 12.0  # of CIFAR (Croce and Hein 2021)
LEAST_LINF = 0.1 / 255  # who divides by 255 twice has less
LARGEST_LINF = 0.5  # nobody means more, but who forgets to divide by 255 does


def default_eps(norm: str, shape: Sequence[int]) -> float:
    """The default budget of PROTOCOL 2.1 for images (C,H,W): MNIST-like, CIFAR-like or ImageNet-like."""
    channels, height, _ = shape
    if norm == "l2":
        return 3.0 if height > 64 else 0.5
    if norm == "linf":
        return 0.3 if channels == 1 else 4 / 255 if height > 64 else 8 / 255
    raise SparringError(f"there is no default budget for norm {norm}; give eps=")


def with_budgets(
    attacks: Sequence[Attack], eps: Sequence[float], shape: Sequence[int], *, of_tier: bool = False
) -> list[Attack]:
    """Attacks without their own eps at each of ``eps`` (default: the data's default). Minimum-norm attacks stay
    unbounded; those ``of_tier`` that ask for labels alone, dear as they are, search the balls.

    A noise attack with its own std needs no ball.
    """
    budgeted: list[Attack] = []
    for a in attacks:
        search = of_tier and a.setting.eps is None and a.method.needs is Access.LABEL
        if a.bounded and not search:
            budgeted.append(a)
        else:
            budgeted += [a.with_eps(e) for e in (eps or (default_eps(a.norm, shape),))]
    if pixels := [a for a in budgeted if a.norm == "l0" and 0 < a.budget < 1]:
        raise SparringError(
            f"{pixels[0].name}: an l0 eps counts pixels, {show(pixels[0].budget)} lets none change; write eps=1 or more"
        )
    empty = [a for a in budgeted if a.budget == 0]
    if empty and not any(0 < a.budget < math.inf for a in budgeted):  # a curve may begin at 0
        raise SparringError(
            f"{empty[0].name}: eps=0 is a ball without room; write 8/255 as text ($((8/255)) of a shell is 0), or give a larger one beside it"
        )
    for a in budgeted:
        a.refuse_beyond_box(shape)
    return list(dict.fromkeys(budgeted))


def tiny(attacks: Sequence[Attack], shape: Sequence[int]) -> list[tuple[Attack, float, str]]:
    """Of each of the norms linf, l2 and l1 the attack with the largest ball, where that is one that was meant in other units, for images (C,H,W):
    with what is usual, and one line that says so.
    """
    small: list[tuple[Attack, float, str]] = []
    whole = "measures the whole change of an image, not that of a pixel"
    for norm, usual, least, why in (
        ("linf", default_eps("linf", shape), LEAST_LINF, "is not a tenth of one of the 255 levels of a pixel"),
        ("l2", default_eps("l2", shape), SMALL * default_eps("l2", shape), whole),
        ("l1", USUAL_L1, 1.0, whole),
    ):
        largest = max(
            (a for a in attacks if a.norm == norm and a.budget < math.inf), key=lambda a: a.budget, default=None
        )
        if largest is not None and 0 < largest.budget < least:
            text = f"{largest.name}: {norm} eps={show(largest.budget)} is tiny: it {why}; usual is eps={show(usual)}"
            small.append((largest, usual, text))
    return small


def refuse_idle(attacks: Sequence[Attack], eps: Sequence[float]) -> None:
    """Budgets ``eps`` that no attack takes or has are refused; minimum-norm attacks beside some that do are named in a warning."""
    given = ",".join(show(e) for e in eps)
    if set(eps) - {a.budget for a in attacks} and all(a.bounded for a in attacks):
        a = attacks[0]
        has = "looks for the nearest error, in no ball" if a.budget == math.inf else f"has its own, {show(a.budget)}"
        raise SparringError(
            f"eps={given} is used by no attack: {a.name} {has}; leave eps out, or write it in the attack: {a.name}:eps={show(eps[0])}"
        )
    if eps and (free := [a.name for a in attacks if a.bounded and a.budget == math.inf]):
        warnings.warn(f"eps={given} is not used by {', '.join(free)}, which look in no ball", stacklevel=2)


def refuse_large(attacks: Sequence[Attack], eps: Sequence[float], allowed: bool) -> None:
    """An linf eps above 0.5 was meant in 255ths, unless ``allowed`` says that it was not. ``eps``: budgets of attacks without their own."""
    for a in attacks:
        for e in (a.budget,) if a.bounded else eps:
            if a.norm == "linf" and LARGEST_LINF < e < math.inf and not allowed:
                raise SparringError(
                    f"{a.name}: eps={show(e)} is more than half of the range of pixels{_meant(e)}; if it is what you want, "
                    "say so: --large-eps (large_eps=True)"
                )


def _meant(eps: float) -> str:
    return f"; did you mean {eps:g}/255?" if eps >= 1 else ""
