"""Attacks that a check asks for, on the images that still count as robust: cells like all others, tagged with the check."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from sparring.attacks.attack import Attack, attack
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
BY_ANSWERS: dict[tuple[Access, str], Callable[[int, float], str]] = {  # by how many queries and what budget there is
    (Access.SCORES, "linf"): lambda queries, eps: f"square:steps={max(1, queries - 1)}",
    (Access.SCORES, "l2"): lambda queries, eps: f"square:steps={max(1, queries - 1)}",
    (Access.SCORES, "l0"): lambda queries, eps: (
        f"one_pixel:pixels={max(1, int(eps))},population={min(100, max(4, queries // 4))},steps={max(1, queries // 100 - 1)}"
    ),
    # few queries are best spent on one look at the slope: the default's 100 samples left 72 % where 900 left 48 % (mnist_cnn, linf 0.2, n=40)
    (Access.LABEL, "linf"): lambda queries, eps: f"hopskipjump:queries={queries},samples={max(1, 9 * queries // 10)}",
    (Access.LABEL, "l2"): lambda queries, eps: f"hopskipjump:queries={queries}",
}
QUERIES = 1000  # where a seat does not count them


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


def more_queries(cell: Cell, ran: Sequence[Attack], among: Sequence[str], check: str, seed: int) -> Cell | None:
    """What searches best by the answers that the seat gives, with all the queries that it allows; None where it ``ran``, or nothing is known to search
    best in this norm.
    """
    choose = BY_ANSWERS.get((cell.seat.access, cell.attack.norm))
    if choose is None or not math.isfinite(cell.attack.budget):
        return None
    search = attack(f"{choose(cell.seat.queries or QUERIES, cell.attack.budget)},norm={cell.attack.norm}")
    if any(_does_as_much(a, search) for a in ran):
        return None
    return on_survivors(cell, search, cell.seat.views, among, check, seed + 1)


def _does_as_much(ran: Attack, search: Attack) -> bool:
    """Is it the same search at least as long? One with other options or another setting, such as restarts or a target, is another one."""
    lengths = ("steps", "queries")
    options = [{k: v for k, v in vars(a.method).items() if k not in lengths} for a in (ran, search)]
    return (
        type(ran.method) is type(search.method)
        and options[0] == options[1]
        and replace(ran.setting, norm=search.setting.norm, eps=search.setting.eps) == search.setting
        and ran.method.iterations >= search.method.iterations
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
