"""C3 impossible numbers."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sparring.checks.base import Answer
from sparring.checks.trials import active_check, toy_trial
from sparring.evaluation.run.trial import Trial

LENGTHS = {"linf": torch.inf, "l2": 2.0, "l1": 1.0}  # in which the midpoint of two images lies in both balls


def _two_in_reach() -> Trial:
    """A ball of half a pixel's range: any two images share a point with it."""
    return replace(toy_trial(), eps=0.5)


@active_check("C3", "impossible numbers", "J", "FATAL", 0, fires=_two_in_reach, silent=toy_trial)
def impossible(t: Trial) -> list[Answer]:
    """Raised if: two images of different classes both count as robust, and lie within twice the budget of each other. Deterministic systems only.

    Why: the point half way between them lies in the balls of both, and has one label. So one of the two is broken there, whatever the attack found.

    What to do: read the checks of the attack, which missed these points; a budget of this size cannot be withstood.
    """
    length = LENGTHS.get(t.norm)
    if t.random or length is None:
        return []
    alive = t.survivors.nonzero()[:, 0]
    x, y = t.x[alive].flatten(1).double(), t.y[alive]
    reach = (torch.cdist(x, x, p=length) <= 2 * t.eps) & (y[:, None] != y)
    pairs = _disjoint(reach)
    if not pairs:
        return [Answer(True, 0, 0, "no two survivors of different classes share a point of their balls")]
    named = [tuple(t.ids[int(alive[i])] for i in pair) for pair in pairs]
    first, second = named[0]
    text = f"{first} and {second} (classes {int(y[pairs[0][0]])} and {int(y[pairs[0][1]])}) both count as robust, and the point half way between them is in both balls"
    more = f"; {len(pairs)} such pairs among {len(alive)} survivors" if len(pairs) > 1 else ""
    return [Answer(False, len(pairs), 0, text + more, images=tuple(i for pair in named for i in pair))]


def _disjoint(reach: Tensor) -> list[tuple[int, int]]:
    """Pairs that share no image, first come, first served: at least one image of each is broken."""
    pairs: list[tuple[int, int]] = []
    free = torch.ones(len(reach), dtype=torch.bool, device=reach.device)
    for i in range(len(reach)):
        partners = (reach[i] & free).nonzero()[:, 0]
        if free[i] and len(partners):
            pairs.append((i, int(partners[0])))
            free[[i, int(partners[0])]] = False
    return pairs
