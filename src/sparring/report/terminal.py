"""Tables of content for a terminal. Every rate stands with n, its interval and its threat model."""

from __future__ import annotations

from rich.table import Table as RichTable

from sparring.report.content import Table


def draw_table(table: Table) -> RichTable:
    """A table as rich draws it: numbers to the right, a line between groups."""
    drawn = RichTable(title=table.title, title_justify="left")
    for name in table.columns:
        drawn.add_column(name, justify="right" if name in table.numbers else "left", overflow="fold")
    grouped = bool(table.numbers)  # tables of results stand in groups, lists do not
    for before, row in zip((None, *table.rows), table.rows, strict=False):
        if grouped and before is not None and before[0].text != row[0].text:
            drawn.add_section()
        drawn.add_row(*(cell.text for cell in row))
    return drawn
