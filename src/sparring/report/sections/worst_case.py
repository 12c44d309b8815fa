"""The closed pool: the numbers to report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sparring.core.spec import ball
from sparring.evaluation.results.closed import ClosedResult
from sparring.report.content import Entry, Evaluated, Section, Table, Text, row, section
from sparring.report.figures import percent

COLUMNS = (
    "defense",
    "threat",
    "ball",
    "clean",
    "robust at most",
    "95 % interval",
    "upper bound",
    "8-bit",
    "undefended",
    "attacks",
    "n",
)


def closed_table(results: Sequence[ClosedResult], flags: Mapping[str, Sequence[str]] | None = None) -> Table:
    """One line per (defense, threat, ball). flags: warnings by defense. An unbounded ball has no robust accuracy and no 8-bit number: its
    line says what the attack leaves, the title that this is all it says.
    """
    rows, said = [], set()
    for r in results:
        unbounded = math.isinf(r.eps)
        warned = () if r.defense in said else tuple((flags or {}).get(r.defense, ()))
        said.add(r.defense)
        rows.append(
            row(
                Entry(r.defense, flags=warned),
                r.threat,
                ball(r.norm, r.eps),
                percent(r.clean_accuracy),
                Entry(
                    percent(r.robust_accuracy),
                    "plain" if unbounded else "strong",
                    (r.robust_accuracy, r.ci_low, r.ci_high),
                ),
                f"{percent(r.ci_low)}-{percent(r.ci_high)}",
                percent(r.upper),
                "-" if unbounded else percent(r.robust_accuracy_8bit),
                percent(r.undefended),
                str(r.attacks),
                str(r.n),
            )
        )
    title = "Worst case per image over the closed pool: the numbers to report (%)"
    if any(math.isinf(r.eps) for r in results):  # a defense has either bounded balls or unbounded ones
        title += ". An unbounded ball: what the attack leaves, no robustness"
    return Table(title, COLUMNS, tuple(rows), COLUMNS[3:], ("attacks", "upper bound", "undefended", "8-bit"))


@section("worst_case", 20)
def worst_case(run: Evaluated) -> Section:
    """Per threat and ball, accuracy against the worst of all points that the threat and those it dominates have made."""
    failed = [f for f in run.evaluation.findings if not f.ok and f.severity != "INFO"]
    flags = {
        d: list(
            dict.fromkeys(f"{f.check}: {f.message}" for f in failed if not f.subject or f.subject.split(" / ")[0] == d)
        )
        for d in run.record["identity"]["defenses"]
    }
    about = (
        f"Accuracy over all {run.record['images']} images in percent. For each threat, the pool holds every point of that threat and of all "
        "weaker ones that lies in the ball; an image counts as right only if its worst point does. The thin line is the 95 % interval."
    )
    return Section("Worst case per image", (Text(about, "soft"), closed_table(run.evaluation.closed, flags)))
