"""Tables of content for a terminal. Every rate stands with n, its interval and its threat model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table as RichTable
from rich.text import Text

from sparring.core.errors import visible_lines
from sparring.evaluation.results.verdicts import Verdict
from sparring.report.content import Table

PART, LEAST, HEAD = 24, 12, 8  # columns of text beyond which a spec, at worst, and a heading go on in a second line


def verdict_lines(verdict: Verdict) -> list[str]:
    """A verdict as a terminal shows it: the word and the number, why, the evidence as yes or no, and what to do next."""
    evidence = [f"  {'yes' if line.ok else 'no ':3} {line.name}: {line.text}" for line in verdict.evidence]
    return [verdict.line, verdict.sentence, *evidence, f"next: {verdict.next}"]


def literal(text: str) -> Text:
    """Text for rich as it stands: brackets, colons and control characters in a name are neither markup nor commands to the terminal. Line
    ends of our own stay.
    """
    return Text(visible_lines(text))


@dataclass(frozen=True)
class FittedTable:
    """A table as wide as the terminal that it is printed on, see ``draw_table``."""

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield fitted(self.table, options.max_width)


def draw_table(table: Table) -> FittedTable:
    """A table as rich draws it: numbers to the right, a line between groups. Where it is too wide, long specs go on in a second line behind a comma or
    a plus, then columns that the table can do without are left out, and said so; at last each row stands by itself, a line a column. No word is broken.
    """
    return FittedTable(table)


def fitted(table: Table, width: int) -> RichTable:
    """``table`` in so many columns of text."""
    columns, rows = list(table.columns), [[cell.text for cell in row] for row in table.rows]
    heads = {name: name for name in columns}
    prose = columns[-1] if not table.numbers else ""  # the last column of a list, which wraps at spaces
    if _width(columns, rows) > width:
        heads = {name: _folded(name, HEAD) for name in columns}
        rows = _in_parts(table, columns, rows, PART)
    left_out: list[str] = []
    for name in table.spare:
        if _width([heads[c] for c in columns], rows) > width:
            at = columns.index(name)
            left_out.append(columns.pop(at))
            rows = [row[:at] + row[at + 1 :] for row in rows]
    most = width - PART if prose else width
    if not prose and _width([heads[c] for c in columns], rows) > width:
        rows = _in_parts(table, columns, rows, LEAST)
    if _width([heads[c] for c in columns], [row[:-1] for row in rows] if prose else rows) > most:
        return _by_row(table.title, columns, rows, width)
    drawn = RichTable(title=literal(table.title), title_justify="left", caption_justify="left")
    if left_out:
        drawn.caption = literal(f"left out here: {', '.join(left_out)} (--wide)")
    for name in columns:
        drawn.add_column(literal(heads[name]), justify="right" if name in table.numbers else "left", overflow="fold")
    grouped = bool(table.numbers)  # tables of results stand in groups, lists do not
    for before, row in zip((None, *table.rows), table.rows, strict=False):
        if grouped and before is not None and before[0].text != row[0].text:
            drawn.add_section()
        drawn.add_row(*map(literal, rows[len(drawn.rows)]))
    return drawn


def _in_parts(table: Table, columns: Sequence[str], rows: Sequence[Sequence[str]], most: int) -> list[list[str]]:
    """The rows with long specs in several lines; numbers and prose as they are."""
    whole = {*table.numbers, *([] if table.numbers else table.columns[-1:])}
    return [
        [text if name in whole else _folded(text, most) for name, text in zip(columns, row, strict=True)]
        for row in rows
    ]


def _by_row(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> RichTable:
    """Each row as a group of lines: the column's name, and what stands in it."""
    drawn = RichTable(title=literal(title), title_justify="left", show_header=False)
    drawn.add_column(overflow="fold")
    drawn.add_column(overflow="fold")
    room = width - max(map(cell_len, columns)) - 7
    for row in rows:
        for name, text in zip(columns, row, strict=True):
            whole = re.sub(r"([,+]?)\n", lambda end: end[1] or " ", text)
            drawn.add_row(literal(name), literal(_folded(whole, room)))
        drawn.add_section()
    return drawn


def _width(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Columns of text that a table of these needs, its borders included; ``rows`` may have fewer entries than there are columns."""
    widths = [0] * len(columns)
    for row in (columns, *rows):
        for i, text in enumerate(row):
            widths[i] = max(widths[i], *(cell_len(line) for line in text.split("\n")), 0)
    return sum(width + 3 for width in widths) + 1


def _folded(text: str, most: int) -> str:
    """A long spec in lines: behind a comma, a plus or a space."""
    lines, line = list[str](), ""
    for part in re.findall(r"[^,+ ]*[,+ ]?", text.replace("\n", "")):
        if line and cell_len(line + part.rstrip()) > most:
            lines.append(line.rstrip())
            line = ""
        line += part
    return "\n".join([*lines, line.rstrip()])
