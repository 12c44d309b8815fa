"""Cascades: lists of attacks, each of which sees only the images that survived the ones before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor

from sparring.attacks.attack import Attack, attack
from sparring.attacks.engine import Batch, Outcome, RunOptions
from sparring.attacks.method import Method
from sparring.core.geometry import within
from sparring.core.ranges import Count
from sparring.core.registry import ATTACKS
from sparring.core.victim import Victim


@dataclass(frozen=True, repr=False)
class CascadeAttack(Attack):
    """A cascade in a setting: its members at that norm, budget and goal, one after the other."""

    unused = ("restarts", "targets")
    method: Cascade
    shortest: int | None = None
    """To how many steps members are cut; None: not at all."""

    @classmethod
    def why_unused(cls, field: str) -> str:
        return "the members of a cascade have their own"

    def parts(self) -> list[Attack]:
        """The members at this budget and norm."""
        members: list[Attack] = []
        for text in self.method.members:
            part = attack(text)
            targets = 0 if self.setting.target is not None else part.setting.targets
            shared = replace(
                part.setting, norm=self.norm, eps=self.setting.eps, target=self.setting.target, targets=targets
            )
            part = replace(part, setting=shared)
            members.append(part if self.shortest is None else part.brief(self.shortest))
        return members

    def cost(self, victim: Victim, classes: int, values: int) -> tuple[int, int]:
        each = [p.cost(victim, classes, values) for p in self.parts()]
        return sum(f for f, _ in each), sum(b for _, b in each)

    def brief(self, steps: int) -> Attack:
        return replace(self, shortest=steps)

    def perform(self, victim: Victim, batch: Batch, eps: Tensor, options: RunOptions) -> Outcome:
        """Where a first success is wanted a member sees survivors only; else each runs to its end. A member may spend what is left of
        an image's queries.
        """
        total = Outcome.unseen(batch.clean).put(distance=torch.zeros_like(eps))
        for number, part in enumerate(self.parts()):
            rows = torch.arange(len(batch), device=eps.device)
            if options.stop == "success":
                rows = rows[~total.success]
            left = replace(batch, eps=eps)
            if batch.queries is not None:
                left = replace(left, queries=(batch.queries - total.forwards).clamp_min(0))
            outcome = part.on(victim, left.at(rows), replace(options, seed=options.seed + number, progress=None))
            # the nearest point of a minimum-norm member may lie outside the ball: then it is no candidate
            inside = within(outcome.x - batch.clean[rows], eps[rows], self.norm)
            none = Outcome.unseen(batch.clean[rows])
            outcome = none.put(x=none.x, distance=torch.zeros_like(eps[rows])).merged(outcome, inside)
            total = _joined(total, outcome, rows, first=number == 0)
        if options.progress:
            options.progress(len(batch))
        return total


def _joined(total: Outcome, outcome: Outcome, rows: Tensor, first: bool) -> Outcome:
    """``total`` with a member's ``outcome`` about ``rows`` merged in: a success is better, then the larger margin."""
    before = total.keep(rows)
    wins, won = outcome.success & ~before.success, before.success & ~outcome.success
    better = wins | (~won & (outcome.margin > before.margin)) | first
    merged = before.merged(outcome, better)
    return total.paste(rows, merged)


@dataclass(frozen=True, kw_only=True)
class Cascade(Method):
    """A list of attacks run as one. A subclass gives ``members``: spec texts without norm and eps, in order.

    It never runs in the engine itself.
    """

    norms = ("linf", "l2")
    attack_kind = CascadeAttack

    @property
    def members(self) -> tuple[str, ...]:
        raise NotImplementedError


@ATTACKS("autoattack")
@dataclass(frozen=True, kw_only=True)
class AutoAttack(Cascade):
    """AutoAttack (Croce & Hein, arXiv:2003.01690, sec. 5). Norms: linf, l2.

    ``version``: standard (APGD-CE, APGD-T, FAB-T on 9 targets, Square with ``queries``) or rand, for random
    defenses (APGD on CE and DLR; the draws come from the seat). Differs from the paper: its members differ as their pages say.
    """

    version: Literal["standard", "rand"] = "standard"
    steps: Count = 100
    queries: Annotated[int, Ge(2), Le(10**9)] = 5000

    @property
    def members(self) -> tuple[str, ...]:
        if self.version == "rand":
            return (f"apgd:steps={self.steps}", f"apgd:steps={self.steps},loss=dlr")
        return (
            f"apgd:steps={self.steps}",
            f"apgd:steps={self.steps},loss=dlr,targets=9",
            f"fab:steps={self.steps},targets=9",
            f"square:steps={self.queries - 1}",
        )


@ATTACKS("cascade")
@dataclass(frozen=True, kw_only=True)
class ShortCascade(Cascade):
    """The cheapest list of our attacks that came nearest to AutoAttack (arXiv:2003.01690) on five targets, and two for whom these stand still: APGD on
    the margin, targeted DLR on four rivals, momentum PGD and APGD on cross-entropy. Norms: linf, l2.

    A surviving image costs 9.9 % of AutoAttack standard. By how much it differs on other targets: docs/measured.md; made by
    ``benchmarks/cascade.py``. Differs from the paper: no FAB and no Square, so it says less about masked gradients.
    """

    @property
    def members(self) -> tuple[str, ...]:
        return (
            "apgd:steps=50,loss=margin",
            "apgd:steps=50,loss=dlr,targets=4",
            "mpgd:steps=50,loss=ce",
            "apgd:steps=50",
        )
