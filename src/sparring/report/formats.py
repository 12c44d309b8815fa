"""Tables as text for other programs: Markdown, LaTeX, CSV, HTML, and as a terminal draws them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape

from rich.console import Console

from sparring.core.errors import SparringError
from sparring.core.registry import suggest
from sparring.evaluation.results.load import Evaluation
from sparring.report.content import Entry, Table
from sparring.report.sections.worst_case import closed_table
from sparring.report.terminal import draw_table

# what LaTeX would take for a command, and how it is written
WIDE = 200
LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
}


def as_text(table: Table) -> str:
    """As a wide terminal draws it."""
    console = Console(file=io.StringIO(), width=WIDE)
    with console.capture() as said:
        console.print(draw_table(table))
    return said.get()


def as_markdown(table: Table) -> str:
    """A GitHub table under its title; numbers to the right."""
    marks = ["---:" if name in table.numbers else "---" for name in table.columns]
    lines = [table.columns, marks, *([cell.text for cell in row] for row in table.rows)]
    escaped = (f"| {' | '.join(text.replace('|', chr(92) + '|') for text in line)} |" for line in lines)
    return f"**{table.title}**\n\n" + "\n".join(escaped) + "\n"


def as_latex(table: Table) -> str:
    """A ``table`` with a ``tabular`` and the title as its caption; needs no package."""
    columns = "".join("r" if name in table.numbers else "l" for name in table.columns)
    lines = [table.columns, *([cell.text for cell in row] for row in table.rows)]
    head, *body = (" & ".join(map(_latex, line)) + r" \\" for line in lines)
    inner = "\n".join(
        [rf"\begin{{tabular}}{{{columns}}}", r"\hline", head, r"\hline", *body, r"\hline", r"\end{tabular}"]
    )
    return f"\\begin{{table}}\n\\centering\n\\caption{{{_latex(table.title)}}}\n{inner}\n\\end{{table}}\n"


def as_csv(table: Table) -> str:
    """Comma-separated, a line of headings first; the title is not in it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([cell.text for cell in row] for row in table.rows)
    return text.getvalue()


def as_html(table: Table) -> str:
    """A ``<table>`` with caption and scopes, without style."""

    def line(tag: str, scope: str, texts: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}{scope}>{escape(text)}</{tag}>" for text in texts) + "</tr>"

    body = "".join(line("td", "", [cell.text for cell in row]) for row in table.rows)
    head = line("th", ' scope="col"', table.columns)
    return f"<table><caption>{escape(table.title)}</caption><thead>{head}</thead><tbody>{body}</tbody></table>\n"


FORMATS: dict[str, Callable[[Table], str]] = {
    "text": as_text,
    "markdown": as_markdown,
    "latex": as_latex,
    "csv": as_csv,
    "html": as_html,
}


def table_as(table: Table, form: str) -> str:
    """A table in one of the ``FORMATS``. Raises SparringError for another one."""
    if form not in FORMATS:
        raise SparringError(f"format {form!r} is none of a table{suggest(form, FORMATS)}")
    return FORMATS[form](table)


def evaluation_as(evaluation: Evaluation, form: str) -> str:
    """The numbers to report as a table, and what says whether they can be believed: the verdicts, or why there are none. A CSV has a verdict's word
    in each line.
    """
    table = closed_table(evaluation.closed)
    if form == "csv":
        return as_csv(_with_words(table, evaluation))
    drawn = table_as(table, form)
    said = [f"{v.line}. {v.sentence}" for v in evaluation.verdicts] or [f"No verdict: {evaluation.missing}."]
    if form == "html":
        return "".join(f"<p>{escape(line)}</p>" for line in said) + drawn
    if form == "latex":
        return "".join(f"% {line}\n" for line in said) + drawn
    return "\n\n".join(said) + "\n\n" + drawn


def _with_words(table: Table, evaluation: Evaluation) -> Table:
    """The table of the numbers with a last column that says each one's verdict, or that there is none."""
    words = [evaluation.word_on(number) or "NO_VERDICT" for number in evaluation.closed]
    rows = tuple((*line, Entry(word)) for line, word in zip(table.rows, words, strict=True))
    return replace(table, columns=(*table.columns, "verdict"), rows=rows)


def _latex(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in text)
