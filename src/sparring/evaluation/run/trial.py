"""``Trial``: one number after its attacks, as active checks see it: the attacker's views, the images that count as robust, their points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sparring.attacks.attack import Attack, attack
from sparring.core.geometry import Norm
from sparring.core.noise import image_keys
from sparring.core.system import Readout, System
from sparring.core.victim import Access, Victim
from sparring.defenses.base import Defended
from sparring.evaluation.judge import Judge
from sparring.evaluation.plan.cell import Cell
from sparring.evaluation.plan.grid import Plan
from sparring.evaluation.plan.partition import Partition
from sparring.evaluation.records.store import Store
from sparring.evaluation.results.closed import ClosedResult, pool_mask
from sparring.evaluation.results.table import RowTable
from sparring.subject import Subject
from sparring.threats import Options, threat

SAMPLE = 32  # survivors that active checks look at
STEPS = 20  # of the attack that checks repeat
MISSED = 16  # images that fell to less than gradients, of which a check asks why


class Missed(NamedTuple):
    """x (m,C,H,W), y (m,), ids: images that somebody who knows or does less than the threat's own gradient attacks broke, where these failed;
    points (m,C,H,W): what broke them.
    """

    x: Tensor
    y: Tensor
    ids: Sequence[str]
    points: Tensor


@dataclass(frozen=True)
class Trial:
    """victims: the views of the attacker who may differentiate, by name. exact: whose every stage declares autograd's own gradient.
    deployed: what the judge asks. attack: the strongest iterative one, cut to a few steps. x (n,C,H,W), y (n,), keys (n,), ids: images the
    system has right; survivors (n,) bool: those that every attack left; points (n,C,H,W): where the attack ended, the image itself where it is
    unknown. missed: a few images that fell to less than gradients, None: there are none.
    """

    defense: str
    threat: str
    norm: Norm
    eps: float
    victims: Mapping[str, Victim]
    exact: frozenset[str]
    deployed: System
    attack: Attack
    x: Tensor
    y: Tensor
    ids: Sequence[str]
    survivors: Tensor
    points: Tensor | None
    judge: Judge
    seed: int = 0
    missed: Missed | None = None

    @property
    def keys(self) -> Tensor:
        return image_keys(list(self.ids)).to(self.x.device)

    @property
    def random(self) -> bool:
        return self.deployed.random

    def frozen(self, victim: Victim) -> Victim:
        """The same with one fixed draw of its randomness per image: a deterministic function, whose gradient can be measured."""
        systems = tuple(
            replace(s, frozen=self.seed if s.random else s.frozen, readout=Readout()) for s in victim.systems
        )
        return replace(victim, systems=systems, draws=1, answers=1)


def survivors_of(rows: RowTable, result: ClosedResult) -> list[str]:
    """Ids of the images that the closed pool of a result counts as right, in most draws."""
    picked = rows.pick(pool_mask(rows, result.defense, result.threat, result.norm, result.eps))
    return [image for image, p in zip(picked.images, picked.p_select, strict=True) if p > 0.5]


Number = tuple[str, str, str, float]  # a defense, a threat, a norm and its budget


def number_of(cell: Cell) -> Number:
    """The number that a cell's points count towards."""
    return cell.defense, str(cell.threat), cell.attack.norm, cell.attack.budget


def white_cells(plan: Plan) -> dict[Number, list[Cell]]:
    """By number the cells whose attack may differentiate and takes steps in its ball, the costliest first; of two that differ in where they end, the
    one that goes on.
    """
    numbers: dict[Number, list[Cell]] = {}
    for c in plan.cells:
        if c.seat.access is Access.GRADIENT and c.attack.method.needs is Access.GRADIENT and not c.check:
            numbers.setdefault(number_of(c), []).append(c)

    def turn(cell: Cell) -> tuple[bool, int, bool]:
        costs = [-sum(plan.cost_of(run)) for run in cell.runs[:1]]
        return cell.attack.method.kind != "iterative", sum(costs), not any(run.on_from for run in cell.runs)

    for cells in numbers.values():
        cells.sort(key=turn)
    return numbers


def trial_of(
    subject: Subject,
    plan: Plan,
    store: Store,
    rows: RowTable,
    result: ClosedResult,
    blocks: Partition,
    seed: int,
    missed: Sequence[str] = (),
) -> Trial | None:
    """The trial of a number, or None where nobody with gradients attacked, or no image is right. missed: ids of the images that less than its own
    gradient attacks broke.
    """
    cells = white_cells(plan).get((result.defense, result.threat, result.norm, result.eps), [])
    alive = set(survivors_of(rows, result))
    clean = rows.pick(rows.clean(result.defense))
    right = [image for image, p in zip(clean.images, clean.p_select, strict=True) if p > 0.5]
    if not cells or not right:
        return None
    chosen = [i for i in subject.images.ids if i in alive][:SAMPLE]
    more = set(right) - set(chosen)
    chosen += [i for i in subject.images.ids if i in more][: max(0, SAMPLE - len(chosen))]
    number = {image: i for i, image in enumerate(subject.images.ids)}
    index = torch.tensor([number[i] for i in chosen])
    device = next((p.device for p in subject.prepared.model.parameters()), torch.device("cpu"))
    cell = cells[0]
    views = {
        r.view.name: r.view.victim for r in cell.runs if r.view.reparam is None and len(r.view.victim.systems) == 1
    }
    if not views:
        return None
    return Trial(
        result.defense,
        result.threat,
        cell.attack.norm,
        result.eps,
        views,
        _exact(views, subject.systems[result.defense]),
        cell.seat.judge,
        _short(cell.attack),
        subject.images.pixels(index).to(device),
        subject.images.y[index].to(device),
        chosen,
        torch.tensor([i in alive for i in chosen], device=device),
        _points(store, subject, blocks, chosen, _ended(rows, cells, chosen)).to(device),
        plan.judge,
        seed,
        _missed(store, subject, blocks, rows, result, missed[:MISSED], device) if missed else None,
    )


