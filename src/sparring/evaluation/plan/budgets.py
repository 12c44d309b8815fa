"""Budgets: the default ball of a kind of images, and attacks at each budget."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sparring.attacks.attack import Attack
from sparring.core.errors import SparringError
from sparring.core.spec import show

LARGEST_LINF = 0.5  # nobody means more, but who forgets to divide by 255 does


def default_eps(norm: str, shape: Sequence[int]) -> float:
    """The default budget of PROTOCOL 2.1 for images (C,H,W): MNIST-like, CIFAR-like or ImageNet-like."""
    channels, height, _ = shape
    if norm == "l2":
        return 3.0 if height > 64 else 0.5
    if norm == "linf":
        return 0.3 if channels == 1 else 4 / 255 if height > 64 else 8 / 255
    raise SparringError(f"there is no default budget for norm {norm}; give eps=")


def with_budgets(attacks: Sequence[Attack], eps: Sequence[float], shape: Sequence[int]) -> list[Attack]:
    """Attacks without their own eps at each of ``eps`` (default: the data's default). Minimum-norm attacks stay
    unbounded.

    A noise attack with its own std needs no ball.
    """
    budgeted: list[Attack] = []
    for a in attacks:
        if a.bounded:
            budgeted.append(a)
        else:
            budgeted += [a.with_eps(e) for e in (eps or (default_eps(a.norm, shape),))]
    empty = [a for a in budgeted if a.budget == 0]
    if empty and not any(0 < a.budget < math.inf for a in budgeted):  # a curve may begin at 0
        raise SparringError(
            f"{empty[0].name}: eps=0 is a ball without room; write 8/255 as text ($((8/255)) of a shell is 0), or give a larger one beside it"
        )
    for a in budgeted:
        a.refuse_beyond_box(shape)
    return list(dict.fromkeys(budgeted))


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
