"""Several runs in one table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sparring.core.spec import ball
from sparring.evaluation.results.verdicts import Verdict
from sparring.report.content import Entry, Evaluated, Item, Table, Text, row
from sparring.report.figures import percent
from sparring.report.sections.verdict import TONES

COLUMNS = (
    "run",
    "model",
    "images",
    "defense",
    "threat",
    "ball",
    "verdict",
    "robust at most",
    "95 % bounds",
    "trusted",
    "suspect",
    "n",
    "tier",
)
NUMBERS = ("robust at most", "95 % bounds", "trusted", "suspect", "n")


def side_by_side(runs: Sequence[Evaluated]) -> tuple[Item, ...]:
    """Every verdict of several runs, a line each; a run without one says so in its line."""
    rows = [line for run in runs for line in _lines(run)]
    about = (
        "Each line as its own run gives it, in percent, with one-sided 95 % bounds. Runs on other images, attacks or tiers do not measure the same; the "
        "images that two runs have in common are compared by: sparring compare RUN RUN"
    )
    return Text(about, "soft"), Table("The verdicts of the runs", COLUMNS, tuple(rows), NUMBERS)


def _lines(run: Evaluated) -> list[tuple[Entry, ...]]:
    identity = run.record["identity"]
    first = run.folder, identity["model"], run.record.get("data_name", "images")
    if not run.evaluation.verdicts:
        none = Entry("none: incomplete" if run.evaluation.missing else "none", "bad")
        return [row(*first, "-", "-", "-", none, *["-"] * len(NUMBERS), identity["tier"])]
    return [row(*first, *_entries(v), identity["tier"]) for v in run.evaluation.verdicts]


def _entries(v: Verdict) -> tuple[str | Entry, ...]:
    word = Entry(v.word.replace("_", " "), "plain" if v.word in TONES else "bad")
    about = v.defense or "-", v.threat or "-", ball(v.norm, v.eps) if v.threat else "-"
    if math.isnan(v.robust_accuracy):
        return *about, word, *["-"] * len(NUMBERS)
    value = Entry(percent(v.robust_accuracy), "strong")
    return (
        *about,
        word,
        value,
        f"{percent(v.lower)}-{percent(v.upper)}",
        percent(v.trusted),
        percent(v.suspect),
        str(v.n),
    )
