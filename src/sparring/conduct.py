"""``evaluate``: the product of defenses, threats and attacks, run, judged and written down; resumable at any
moment.
"""

from __future__ import annotations

import math
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn

from sparring.attacks.attack import Attack, attack
from sparring.checks.active.g03_eot import draws_that_agree
from sparring.checks.base import Context, in_order, run_checks
from sparring.checks.pool import pools
from sparring.checks.rows import run_row_checks
from sparring.checks.trials import ActiveCheck, run_active_checks
from sparring.core.code import code_of
from sparring.core.columns import Json
from sparring.core.errors import SparringError
from sparring.core.ranges import Count
from sparring.core.registry import THREATS
from sparring.core.spec import convert
from sparring.data.sources import load_data
from sparring.defenses.base import DefenseLike, defense, name_of
from sparring.evaluation.judge import Judge
from sparring.evaluation.plan.blocks import Blocks
from sparring.evaluation.plan.budgets import refuse_idle, refuse_large, with_budgets
from sparring.evaluation.plan.cell import Cell
from sparring.evaluation.plan.cost import time_per_call
from sparring.evaluation.plan.followup import more_budget, repairs
from sparring.evaluation.plan.grid import Plan, make_plan
from sparring.evaluation.plan.spec import EvaluationSpec
from sparring.evaluation.plan.tiers import DRAWS, JUDGES, default_attacks
from sparring.evaluation.records.claim import Claim
from sparring.evaluation.records.files import blocks_before, read_run
from sparring.evaluation.records.finding import Finding, InvalidSetup
from sparring.evaluation.records.folder import claimed
from sparring.evaluation.records.provenance import code_hash
from sparring.evaluation.records.store import Store
from sparring.evaluation.results.closed import all_closed, strongest
from sparring.evaluation.results.load import Evaluation, whole_rows
from sparring.evaluation.results.table import RowTable
from sparring.evaluation.run.pace import Progress
from sparring.evaluation.run.ring import Ring
from sparring.evaluation.run.trial import SAMPLE, survivors_of, trial_before, trial_of, white_cells
from sparring.models.classifier import weights_hash
from sparring.subject import Subject
from sparring.threats import Options, threat
from sparring.verdict.read import load_evaluation, refuse_unasked

# checks that, failing, ask for other attacks than gradients
MISTRUSTED = ("S1", "S2", "S3", "PL", "X5", "X6", "G1", "R11")
WEAK = ("PL", "X5")  # of these, those that a weak attack fails too


def evaluate(
    model: str | nn.Module | EvaluationSpec,
    data: Any = None,
    defenses: Sequence[Any] = (),
    threats: Sequence[str] = ("oblivious", "adaptive"),
    attacks: Sequence[str | Attack] = (),
    *,
    out: str | Path | None = None,
    slots: int = 64,
    device: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
    **fields: Any,
) -> Evaluation:
    """Robust accuracy of ``model`` behind each of ``defenses`` (the undefended model is always added), per threat.

    model, data, defenses, threats, attacks and the other ``fields`` (eps, sources, tier, seed, limit, draws, expect_clean, amp, skip_bad,
    block, large_eps, survivors, baseline, claims): see ``EvaluationSpec``, which may also be given whole, as the only argument. out: run folder, resumed
    if it exists. slots: live rows. progress(done, total, text) counts network calls; total is what is expected now, and 1 before the plan is known.

    Raises SparringError for bad input, a failed fatal check, an output folder of another configuration or in use by another process,
    or a folder that cannot be written; whatever stops it, the same call resumes.
    """
    if isinstance(model, EvaluationSpec):
        if data is not None or fields:
            raise SparringError("evaluate: an EvaluationSpec says everything; use dataclasses.replace to change it")
        spec = model
    else:
        spec = EvaluationSpec.of(model=model, data=data, defenses=defenses, threats=threats, attacks=attacks, **fields)
    slots = convert("evaluate", "slots", Count, slots)
    if out == "" or not isinstance(out, str | Path | None):
        raise SparringError(f"evaluate: out is {out!r}; name a folder, or leave it out")
    if dry_run:
        return _evaluate(spec, None, slots, device, progress)
    with tempfile.TemporaryDirectory() if out is None else claimed(Path(out)) as folder:
        result = _evaluate(spec, Path(folder), slots, device, progress)
    return result if out else replace(result, folder=None)


