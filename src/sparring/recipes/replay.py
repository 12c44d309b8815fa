"""``replay``: a recipe run at a scale, its numbers read, its claims judged, all of it written down; every step resumes."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sparring.conduct import evaluate
from sparring.core.errors import SparringError
from sparring.core.registry import METRICS, suggest
from sparring.evaluation.records.provenance import environment
from sparring.evaluation.records.seal import write_whole
from sparring.evaluation.run.pace import Progress
from sparring.recipes.expand import Expanded, Step
from sparring.recipes.judging import judge
from sparring.recipes.load import load_recipe
from sparring.recipes.numbers import Number, Replay, picture_folder, replay_file
from sparring.recipes.reading import Absent, Reader
from sparring.recipes.recipe import Recipe, ScaleName
from sparring.recipes.steps import Folders, as_spec, check, command, do

OUT = "runs/recipes"


@dataclass(frozen=True)
class PlannedStep:
    """A step of a dry run: its command, and either that it is done, or at most how many seconds it takes, or why nobody knows."""

    id: str
    command: str
    done: bool
    seconds: float | None
    why: str


def plan(
    recipe: Recipe | str,
    scale: ScaleName = "small",
    *,
    out: str | Path = OUT,
    data_dir: str | Path | None = None,
    only: Sequence[str] = (),
    cost: bool = True,
) -> list[PlannedStep]:
    """What a recipe would run, as ordinary commands. ``cost``: measure what evaluations cost whose model and images are there. Raises SparringError for a
    recipe that cannot run yet, and for a step that does not resolve.
    """
    expanded, folders = _expanded(recipe, scale), Folders.of(out, data_dir)
    return [_planned(step, folders, cost) for step in _chosen(expanded, only)]


def _planned(step: Step, folders: Folders, cost: bool) -> PlannedStep:
    text = command(step, folders)
    if folders.is_done(step):
        return PlannedStep(step.id, text, True, 0.0, "")
    if step.kind != "evaluate":
        return PlannedStep(step.id, text, False, None, f"{step.kind}: not measured before it is run")
    if not cost:
        return PlannedStep(step.id, text, False, None, "not asked")
    try:
        result = evaluate(as_spec(step, folders.asked(step)), dry_run=True)
    except SparringError as error:
        return PlannedStep(step.id, text, False, None, str(error))
    return PlannedStep(step.id, text, False, result.plan.seconds if result.plan else None, "")


def replay(
    recipe: Recipe | str,
    scale: ScaleName = "small",
    *,
    out: str | Path = OUT,
    data_dir: str | Path | None = None,
    only: Sequence[str] = (),
    workers: int = 1,
    progress: Progress | None = None,
) -> Replay:
    """Run a recipe ("PAPER/ITEM", FILE.toml, or a ``Recipe``) at a scale: its trainings, evaluations and analyses, then its numbers and verdicts.

    ``out``: folder of the steps, and of OUT/PAPER/ITEM.SCALE.json with its pictures in the folder ITEM.SCALE, written once all steps are done.
    ``data_dir``: what ${DATA} stands for, default SPARRING_DATA. ``only``: ids of the steps that are run; the numbers are those that are there.
    Stopped at any time, the same call resumes.

    Raises SparringError for an unknown recipe, one that cannot run yet, a step that does not resolve, and where a step fails.
    """
    expanded, folders = _expanded(recipe, scale), Folders.of(out, data_dir)
    steps = _chosen(expanded, only)
    for number, step in enumerate(steps, 1):
        say = _counted(progress, f"step {number} of {len(steps)}, {step.id}")
        say(0, 1, "begins")  # what was measured until now is of another step
        do(step, folders, workers, say, expanded.recipe.id)
    replayed = read(expanded, folders)
    if all(folders.is_done(step) for step in expanded.steps):
        for step in expanded.steps:
            for name, file in folders.pictures(step).items():
                write_whole(picture_folder(expanded.recipe, scale, folders.out) / name, file.read_bytes())
        verdicts = [v.json() for v in judge(expanded.recipe, replayed.numbers)]
        replayed.save(replay_file(expanded.recipe, scale, folders.out), verdicts)
    return replayed


def read(expanded: Expanded, folders: Folders) -> Replay:
    """The numbers of the steps that are done."""
    reader = Reader(folders, expanded.recipe.published.unit)
    numbers: list[Number] = []
    absent: dict[str, str] = {}
    done = {step.place for step in expanded.steps if folders.is_done(step)}
    for address in expanded.addresses:
        try:
            if address.place not in done:
                raise Absent("its step has not been run")
            numbers.append(reader.number(address))
        except Absent as why:
            absent["/".join([*address.labels, address.seat, f"s{address.seed}"])] = str(why)
    facts = [folders.facts(step) for step in expanded.steps if step.place in done]
    provenance = {
        "command": f"sparring recipe run {expanded.recipe.id} --scale {expanded.scale_name}",
        "made": time.strftime("%Y-%m-%d"),
        "seeds": expanded.scale.seeds,
        "seconds": round(sum(f["seconds"] for f in facts), 1),
        "environment": {**environment(), "machine": platform.machine()},
        "steps": facts,
    }
    return Replay(expanded.recipe.id, expanded.scale_name, provenance, tuple(numbers), absent)


def _counted(progress: Progress | None, where: str) -> Progress:
    def told(done: int, total: int, text: str) -> None:
        if progress:
            progress(done, total, f"{where}: {text}")

    return told


def _expanded(recipe: Recipe | str, scale: ScaleName) -> Expanded:
    """A recipe at a scale, of which every step resolves."""
    chosen = load_recipe(recipe) if isinstance(recipe, str) else recipe
    if chosen.missing:
        raise SparringError(f"{chosen.id} cannot run yet: {chosen.missing}")
    expanded = Expanded.of(chosen, scale)
    for step in expanded.steps:
        check(step, expanded)
    for address in expanded.addresses:
        _ = METRICS[address.metric]
    return expanded


def _chosen(expanded: Expanded, only: Sequence[str]) -> list[Step]:
    known = dict.fromkeys(step.id for step in expanded.steps)
    for name in only:
        if name not in known:
            raise SparringError(f"{expanded.recipe.id} has no step {name!r}{suggest(name, known)}")
    return [step for step in expanded.steps if not only or step.id in only]
