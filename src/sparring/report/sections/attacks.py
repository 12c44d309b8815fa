"""Each attack by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sparring.core.spec import ball
from sparring.evaluation.results.cells import CellResult
from sparring.report.content import Entry, Evaluated, Section, Table, Text, row, section
from sparring.report.figures import percent

COLUMNS = (
    "defense",
    "threat",
    "attack",
    "ball",
    "clean",
    "robust",
    "95 % interval",
    "8-bit",
    "source fooled",
    "median norm",
    "n",
    "fwd/img",
)


def cells_table(cells: Sequence[CellResult]) -> Table:
    """One line per (defense, threat, attack, ball): own points only."""
    rows = [
        row(
            c.defense,
            c.threat,
            c.attack,
            ball(c.norm, c.eps),
            percent(c.clean_accuracy),
            Entry(percent(c.robust_accuracy), "strong"),
            f"{percent(c.ci_low)}-{percent(c.ci_high)}",
            percent(c.robust_accuracy_8bit),
            percent(c.source_fooled),
            "-" if math.isnan(c.median_norm) else f"{c.median_norm:.3g}",
            str(c.n),
            f"{c.forwards_per_image:.0f}",
        )
        for c in cells
    ]
    title = "Each attack in each seat: accuracy over all images, own points only (%)"
    return Table(title, COLUMNS, tuple(rows), COLUMNS[4:])


@section("attacks", 40)
def attacks(run: Evaluated) -> Section:
    """Own points only: for comparing attacks, not for reporting."""
    about = (
        "Own points only, accuracy over all images in percent. A minimum-norm attack stops at the nearest error, so small changes of its input "
        "undo it; a fixed-budget attack goes as deep as it can. Compare both before believing in a recovery."
    )
    return Section("Each attack in each seat", (Text(about, "soft"), cells_table(run.evaluation.cells)))
