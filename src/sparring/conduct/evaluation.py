"""``evaluate``: the product of defenses, threats and attacks, run, judged and written down; resumable at any
moment.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import torch
from torch import nn

from sparring.attacks.attack import Attack
from sparring.checks.base import Context, run_checks
from sparring.checks.rows import run_row_checks
from sparring.conduct.asked import asked_at_most, asked_of
from sparring.conduct.crew import attack_on
from sparring.conduct.engine import Cluster, Engine
from sparring.conduct.helper import as_texts, precision, require_precision
from sparring.conduct.planned import KEEPS, Keep, Planned, Running, facts_of, keep_of, planned_of
from sparring.conduct.shards import Shard
from sparring.conduct.workers import Split, Workers, split
from sparring.core.columns import Json
from sparring.core.errors import SparringError
from sparring.core.ranges import Count, Positive
from sparring.core.ranges import Workers as WorkerCount
from sparring.core.spec import convert
from sparring.evaluation.plan.cost import TIMED, time_per_call
from sparring.evaluation.plan.grid import Plan
from sparring.evaluation.plan.spec import EvaluationSpec
from sparring.evaluation.records.claims import FOLDER as CLAIMS
from sparring.evaluation.records.claims import turn
from sparring.evaluation.records.files import read_run
from sparring.evaluation.records.finding import Finding, InvalidSetup
from sparring.evaluation.records.folder import claimed
from sparring.evaluation.records.place import Place, Remote, place_of
from sparring.evaluation.records.reuse import names_in
from sparring.evaluation.records.store import Store
from sparring.evaluation.results.exhibits import worth_a_look
from sparring.evaluation.results.load import Evaluation, whole_rows
from sparring.evaluation.results.table import RowTable
from sparring.evaluation.run.pace import Progress, Spent, limited
from sparring.evaluation.run.pictures import Album
from sparring.evaluation.run.ring import Ring
from sparring.verdict.read import load_evaluation


def evaluate(
    model: str | nn.Module | EvaluationSpec,
    data: Any = None,
    defenses: Sequence[Any] = (),
    threats: Sequence[str] = ("oblivious", "adaptive"),
    attacks: Sequence[str | Attack] = (),
    *,
    out: str | Place | None = None,
    slots: int = 64,
    device: str | None = None,
    workers: int | Literal["auto"] | None = None,
    engine: str = "processes",
    address: str | None = None,
    gpus_per_worker: float | None = None,
    runtime_env: str | Path | None = None,
    shard: str | None = None,
    max_time: float | None = None,
    max_forwards: int | None = None,
    keep: str = "8bit",
    reuse: str | Place | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
    **fields: Any,
) -> Evaluation:
    """Robust accuracy of ``model`` behind each of ``defenses`` (the undefended model is always added), per threat.

    model, data, defenses, threats, attacks and the other ``fields`` (eps, sources, tier, seed, limit, draws, expect_clean, amp, skip_bad,
    block, large_eps, survivors, baseline, claims): see ``EvaluationSpec``, which may also be given whole, as the only argument. out: run folder, on disk
    or in a store (s3://BUCKET/RUN), resumed if it exists, or grown by what it lacks. slots: live rows. workers: processes of this machine, "auto": as
    many as are fastest, None: one.
    engine="ray": workers on a Ray cluster, None: as many as it has room for; address ("auto", HOST:PORT) joins one, without it one of our own is
    begun here; gpus_per_worker: of each, a part is allowed; runtime_env: a JSON file of what is brought to them (``Engine``). shard: this process is
    one of several that were started on one folder, "i/N" or "auto" (``Shard.of``); the last of them gives the verdict. max_time (seconds),
    max_forwards (network calls): stop there, with what is there. keep: of the points of images that fell 8-bit images stay (survivors and nearest errors
    stay as floats); "float": all as floats; "none": no points, once the run is complete. reuse: another run folder;
    its rows and points of the same images, systems and attacks count here too, and are not made again.
    progress(done, total, text) counts network calls; total is what is expected now, and 1 before the plan is known.

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
    workers = convert("evaluate", "workers", WorkerCount | None, workers)
    there = Engine.of(engine, address, gpus_per_worker, runtime_env, device)
    mine = None if shard is None else Shard.of(shard)
    max_time = convert("evaluate", "max_time", Positive | None, max_time)
    max_forwards = convert("evaluate", "max_forwards", Count | None, max_forwards)
    if mine and (out is None or workers not in (None, 1) or there):
        raise SparringError("evaluate: shard needs an out folder that all shards share, and no workers of its own")
    if there and as_texts(spec) and there.address and out is None:
        raise SparringError("evaluate: a cluster needs an out folder that all its machines have at the same path")
    if not dry_run and (max_time is not None or max_forwards is not None):
        progress = limited(progress, max_time, max_forwards)
    if out == "" or not isinstance(out, str | Path | Remote | None):
        raise SparringError(f"evaluate: out is {out!r}; name a folder, or leave it out")
    place = None if out is None else place_of(out)
    running = Running(
        slots, device, workers, mine, progress, keep_of(keep), there, None if reuse is None else _other(reuse, place)
    )
    if dry_run:
        return _dry_run(spec, running)
    with (
        tempfile.TemporaryDirectory()
        if place is None
        else claimed(place, bool(mine), bool(there) or workers not in (None, 1)) as folder
    ):
        try:
            with there.connected(workers) if there else nullcontext() as cluster:
                result = _evaluate(spec, place_of(folder), running, cluster)
        except Spent as reason:  # what a folder holds was not compared with what is asked: it says nothing of that
            raise SparringError(f"{reason}, before anything was attacked; give more") from None
    return result if out else replace(result, folder=None)


def _other(reuse: object, out: Place | None) -> Place:
    """The folder of a run that is taken over. Raises SparringError."""
    if not reuse or not isinstance(reuse, str | Path | Remote):
        raise SparringError(f"evaluate: reuse is {reuse!r}; name a run folder, or leave it out")
    if place_of(reuse) == out:
        raise SparringError("evaluate: reuse is the folder of out itself, which is resumed anyway; leave reuse out")
    return place_of(reuse)


def _dry_run(spec: EvaluationSpec, running: Running) -> Evaluation:
    """The plan and what it costs at most."""
    planned = planned_of(spec, None, running.device, running.say)
    subject, plan = planned.subject, planned.plan
    running.say("measuring what a call costs")
    seconds = time_per_call(subject.prepared.model, subject.images.pixels(slice(TIMED)))
    asked = asked_at_most(subject, plan, spec, planned.options)
    estimate = replace(plan.estimate(seconds, len(subject.images)), asked=asked)
    return Evaluation([], [], [], None, spec.tier, subject.notes, plan=estimate)


def _help(
    spec: EvaluationSpec,
    folder: Place,
    slots: int,
    keep: Keep,
    shares: int,
    device: str | None,
    number: int,
    progress: Progress,
) -> Callable[[], None]:
    """What a worker beside the first process prepares, and then does: its part of the blocks."""
    planned = planned_of(spec, folder, device, lambda _: None)

    def work() -> None:
        mine = planned.cut(folder, shares)
        ring = mine.ring(mine.store(folder), Running(slots, device, 1, None, progress, keep))
        ring.help(ring.claims(), number * len(mine.blocks) // shares)

    return work


def _team(planned: Planned, folder: Place, running: Running) -> tuple[Workers | None, Split]:
    """The other processes that help, if any, and how the machine is split among all."""
    network, n = planned.subject.prepared.model, len(planned.subject.images)
    x = planned.subject.images.pixels(slice(TIMED))
    seconds = planned.plan.estimate(time_per_call(network, x), n).seconds if running.workers == "auto" else 0.0
    shares = split(running.workers or 1, network, x, n, seconds)
    if shares.processes < 2:
        return None, shares
    each = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if running.device == "cuda" else [running.device]
    seen = replace(planned.spec, data=planned.subject.images)  # which need not be read again to be known
    arguments = seen, folder, running.slots, running.keep, shares.processes
    return Workers(shares, _help, arguments, each), shares


def _evaluate(spec: EvaluationSpec, folder: Place, running: Running, cluster: Cluster | None) -> Evaluation:
    """The evaluation in a folder that is this process's own, or that of all shards."""
    say, shard = running.say, running.shard
    known = names_in(running.reuse) if running.reuse else frozenset[str]()
    planned = planned_of(spec, folder, running.device, say, joining=shard is not None, known=known)
    subject, plan = planned.subject, planned.plan
    team, shares = (None, Split(cluster.workers, 1)) if cluster else _team(planned, folder, running)
    threads, begun, comparing = torch.get_num_threads(), False, ExitStack()
    try:
        findings = run_checks(
            Context.of(
                subject, list(dict.fromkeys(c.attack for c in plan.cells)), spec.tier, spec.expect_clean, spec.seed
            ),
            say=lambda text: say(f"checking: {text}"),
        )
        if any(f.stops for f in findings):
            raise InvalidSetup(findings)
        if shard:  # who comes next sees the blocks that this one has written
            comparing.enter_context(turn(folder))
        if shard or team or cluster:
            planned = planned.cut(folder, shard.count if shard else shares.processes)
        store = planned.store(folder)
        if store.kept:
            new = f"; new: {store.grown}" if store.grown else ""
            say(f"resuming {folder}: {store.kept} blocks of rows are kept, the others are made{new}")
        start, notes = time.time(), dict(subject.notes)
        for name, defended in subject.systems.items():
            if spec.draws == "auto" and defended.random:
                drawn = f"{planned.options[name].draws} draws a gradient, by G3"
                notes[name] = f"{notes[name]}; {drawn}" if notes.get(name) else drawn
        if team:
            running = replace(running, progress=_together(running.progress, team))
            torch.set_num_threads(shares.threads)
        ring = planned.ring(store, replace(running, progress=_before_checks(running.progress)))
        how = {"workers": shares.processes, "threads": shares.threads, "shards": shard.count if shard else 0}
        how |= {"precision": precision()} | ({"engine": "ray", "session": uuid4().hex} if cluster else {})
        facts = facts_of(subject, plan, findings, notes) | {"cells": ring.cells, "running": how}
        if shard and store.begun:  # another shard has written it
            require_precision(read_run(folder), folder)
        else:
            store.write_run(**facts, passed=spec.passed(), complete=False)
        if shard or cluster:
            planned.tell_images(folder)
        if running.reuse:
            how["reused"] = {
                "blocks": planned.take_over(running.reuse, store, ring.cells, say),
                "of": running.reuse.name,
            }
        begun = True
        comparing.close()
        claims = ring.claims() if team or shard else None
        if team:
            team.go()
        if shard and claims:
            ring.help(claims, shard.first(len(planned.blocks)))
            if not all(claims.finished(planned.blocks.id(rows)) for rows in planned.blocks.slices):
                return load_evaluation(folder)  # who ends last goes on
            with claims.taken("verdict") as mine:
                if not mine:
                    return load_evaluation(folder)
                store.look_again()  # what others have made, or spoiled since, is looked at before it counts
                ring.go()
                return _finished(planned, store, ring, facts, findings, running, start)
        done = attack_on(cluster, planned, ring, facts, running) if cluster else set[str]()
        if cluster and len(done) < len(planned.blocks):
            return load_evaluation(folder)  # what failed is in its record; the same command tries it again
        ring.go(claims, done)
        torch.set_num_threads(threads)
        return _finished(planned, store, ring, facts, findings, running, start)
    except Spent as reason:
        if not begun:
            raise
        result = load_evaluation(folder)
        return replace(result, missing="; ".join(filter(None, (str(reason), result.missing))), verdicts=())
    finally:
        comparing.close()
        torch.set_num_threads(threads)
        if team:
            team.stop()


def _before_checks(progress: Progress | None) -> Progress | None:
    """Progress that says what its estimate leaves out: which checks fail, and so which attacks follow, nobody knows before."""
    if progress is None:
        return None
    return lambda done, total, text: progress(done, total, f"{text} (then the checks, and what these ask for)")


def _together(progress: Progress | None, team: Workers) -> Progress | None:
    """Progress of this process and of its helpers."""
    if progress is None:
        return None
    return lambda done, total, text: progress(min(total, done + round(team.spent)), total, text)


def _finished(
    planned: Planned, store: Store, ring: Ring, facts: Json, findings: list[Finding], running: Running, start: float
) -> Evaluation:
    """What follows when all attacks are done: the active checks, the attacks that these ask for, the verdict."""
    spec, subject, plan, folder = planned.spec, planned.subject, planned.plan, store.folder
    rows = _rows(folder, facts)
    asked, more = asked_of(planned, store, rows, running.say)
    findings = [*findings, *asked]
    if more:
        plan = replace(plan, cells=(*plan.cells, *more), runs={**plan.runs, **{r.id: r for c in more for r in c.runs}})
        ring = replace(planned, plan=plan).ring(store, running)
        facts |= facts_of(subject, plan, findings, facts["prepared"]) | {"cells": ring.cells}
        store.write_run(**facts, passed=spec.passed(), complete=False)
        ring.go()
        rows = _rows(folder, facts)
    facts["checks"] = [asdict(f) for f in findings + run_row_checks(rows)]
    seconds = round(time.time() - start, 1)
    store.write_run(**facts, passed=spec.passed(), complete=True, seconds=seconds, slots=running.slots)
    _picture(planned, plan, store, rows)
    if not KEEPS[running.keep].points:
        store.drop_points()
    store.gather()
    if (folder / CLAIMS).exists():
        ring.claims().clear()
    return load_evaluation(folder)


def _picture(planned: Planned, plan: Plan, store: Store, rows: RowTable) -> None:
    """Pictures of what speaks against the numbers: its images are known once there is a verdict."""
    threats = dict.fromkeys(str(cell.threat) for cell in plan.cells)
    exhibits = worth_a_look(rows, load_evaluation(store.folder).verdicts, planned.subject.systems, threats)
    album = Album(planned.subject, plan, store, planned.blocks, {e.image for each in exhibits.values() for e in each})
    for seat, each in exhibits.items():
        album.put(*seat, each)


def _rows(folder: Place, facts: Json) -> RowTable:
    """The rows of the images that have been through the runs of ``facts``: a shard that joins finds a record that may ask more of an image."""
    about = {name: facts[name] for name in ("runs", "rows_per_image")}
    return whole_rows(folder, {**read_run(folder), **about, "complete": True})[0]
