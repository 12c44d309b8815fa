"""What each attack of a pool adds: the images that it alone breaks, those where its point is the worst, how near its points are, at which cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sparring.evaluation.results.cells import candidates, cell_keys
from sparring.evaluation.results.table import CLEAN, RowTable

HALF = 0.5  # of the judge's draws: fewer, and an image is broken


@dataclass(frozen=True)
class Contribution:
    """An attack among those with one defense, threat and ball. Images: ``n`` that it attacked and that are right when clean, ``broken`` of them (their label
    is lost in more than half of the judge's draws), ``alone`` those that no other of these attacks broke (the ensemble gain; None where another
    did not look at all that this one did), ``worst`` those of which it
    made the pool's point: the worst one, without a budget the nearest. ``optimality``: see ``optimality``; nan in a bounded ball, and where no other attack is there.
    ``calls``: network forwards and backwards of an image.
    """

    defense: str
    threat: str
    norm: str
    eps: float
    attack: str
    n: int
    broken: int
    alone: int | None
    worst: int
    optimality: float
    calls: float


def optimality(distances: Sequence[Sequence[float]] | np.ndarray) -> list[float]:
    """Of attacks (A,N) on the same images, their local optimality (AttackBench, Cina et al., arXiv:2404.19460): with rho(eps) the share of images that
    survive an attack's points within eps, the area above it up to the eps at which the best of all attacks leaves nobody, in shares of the
    area above that best one's. 1: the nearest everywhere. Infinite: not fooled.
    """
    sizes = np.asarray(distances, float)
    best = sizes.min(0)
    last = best[np.isfinite(best)].max(initial=0.0)
    areas = last - np.minimum(sizes, last).mean(1)
    whole = last - np.minimum(best, last).mean()
    return [float(area / whole) if whole > 0 else 1.0 for area in areas]


def contributions(rows: RowTable) -> list[Contribution]:
    """Of every pool of two or more attacks with one defense, threat and ball, in the order of the cells."""
    pools: dict[tuple[str, str, str, float], list[str]] = {}
    for defense, threat, attack, norm, eps in cell_keys(rows):
        pools.setdefault((defense, threat, norm, eps), []).append(attack)
    return [line for pool, attacks in pools.items() if len(attacks) > 1 for line in _pool(rows, pool, attacks)]


def _pool(rows: RowTable, pool: tuple[str, str, str, float], attacks: list[str]) -> list[Contribution]:
    defense, threat, norm, eps = pool
    part = rows.only(rows.where(defense=defense) & (rows.where(threat=threat) | rows.where(threat=CLEAN)))
    each = [candidates(part, defense, threat, attack) for attack in attacks]
    place = _right(part, np.logical_or.reduce([of.clean for of in each]))
    image = part.texts["image"]
    number = np.array([place.get(name, -1) for name in image.names])[image.numbers]  # of each row's image
    left, near = np.full((len(attacks), len(place)), np.nan), np.full((len(attacks), len(place)), np.inf)
    for of, share, distance in zip(each, left, near, strict=True):
        for name, p, _ in _picked(part, of.usable, of.averaged):
            if name in place:
                share[place[name]] = p  # of the draws in which its label is right
        at = np.flatnonzero(of.usable & (part["k"] < HALF * part["draws"]) & (number >= 0))
        np.minimum.at(distance, number[at], part[norm][at])  # of its views the nearest
    broken = left < HALF
    worst = np.zeros_like(broken)
    if math.isinf(eps):
        worst = broken & (near == near.min(0, initial=np.inf))
    else:
        for name, p, row in _picked(part, np.logical_or.reduce([of.usable for of in each]), each[0].averaged):
            if name in place and p < HALF:
                worst[attacks.index(str(part.at("attack", row))), place[name]] = True
    optimal = optimality(near) if math.isinf(eps) else [math.nan] * len(attacks)
    alone, looked = broken & (broken.sum(0) == 1), ~np.isnan(left)
    return [
        Contribution(
            *pool,
            attack,
            n=int(looked[i].sum()),
            broken=int(broken[i].sum()),
            alone=int(alone[i].sum()) if (looked >= looked[i]).all() else None,
            worst=int(worst[i].sum()),
            optimality=optimal[i],
            calls=_calls(part, each[i].attacked),
        )
        for i, attack in enumerate(attacks)
    ]


def _right(rows: RowTable, clean: np.ndarray) -> dict[str, int]:
    """The images that are right when clean, numbered."""
    return {image: i for i, image in enumerate(image for image, p, _ in _picked(rows, clean, False) if p > HALF)}


def _picked(rows: RowTable, mask: np.ndarray, averaged: bool) -> Iterator[tuple[str, float, int]]:
    """(image, share of draws in which its label is right, row) of the worst row of each image in a mask."""
    if mask.any():
        picked = rows.pick(mask, averaged)
        yield from zip(picked.images, picked.p.tolist(), picked.rows.tolist(), strict=True)


def _calls(rows: RowTable, attacked: np.ndarray) -> float:
    images = len(rows.distinct("image", attacked))
    return float((rows["forwards"][attacked] + rows["backwards"][attacked]).sum() / max(1, images))
