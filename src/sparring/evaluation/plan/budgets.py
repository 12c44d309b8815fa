"""Budgets: the default ball of a kind of images, and attacks at each budget."""

from __future__ import annotations

from collections.abc import Sequence

from sparring.attacks.attack import Attack
from sparring.core.errors import SparringError


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
    found: list[Attack] = []
    for a in attacks:
        if a.bounded:
            found.append(a)
        else:
            found += [a.with_eps(e) for e in (eps or (default_eps(a.norm, shape),))]
    return list(dict.fromkeys(found))
