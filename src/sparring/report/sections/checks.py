"""What the checks said."""

from __future__ import annotations

from collections.abc import Sequence

from sparring.evaluation.records.finding import Finding
from sparring.report.content import Entry, Evaluated, Section, Table, row, section


def findings_table(findings: Sequence[Finding]) -> Table:
    """All findings, failed ones marked."""
    rows = [
        row(f.check, f.subject or "-", Entry("ok" if f.ok else f.severity, "good" if f.ok else "bad"), f.message)
        for f in findings
    ]
    return Table("Checks", ("check", "subject", "result", "says"), tuple(rows))


@section("checks", 60)
def checks(run: Evaluated) -> Section:
    """Every finding, also of checks that are satisfied."""
    return Section("Checks", (findings_table(run.evaluation.findings),))
