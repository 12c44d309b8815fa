"""Checks of a number after its attacks, that ask the system once more: how they are enrolled and asked, and trials for their fixtures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sparring.attacks.attack import Attack, attack
from sparring.checks.base import Answer, Enrolled, in_order
from sparring.checks.controls import context
from sparring.core.access import Access, offered
from sparring.core.registry import CHECKS
from sparring.core.victim import Victim
from sparring.defenses.base import Stage
from sparring.evaluation.judge import Judge
from sparring.evaluation.plan.tiers import DRAWS, JUDGES
from sparring.evaluation.records.finding import Finding, Scope, Severity
from sparring.evaluation.run.trial import Missed, Trial, trial_before
from sparring.subject import Subject

Ask = Callable[[Trial], list[Answer]]


@dataclass(frozen=True, repr=False)
class ActiveCheck(Enrolled[Trial]):
    """A check of a number after its attacks. ``cost``: forwards of an image that it looks at, a gradient counted as two. ``first``: it also has
    something to say before any attack.
    """

    cost: int = 0
    first: bool = False

    def answers(self, seen: Trial) -> list[Answer]:
        """What its function says, about the trial's number."""
        subject = f"{seen.defense} / {seen.threat}"
        about = {"defense": seen.defense, "threat": seen.threat, "norm": seen.norm, "eps": seen.eps}
        return [replace(a, subject=a.subject or subject, **about) for a in self.ask(seen)]


def active_check(
    id: str,
    title: str,
    scope: Scope,
    severity: Severity,
    cost: int,
    *,
    fires: Callable[[], Trial],
    silent: Callable[[], Trial],
    first: bool = False,
) -> Callable[[Ask], ActiveCheck]:
    """Decorator: enrol a function Trial -> list[Answer]. Its docstring says when it is raised, why, and what to do."""

    def enrol(ask: Ask) -> ActiveCheck:
        return CHECKS(id)(ActiveCheck(id, title, scope, severity, ask, fires, silent, cost, first))

    return enrol


def run_active_checks(trial: Trial, say: Callable[[str], None] | None = None) -> list[Finding]:
    """Findings of all enrolled checks of trials, in order of number."""
    findings: list[Finding] = []
    for c in in_order(ActiveCheck):
        if say:
            say(f"{c.id} {c.title}")
        findings += c.run(trial)
    return findings


def run_first_checks(subject: Subject, chosen: Attack, seed: int, say: Callable[[str], None]) -> list[Finding]:
    """What active checks say before any attack of each system, as ``chosen`` would attack it: its slopes."""
    findings: list[Finding] = []
    for defense, defended in subject.systems.items():
        if offered(defended.network) < Access.GRADIENT:  # no slopes to look at
            continue
        trial = trial_before(subject, defense, chosen, Judge(*JUDGES["quick"], seed=seed), DRAWS["quick"], seed)
        for c in in_order(ActiveCheck):
            if c.first and trial:
                say(f"{c.id} {c.title}")
                findings += c.run(trial)
    return findings


def toy_trial(
    stages: tuple[Stage, ...] = (),
    model: torch.nn.Module | None = None,
    steps: int = 20,
    missed: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Trial:
    """24 images that a linear classifier has right, all of them survivors, attacked at linf 8/255; their points are the images. missed: makes of
    images and labels the points that less than gradients found.
    """
    c = context(model, stages)
    system = c.systems[0].system()
    exact = frozenset({"default"} if all(p.backward == "exact" for p in system.parts) else ())
    victim = Victim((system,), Access.GRADIENT, 8 if system.random else 1)
    return Trial(
        defense=c.systems[0].name,
        threat="adaptive",
        norm="linf",
        eps=8 / 255,
        victims={"default": victim},
        exact=exact,
        deployed=system,
        attack=attack(f"apgd:steps={steps},eps=8/255"),
        x=c.x,
        y=c.y,
        ids=list(c.ids),
        survivors=torch.ones(len(c.x), dtype=torch.bool),
        points=c.x,
        judge=Judge(),
        missed=Missed(c.x, c.y, list(c.ids), missed(c.x, c.y)) if missed else None,
    )
