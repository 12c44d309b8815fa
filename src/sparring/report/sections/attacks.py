"""Each attack by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sparring.core.spec import ball
from sparring.evaluation.results.cells import CellResult
from sparring.evaluation.results.contributions import Contribution, contributions
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
            Entry(_left(c), "strong"),
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
    if any(c.n < c.images for c in cells):
        title = "Each attack in each seat: accuracy over the n images that it attacked, own points only (%)"
    return Table(
        title, COLUMNS, tuple(rows), COLUMNS[4:], ("median norm", "source fooled", "fwd/img", "8-bit", "clean")
    )


def contributions_table(lines: Sequence[Contribution]) -> Table:
    """One line per attack that shares defense, threat and ball with others: what it adds to them."""
    columns = ("defense", "threat", "ball", "attack", "broken", "alone", "worst", "optimality", "calls/img")
    shown = [
        row(
            c.defense,
            c.threat,
            ball(c.norm, c.eps),
            c.attack,
            f"{c.broken} of {c.n}",
            Entry("-" if c.alone is None else str(c.alone), "strong"),
            str(c.worst),
            "-" if math.isnan(c.optimality) else f"{c.optimality:.2f}",
            f"{c.calls:.0f}",
        )
        for c in lines
    ]
    if all(math.isnan(c.optimality) for c in lines):
        shown, columns = [(*entries[:7], entries[8]) for entries in shown], (*columns[:7], columns[8])
    return Table(
        "What each attack adds to those beside it, images that are right when clean", columns, tuple(shown), columns[4:]
    )


def _left(c: CellResult) -> str:
    """The accuracy over all images, or what is left of those that the attacks before had left."""
    if c.n == c.images:
        return percent(c.robust_accuracy)
    return f"of {c.n} left, {c.n * c.robust_accuracy:.3g}" if c.n else "none left"


@section("attacks", 40)
def attacks(run: Evaluated) -> Section:
    """Own points only: for comparing attacks, not for reporting."""
    about = (
        "Own points only, accuracy in percent over the n images that the attack looked at. With a tier's attacks these are the ones that its threat's "
        'attacks before it had left: "of 12 left, 1". A minimum-norm attack stops at the nearest error, so small changes of its input '
        "undo it; a fixed-budget attack goes as deep as it can. Compare both before believing in a recovery."
    )
    items = [Text(about, "soft"), cells_table(run.evaluation.cells)]
    added = contributions(run.rows)
    if added:
        about = (
            "Broken: the label is lost in more than half of the judge's draws, of the images that the attack looked at. Alone: by this attack and no other "
            "beside it: without the attack so many images more would count as robust (-: another did not look at all of them). "
            "Worst: the pool's point of so many images is its own, the "
            "nearest one where there is no budget. Optimality (AttackBench, local): how near its points are to the nearest of all, 1 everywhere nearest."
        )
        items += [Text(about, "soft"), contributions_table(added)]
    return Section("Each attack in each seat", tuple(items))
