"""Attacks that a check asks for, on the images that still count as robust: cells like all others, tagged with the check."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sparring.attacks.attack import Attack, attack
from sparring.core.geometry import Norm
from sparring.core.victim import Access
from sparring.defenses.base import Defended
from sparring.evaluation.plan.cell import Cell, Run, runs_of
from sparring.threats import Options, View, threat

SEARCHES = {  # of points, by scores alone, where a gradient cannot be believed
    "quick": ("square:steps=999", "spsa:steps=10,samples=16", "random_search:steps=100"),
    "standard": ("square:steps=9999", "spsa:steps=100,samples=64", "random_search:steps=1000"),
    "thorough": ("square:steps=19999", "spsa:steps=200,samples=128", "random_search:steps=5000"),
}
AGAIN = {  # of the images that are left, whoever chose the attacks: by losses that no scale of the logits blinds
    "quick": "apgd:loss=dlr,steps=20,targets=4",
    "standard": "apgd:loss=dlr,steps=100,targets=4",
    "thorough": "apgd:loss=dlr,steps=100,targets=4",
}
SPARSE = "sigma_zero"  # in l0, where there is no projection to step along
# what is known to search best where answers are all that an attacker has
BY_ANSWERS: Mapping[tuple[Access, Norm], tuple[str, ...]] = {
    (Access.SCORES, "linf"): ("square",),
    (Access.SCORES, "l2"): ("square",),
    (Access.SCORES, "l0"): ("sparse_rs",),
    (Access.SCORES, "l1"): ("sparse_rs",),
    # by few labels, and where only the ball is plain, points in it tell more than rays and walks from afar
    (Access.LABEL, "linf"): ("rays", "tiles"),
    (Access.LABEL, "l2"): ("hopskipjump", "tiles"),
    (Access.LABEL, "l0"): ("pointwise",),
    (Access.LABEL, "l1"): ("pointwise",),
}
# of a random system, where the luckiest answer leads a search astray
BY_RANDOM_ANSWERS: Mapping[tuple[Access, Norm], tuple[str, ...]] = {
    (Access.SCORES, "linf"): ("regression",),
    (Access.SCORES, "l2"): ("regression",),
    (Access.LABEL, "linf"): ("label_regression",),
    (Access.LABEL, "l2"): ("label_regression",),
}
QUERIES = 1000  # where a seat does not count them
LENGTHS = ("steps", "queries")  # fields that say how long a search is


def repairs(
    cell: Cell, defended: Defended, among: Sequence[str], check: str, tier: str, options: Options, seed: int
) -> list[Cell]:
    """What to try where a gradient cannot be believed, with the budget, threat and judge of ``cell``, on the images ``among``: its attack with
    every stage passed by (BPDA with the identity), along the gradient of what decides (models/repair.py), the gradient smoothed (SPSA), and
    search.
    """
    cells = [on_survivors(cell, attack(text), cell.seat.views[:1], among, check, seed) for text in SEARCHES[tier]]
    if defended.stages:
        views = threat("white-identity").seat(defended, options=options).views
        named = tuple(replace(v, name="repair: identity") for v in views)
        cells.append(on_survivors(cell, cell.attack, named, among, check, seed))
    if defended.decider is not None:
        system = defended.system()
        system = replace(system, network=defended.decider, id=f"{system.id}|decider")
        victim = replace(cell.seat.views[0].victim, systems=(system,))
        cells.append(on_survivors(cell, cell.attack, (View("repair: decider", victim),), among, check, seed))
    return [c for c in cells if c.attack.norm == cell.attack.norm]


def more_budget(cell: Cell, among: Sequence[str], check: str, tier: str, seed: int) -> Cell:
    """Once more on survivors, with more of everything: another seed, other losses, more steps, targets."""
    norm = cell.attack.norm
    stronger = attack(SPARSE if norm == "l0" else f"{AGAIN[tier]},norm={norm}")
    return on_survivors(cell, stronger, cell.seat.views, among, check, seed + 1)


def best_by_answers(access: Access, norm: Norm, random: bool, answers: int) -> list[Attack]:
    """What is known to search best by so many ``answers`` of a system in this norm: by scores and, since scores may be as coarse as labels and hide every
    step of these, by labels.
    """
    known = BY_RANDOM_ANSWERS if random else BY_ANSWERS
    names = [known.get((asked, norm), ()) for asked in (Access.SCORES, Access.LABEL) if asked <= access]
    return [_as_long(name, norm, answers) for part in names for name in part]


def _as_long(name: str, norm: Norm, answers: int) -> Attack:
    method = attack(f"{name}:norm={norm}").method
    steps = max(1, (answers - 1) // method.asks)  # one answer is for the first point or the last
    length = f"steps={steps}" if method.query_cap is None else f"queries={answers}"
    return attack(f"{name}:{length},norm={norm}")


def more_queries(cell: Cell, ran: Sequence[Attack], among: Sequence[str], check: str, seed: int) -> list[Cell]:
    """What searches best by the answers that the seat gives, with all the queries that it allows, where it has not ``ran``. A random system is asked one
    draw at a time, which tells most.
    """
    views = tuple(replace(v, victim=replace(v.victim, answers=1)) for v in cell.seat.views)
    victim = views[0].victim
    answers = (cell.seat.queries or QUERIES) // victim.score_cost
    if not math.isfinite(cell.attack.budget):
        return []
    singly = cell.seat.views[0].victim.answers == 1 or not victim.random
    return [
        on_survivors(cell, search, views, among, check, seed + 1)
        for search in best_by_answers(cell.seat.access, cell.attack.norm, victim.random, answers)
        if not (singly and any(same_search(a, search) and a.method.iterations >= search.method.iterations for a in ran))
    ]


def same_search(ran: Attack, search: Attack) -> bool:
    """Is it the same search, however long? One with other options or another setting, such as restarts or a target, is another one."""
    options = [{k: v for k, v in vars(a.method).items() if k not in LENGTHS} for a in (ran, search)]
    return (
        type(ran.method) is type(search.method)
        and options[0] == options[1]
        and replace(ran.setting, norm=search.setting.norm, eps=search.setting.eps) == search.setting
    )


def on_survivors(
    cell: Cell, chosen: Attack, views: tuple[View, ...], among: Sequence[str], check: str, seed: int
) -> Cell:
    """``chosen`` with the norm and budget of ``cell`` through ``views``, on the images ``among``."""
    if cell.attack.norm in chosen.method.norms:
        chosen = replace(chosen, setting=replace(chosen.setting, norm=cell.attack.norm, eps=cell.attack.budget))
    seat = replace(cell.seat, views=views, access=max(cell.seat.access, chosen.method.needs))
    runs = tuple(_among(run, among) for run in runs_of(seat, chosen, seed))
    return replace(cell, attack=chosen, seat=seat, runs=runs, check=check)


def _among(run: Run, among: Sequence[str]) -> Run:
    digest = hashlib.sha256(repr((run.id, sorted(among))).encode()).hexdigest()[:20]
    return replace(run, id=digest, among=frozenset(among))
