"""A paper's page: every table and figure published beside ours, drawn, with its scale, command and claims."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from sparring.evaluation.records.place import Place
from sparring.evaluation.records.seal import write_text
from sparring.recipes.expand import Seat
from sparring.recipes.judging import agreement, judge
from sparring.recipes.numbers import Number, Replay
from sparring.recipes.recipe import SCALES, UNITS, Recipe
from sparring.recipes.twins import weak_twins
from sparring.report.content import Entry, Item, Panels, Section, Table, Text, row
from sparring.report.front import NAME, TONES, Replayed, flags, front_sections, unrun
from sparring.report.page import GENERATOR, refuse_foreign, rendered
from sparring.report.panels import Kind, Mark, Series, panel
from sparring.report.replays import SCALE_SAYS, claims_table, combinations, number_table

KINDS: dict[Seat, Kind] = {"paper": "ours", "adaptive": "informed"}
MARKS = (
    "Hollow circles, dashed: published. Filled circles: ours. Squares: ours, under an attacker who knows the defense. "
    "Bars: 95 % over images, or the range of several seeds."
)


def write_replays(replayed: Replayed, papers: Sequence[str], folder: Place) -> list[Place]:
    """Write FOLDER/index.html about all of ``replayed``, and FOLDER/PAPER.html of each of ``papers``; returns their paths. Raises SparringError, before
    it writes, where a file of that name is there that is no page of ours.
    """
    pages = {"index": rendered(NAME, front_sections(replayed))}
    for paper in papers:
        own = [pair for pair in replayed if pair[0].paper == paper]
        pages[paper] = rendered(f"{paper}, replayed", paper_sections(own))
    files = {folder / f"{name}.html": text for name, text in pages.items()}
    for file in files:
        refuse_foreign(file, GENERATOR)
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        write_text(file, text)
    return list(files)


def paper_sections(replayed: Replayed) -> list[Section]:
    """The page of one paper: a section each recipe, under a link to the front page."""
    return [
        Section("", (Text(NAME, link="index.html"),)),
        *(
            Section(f"{r.item}: {r.title}", tuple(_items(r, runs)), r.item)
            for r, runs in sorted(replayed, key=lambda pair: not pair[1])
        ),
    ]


def _items(recipe: Recipe, runs: Sequence[Replay]) -> Iterator[Item]:
    missing = f" Missing: {recipe.missing}." if recipe.missing else ""
    yield Text(f"Status {recipe.status}. {recipe.about} Published: {recipe.source or 'lost'}.{missing}", "soft")
    for run in runs:
        yield from _run(recipe, run)
    if not runs:
        if recipe.published.axes and not recipe.all_lost:
            yield number_table(recipe, None)
            yield from _panels(recipe, None)
        waiting = tuple(row(v.claim, v.text, v.where or "ours", unrun(v)) for v in judge(recipe, ()) if v.counts)
        if waiting:
            yield Table("claims", ("claim", "text", "where", "verdict"), waiting)


def _run(recipe: Recipe, run: Replay) -> Iterator[Item]:
    provenance, scale = run.provenance, recipe.scale.get(run.scale)
    made_by = f"sparring {provenance['environment']['sparring']}, {provenance['made']}"
    yield Text(f"Scale {SCALE_SAYS[run.scale]}. {scale.about if scale else ''}", "headline")
    yield Text(
        f"{provenance['command']}: {provenance['seconds']:g} s, seeds {', '.join(map(str, provenance['seeds']))}; {made_by}.",
        "soft",
    )
    for text in flags(recipe, run):
        yield Text(f"{text[0].upper()}{text[1:]}.", "alarm")
    for line in run.doubts:
        yield Text(f"Doubted by {line}", "bad")
    for twin in weak_twins(recipe, run):
        yield Text(twin.line, "bad")
    table = number_table(recipe, run)
    yield Text("In brackets: 95 % over images.", "soft")
    yield table
    if run.scale == SCALES[-1]:
        yield Text(agreement(recipe, run))
    yield from _panels(recipe, run)
    verdicts = judge(recipe, run.numbers)
    if verdicts:
        claims = claims_table(verdicts)
        word = claims.columns.index("verdict")
        toned = tuple(
            tuple(Entry(e.text, TONES.get(e.text, "plain")) if at == word else e for at, e in enumerate(line))
            for line in claims.rows
        )
        yield Table(claims.title, claims.columns, toned)
    for cell, why in run.absent.items():
        yield Text(f"No number of {cell}: {why}", "soft")


def _panels(recipe: Recipe, run: Replay | None) -> Iterator[Panels]:
    """A drawing for each combination of labels but the last axis's; those of our shares from 0 to 100 %."""
    axes = recipe.published.axes
    if not axes:
        return
    labels = list(recipe.axes[axes[-1]])
    published = {} if recipe.all_lost else recipe.numbers
    drawings: list[tuple[str, str]] = []
    for fixed in combinations([list(recipe.axes[axis]) for axis in axes[:-1]]):
        known = {label: published.get((*fixed, label)) for label in labels}
        theirs = tuple(Mark(label, value) for label, value in known.items() if isinstance(value, float))
        numbers = [n for n in run.numbers if n.labels[:-1] == fixed] if run else []
        given: list[tuple[Kind, tuple[Mark, ...]]] = [
            ("published", theirs),
            *((kind, tuple(_marks(numbers, labels, seat))) for seat, kind in KINDS.items()),
        ]
        series = [Series(kind, marks, recipe.kind == "series") for kind, marks in given if marks]
        if series:
            shares = (
                bool(numbers) and numbers[0].scale == UNITS["%"]
            )  # of cells that are not ours nobody says what they measure
            title = ", ".join(fixed) or recipe.title
            drawings.append((title, panel(f"{recipe.item}, {title}", labels, series, shares)))
    if drawings and len(labels) > 1:
        yield Panels(f"By {axes[-1]}", MARKS, tuple(drawings))


def _marks(numbers: Sequence[Number], labels: Sequence[str], seat: Seat) -> Iterator[Mark]:
    for label in labels:
        own = [n for n in numbers if n.labels[-1] == label and n.seat == seat and not math.isnan(n.value)]
        if own:
            yield Mark(label, sum(n.value for n in own) / len(own), _interval(own))


def _interval(numbers: Sequence[Number]) -> tuple[float, float] | None:
    """Over images of one seed; of several the range of their values."""
    values = [n.value for n in numbers]
    return numbers[0].interval if len(numbers) == 1 else (min(values), max(values))