def _evaluate(
    spec: EvaluationSpec, folder: Path | None, slots: int, device: str | None, progress: Progress | None
) -> Evaluation:
    """The evaluation in a folder that is this process's own, or without one a dry run."""
    tier, seed = spec.tier, spec.seed
    say = (lambda text: progress(0, 1, text)) if progress else (lambda _: None)
    threats = list(dict.fromkeys(str(threat(t)) for t in spec.threats))
    if spec.sources and not any(threat(t).kind.needs for t in threats):
        asking = ", ".join(name for name in THREATS if threat(name).kind.needs)
        raise SparringError(
            f"sources are used by no threat of {', '.join(threats)}: name one that asks them ({asking}), or leave sources out"
        )
    attacks = [attack(a) for a in (spec.attacks or default_attacks(tier, threats))]
    refuse_large(attacks, spec.eps, spec.large_eps)
    if spec.attacks:  # of a tier it is documented which take it
        refuse_idle(attacks, spec.eps)
    say("loading the model and the images")
    images = load_data(spec.data, limit=spec.limit, skip_bad=spec.skip_bad)
    blocks = Blocks.of(images, spec.block, blocks_before(folder) if folder else ())
    subject = Subject.of(spec.model, blocks.images, _once(spec.defenses), sources=spec.sources, device=device)
    chosen = with_budgets(attacks, spec.eps, subject.images.x.shape[1:], of_tier=not spec.attacks)
    numbers = {(t, a.norm, a.budget) for t in threats for a in chosen}
    refuse_unasked(spec.baseline, [Claim.of(text) for text in spec.claims], subject.systems, numbers)
    judge = Judge(*JUDGES[tier], seed=seed)
    say("planning")
    options = _options(subject, spec, judge)
    plan = make_plan(
        subject.systems,
        threats,
        chosen,
        others=subject.others,
        options=options,
        judge=judge,
        seed=seed,
        classes=subject.classes,
        values=subject.images.x[0].numel(),
        survivors=spec.on_survivors,
    )
    if spec.draws is not None and not any(view.victim.random for c in plan.cells for view in c.seat.views):
        warnings.warn(f"draws={spec.draws} is used by nothing here: no system is random", stacklevel=3)
    if folder is None:
        say("measuring what a call costs")
        seconds = time_per_call(subject.prepared.model, subject.images.x)
        asked = _asked_at_most(subject, plan, spec, options)
        estimate = replace(plan.estimate(seconds, len(subject.images)), asked=asked)
        return Evaluation([], [], [], None, tier, subject.notes, plan=estimate)
    run_attacks = list(dict.fromkeys(c.attack for c in plan.cells))
    findings = run_checks(
        Context.of(subject, run_attacks, tier, spec.expect_clean, seed), say=lambda text: say(f"checking: {text}")
    )
    if any(f.stops for f in findings):
        raise InvalidSetup(findings)

    identity = {
        "code": code_hash(),
        "own_code": subject.own_code
        + code_of(*(type(a.method) for a in chosen), *(c.threat.kind.make for c in plan.cells)),
        "model": subject.model.name,
        "weights": weights_hash(subject.model),
        "data": subject.images.hash,
        "defenses": list(subject.systems),
        "threats": threats,
        "attacks": [str(a) for a in chosen],
        "sources": [o.id for o in subject.others],
        "tier": tier,
        "seed": seed,
        "draws": {name: o.draws for name, o in options.items()},
        "amp": spec.amp,
        "judge": [judge.select, judge.draws],
        "block": spec.block,
        "survivors": spec.on_survivors,
    }
    store = Store(folder, identity, blocks.names)
    store.require_same(subject.answers())
    if store.kept:
        new = f"; new: {store.grown}" if store.grown else ""
        say(f"resuming {folder}: {store.kept} blocks of rows are kept, the others are made{new}")
    ring = Ring(subject, plan, store, slots, blocks, progress)
    start, notes = time.time(), dict(subject.notes)
    for name, defended in subject.systems.items():
        if spec.draws == "auto" and defended.random:
            drawn = f"{options[name].draws} draws a gradient, by G3"
            notes[name] = f"{notes[name]}; {drawn}" if notes.get(name) else drawn
    facts = _facts(subject, plan, findings, notes) | {"cells": ring.cells}
    store.write_run(**facts, passed=spec.passed(), complete=False)
    ring.go()
    rows = _rows(folder)
    asked, more = _asked(subject, plan, store, blocks, rows, spec, options, say)
    findings += asked
    if more:
        plan = replace(plan, cells=(*plan.cells, *more), runs={**plan.runs, **{r.id: r for c in more for r in c.runs}})
        ring = Ring(subject, plan, store, slots, blocks, progress)
        facts = _facts(subject, plan, findings, notes) | {"cells": ring.cells}
        store.write_run(**facts, passed=spec.passed(), complete=False)
        ring.go()
        rows = _rows(folder)
    facts["checks"] = [asdict(f) for f in findings + run_row_checks(rows)]
    store.write_run(**facts, passed=spec.passed(), complete=True, seconds=round(time.time() - start, 1), slots=slots)
    return load_evaluation(store.folder)


