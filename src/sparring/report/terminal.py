"""Tables of content for a terminal. Every rate stands with n, its interval and its threat model."""

from __future__ import annotations

from rich.table import Table as RichTable
from rich.text import Text

from sparring.core.errors import visible
from sparring.evaluation.results.verdicts import Verdict
from sparring.report.content import Table


def verdict_lines(verdict: Verdict) -> list[str]:
    """A verdict as a terminal shows it: the word and the number, why, the evidence as yes or no, and what to do next."""
    evidence = [f"  {'yes' if line.ok else 'no ':3} {line.name}: {line.text}" for line in verdict.evidence]
    return [verdict.line, verdict.sentence, *evidence, f"next: {verdict.next}"]


def literal(text: str) -> Text:
    """Text for rich as it stands: brackets, colons and control characters in a name are neither markup nor commands to the terminal. Line
    ends of our own stay.
    """
    return Text("\n".join(map(visible, text.split("\n"))))


def draw_table(table: Table) -> RichTable:
    """A table as rich draws it: numbers to the right, a line between groups."""
    drawn = RichTable(title=literal(table.title), title_justify="left")
    for name in table.columns:
        drawn.add_column(literal(name), justify="right" if name in table.numbers else "left", overflow="fold")
    grouped = bool(table.numbers)  # tables of results stand in groups, lists do not
    for before, row in zip((None, *table.rows), table.rows, strict=False):
        if grouped and before is not None and before[0].text != row[0].text:
            drawn.add_section()
        drawn.add_row(*(literal(cell.text) for cell in row))
    return drawn
