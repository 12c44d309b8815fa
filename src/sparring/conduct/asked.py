"""What follows when the attacks are done: the active checks of each number, and the attacks that failed ones ask for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sparring.checks.base import in_order
from sparring.checks.pool import pools
from sparring.checks.rows import run_row_checks
from sparring.checks.trials import ActiveCheck, run_active_checks
from sparring.conduct.planned import Planned, Say
from sparring.core.access import Access
from sparring.evaluation.plan.cell import Cell
from sparring.evaluation.plan.followup import more_budget, more_queries, repairs
from sparring.evaluation.plan.grid import Plan
from sparring.evaluation.plan.spec import EvaluationSpec
from sparring.evaluation.records.finding import Finding
from sparring.evaluation.records.store import Store
from sparring.evaluation.results.closed import all_closed, strongest
from sparring.evaluation.results.table import RowTable
from sparring.evaluation.run.trial import SAMPLE, Number, number_of, survivors_of, trial_of, white_cells
from sparring.subject import Subject
from sparring.threats import Options

# checks that, failing, ask for other attacks than gradients
MISTRUSTED = ("S1", "S2", "S3", "PL", "X5", "X6", "G1", "R11")
WEAK = ("PL", "X5")  # of these, those that a weak attack fails too


def asked_of(planned: Planned, store: Store, rows: RowTable, say: Say) -> tuple[list[Finding], list[Cell]]:
    """What active checks say of each number that has survivors, and the attacks on these that failed checks ask for."""
    spec, subject, plan, options = planned.spec, planned.subject, planned.plan, planned.options
    findings: list[Finding] = []
    cells: list[Cell] = []
    rows = rows.only(rows.where(check=""))  # what a resumed run already holds of the follow-up decides nothing
    from_rows, white = run_row_checks(rows), white_cells(plan)
    pool_of = {(p.defense, p.threat, p.norm, p.eps): p for p in pools(rows)}
    for result in strongest(all_closed(rows)):
        among = survivors_of(rows, result) if math.isfinite(result.eps) else []
        number = result.defense, result.threat, result.norm, result.eps
        if not among:
            continue
        missed = pool_of[number].missed if number in pool_of else ()
        trial = trial_of(subject, plan, store, rows, result, planned.blocks, spec.seed, missed)
        if trial is None:
            cells += [] if spec.no_follow_up else _other_search(plan, number, among, spec.seed)
            continue
        mine = run_active_checks(
            trial, lambda text, name=f"{result.defense} | {result.threat}": say(f"checking {name}: {text}")
        )
        findings += mine
        cell = white[number][0]
        failed = [f for f in (*mine, *from_rows) if not f.ok and f.defense and f.about(*number)]
        # where slopes are right a planted or large goal is missed by an attack that is weak, not blind
        sees = any(f.check == "S1" and f.ok for f in mine)
        doubts = [f.check for f in failed if f.check in MISTRUSTED and not (sees and f.check in WEAK)]
        if spec.no_follow_up:
            continue
        if doubts:
            system = subject.systems[result.defense]
            cells += repairs(cell, system, among, doubts[0], spec.tier, options[result.defense], spec.seed)
        if _again(spec):
            cells.append(more_budget(cell, among, "X2", spec.tier, spec.seed))
    return findings, cells


def asked_at_most(
    subject: Subject, plan: Plan, spec: EvaluationSpec, options: Mapping[str, Options]
) -> dict[str, float]:
    """Network calls, at most: of the active checks, over the survivors that they look at, and of the attacks that follow where these fail, for an
    image that they are made on.
    """
    checks, follow_up, first = 0.0, 0.0, subject.images.ids[:1]
    for number in dict.fromkeys(number_of(c) for c in plan.cells if math.isfinite(c.attack.budget)):
        follow_up += sum(
            sum(plan.cost_of(run)) for cell in _other_search(plan, number, first, spec.seed) for run in cell.runs
        )
    for (name, _, _, eps), cells in white_cells(plan).items():
        system = subject.systems[name]
        if math.isfinite(eps):
            draws = options[name].draws if system.random else 1
            checks += SAMPLE * draws * sum(c.cost for c in in_order(ActiveCheck))
            more = repairs(cells[0], system, first, "X6", spec.tier, options[name], spec.seed)
            if _again(spec):
                more.append(more_budget(cells[0], first, "X2", spec.tier, spec.seed))
            follow_up += sum(sum(plan.cost_of(run)) for cell in more for run in cell.runs)
    return {"checks": checks, "follow_up_per_image": 0.0 if spec.no_follow_up else follow_up}


def _again(spec: EvaluationSpec) -> bool:
    """Is what is left attacked with more budget? Not after the quick tier's own attacks, which hold what would be added."""
    return spec.tier != "quick" or bool(spec.attacks)


def _other_search(plan: Plan, number: Number, among: Sequence[str], seed: int) -> list[Cell]:
    """Where answers are all that an attacker has: what searches best by them, unless it did."""
    asking = [
        c
        for c in plan.cells
        if number_of(c) == number and not c.check and Access.NONE < c.seat.access < Access.GRADIENT
    ]
    return [cell for c in asking[:1] for cell in more_queries(c, [other.attack for other in asking], among, "X2", seed)]