def _rows(folder: Path) -> RowTable:
    return whole_rows(folder, {**read_run(folder), "complete": True})[0]


def _asked(
    subject: Subject,
    plan: Plan,
    store: Store,
    blocks: Blocks,
    rows: RowTable,
    spec: EvaluationSpec,
    options: Mapping[str, Options],
    say: Callable[[str], None],
) -> tuple[list[Finding], list[Cell]]:
    """What active checks say of each number that has survivors, and the attacks on these that failed checks ask for."""
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
        trial = trial_of(subject, plan, store, rows, result, blocks, spec.seed, missed)
        if trial is None:
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
        if doubts:
            system = subject.systems[result.defense]
            cells += repairs(cell, system, among, doubts[0], spec.tier, options[result.defense], spec.seed)
        if spec.tier != "quick":
            cells.append(more_budget(cell, among, "X2", spec.seed))
    return findings, cells


def _options(subject: Subject, spec: EvaluationSpec, judge: Judge) -> dict[str, Options]:
    """What the seats of each system share: how many draws make a gradient."""
    most = spec.draws if isinstance(spec.draws, int) else DRAWS[spec.tier]
    draws = dict.fromkeys(subject.systems, most)
    for name, defended in subject.systems.items() if spec.draws == "auto" else ():
        if not defended.random:
            continue
        trial = trial_before(subject, name, attack("apgd:eps=8/255"), judge, most, spec.seed)
        draws[name] = min(most, draws_that_agree(trial)) if trial else most
    return {name: Options(count, spec.amp) for name, count in draws.items()}


def _asked_at_most(
    subject: Subject, plan: Plan, spec: EvaluationSpec, options: Mapping[str, Options]
) -> dict[str, float]:
    """Network calls, at most: of the active checks, over the survivors that they look at, and of the attacks that follow where these fail, for an
    image that they are made on.
    """
    checks, follow_up = 0.0, 0.0
    for (name, _, _, eps), cells in white_cells(plan).items():
        system = subject.systems[name]
        if math.isfinite(eps):
            draws = options[name].draws if system.random else 1
            checks += SAMPLE * draws * sum(c.cost for c in in_order(ActiveCheck))
            more = repairs(cells[0], system, subject.images.ids[:1], "X6", spec.tier, options[name], spec.seed)
            if spec.tier != "quick":
                more.append(more_budget(cells[0], subject.images.ids[:1], "X2", spec.seed))
            follow_up += sum(sum(plan.cost_of(run)) for cell in more for run in cell.runs)
    return {"checks": checks, "follow_up_per_image": follow_up}


def _once(defenses: Sequence[DefenseLike]) -> list[DefenseLike]:
    """The same defense given twice, whatever its spelling, counts once."""
    distinct: dict[str, DefenseLike] = {}
    for given in defenses:
        name = str(defense(given)) if isinstance(given, str) else name_of(given)
        before = distinct.setdefault(name, given)
        if not isinstance(given, str) and not isinstance(before, str) and before is not given and before != given:
            raise SparringError(
                f"two different defenses are called {name}; give each a class or function of its own name"
            )
    return list(distinct.values())


def _facts(subject: Subject, plan: Plan, findings: list[Finding], notes: dict[str, str]) -> Json:
    return {
        "prepared": notes,
        "data_name": subject.images.name,
        "images": len(subject.images),
        "rows_per_image": plan.rows_per_image(len(subject.systems)),
        "runs": list(plan.runs),
        "class_names": list(subject.images.classes),
        "lattice": subject.images.lattice,
        "classes": subject.classes,
        "worst_case_cost_per_image": plan.cost(),
        "checks": [asdict(f) for f in findings],
        "skipped": [asdict(s) for s in plan.skipped],
        "surrogates": {
            name: [
                {
                    "stage": s.name,
                    "variants": list(s.surrogate.backward),
                    "random": s.surrogate.random,
                    "why": s.surrogate.why,
                }
                for s in d.stages
            ]
            for name, d in subject.systems.items()
        },
        "attacks_resolved": {
            str(r.attack): {**vars(r.attack.method), **vars(r.attack.setting)} for r in plan.runs.values()
        },
        "threats": {str(c.threat): c.threat.facts() for c in plan.cells},
        "seats": {
            f"{c.defense} / {c.threat}": {
                "source": c.seat.source,
                "access": c.seat.access.name,
                "stop": c.seat.stop,
            }
            for c in plan.cells
        },
    }