def trial_before(subject: Subject, defense: str, chosen: Attack, judge: Judge, draws: int, seed: int) -> Trial | None:
    """The trial of a system that was not attacked yet, by the adaptive attacker with ``chosen``: its points are not known. None where it has no
    image right.
    """
    defended = subject.systems[defense]
    seat = threat("adaptive").seat(defended, options=Options(draws))
    views = {v.name: v.victim for v in seat.views if v.reparam is None and len(v.victim.systems) == 1}
    device = next((p.device for p in subject.prepared.model.parameters()), torch.device("cpu"))
    first = slice(0, SAMPLE)
    x, y, keys = (
        subject.images.pixels(first).to(device),
        subject.images.y[first].to(device),
        subject.keys[first].to(device),
    )
    right = judge.score(seat.judge, x, y, keys).first
    if not views or not right.any():
        return None
    ids = [i for i, kept in zip(subject.images.ids[first], right.tolist(), strict=True) if kept]
    exact, short = _exact(views, defended), _short(chosen)
    alive = torch.ones(len(ids), dtype=torch.bool, device=device)
    about = defense, "adaptive", chosen.norm, chosen.budget
    return Trial(*about, views, exact, seat.judge, short, x[right], y[right], ids, alive, None, judge, seed)


def _exact(views: Mapping[str, Victim], defended: Defended) -> frozenset[str]:
    """The views that differentiate the network as it is, through stages that declare autograd's own gradient."""
    return frozenset(
        name
        for name, v in views.items()
        if v.systems[0].network is defended.network and all(p.backward == "exact" for p in v.systems[0].parts)
    )


def _short(chosen: Attack) -> Attack:
    """The attack in a few steps, with no goal but to be wrong; APGD where it takes one step only."""
    if chosen.method.kind != "iterative":
        return attack(f"apgd:steps={STEPS},norm={chosen.norm},eps={chosen.budget!r}")
    plain = replace(chosen, setting=replace(chosen.setting, target=None, targets=0))
    return plain.brief(STEPS)


def _ended(rows: RowTable, cells: Sequence[Cell], chosen: Sequence[str]) -> dict[str, str]:
    """By image the run of the largest margin among those of the iterative attacks of ``cells``."""
    runs = {r.id for c in cells for r in c.runs if c.attack.method.kind == "iterative"}
    at = np.flatnonzero(rows.among("run", runs) & rows.among("image", chosen) & ~rows.spared)
    best: dict[str, tuple[float, str]] = {}
    for image, margin, run in zip(rows.at("image", at), rows["margin"][at].tolist(), rows.at("run", at), strict=True):
        last = margin, str(run)
        best[image] = max(best.get(image, (-np.inf, "")), last)
    return {image: run for image, (_, run) in best.items()}


def _missed(
    store: Store,
    subject: Subject,
    blocks: Partition,
    rows: RowTable,
    result: ClosedResult,
    ids: Sequence[str],
    device: torch.device,
) -> Missed:
    """Of each image the worst point of the whole pool, which is that of the one who knows less."""
    mask = pool_mask(rows, result.defense, result.threat, result.norm, result.eps) & ~rows.clean(result.defense)
    worst = rows.pick(mask & rows.among("image", ids))
    runs = dict(zip(worst.images, rows.at("run", worst.rows).tolist(), strict=True))
    index = [number for number, image in enumerate(subject.images.ids) if image in runs]
    names = [subject.images.ids[number] for number in index]
    x, y = subject.images.pixels(index).to(device), subject.images.y[index].to(device)
    return Missed(x, y, names, _points(store, subject, blocks, names, runs).to(device))


def _points(
    store: Store, subject: Subject, blocks: Partition, chosen: Sequence[str], run_of: Mapping[str, str]
) -> Tensor:
    """(n,C,H,W) of the images ``chosen`` the stored point of a run; the image itself where there is none."""
    number = {image: i for i, image in enumerate(subject.images.ids)}
    points = subject.images.pixels([number[i] for i in chosen]).clone()
    for row, image in enumerate(chosen):
        block = blocks.around(number[image])
        stored = store.points(run_of[image], blocks.id(block)) if image in run_of else None
        if stored is not None:
            points[row] = stored["x"][number[image] - block.start]
    return points
