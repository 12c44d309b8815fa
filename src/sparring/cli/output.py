"""What commands print with: a progress bar on stderr, tables or JSON on stdout."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from sparring.core.errors import visible
from sparring.core.spec import ball, split

if TYPE_CHECKING:  # what is printed brings torch with it; a command's help does not wait for that
    from sparring.analysis.panel import Panel
    from sparring.evaluation.records.estimate import Estimate
    from sparring.evaluation.results.load import Evaluation

WIDTH = 180


def many(values: list[str] | None) -> list[str]:
    """The specs of an option that takes a comma-separated list, or is repeated."""
    return [spec for value in values or [] for spec in split(value)]


def console() -> Console:
    """stdout; wide enough for tables when it is not a terminal."""
    return Console() if sys.stdout.isatty() else Console(width=WIDTH)


class Bar:
    """A progress bar with ETA on stderr, shown once a job has lasted a second; callable as progress(done, total,
    text).

    Not a terminal: a plain line every half minute instead.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet, self.start, self.said = quiet, time.monotonic(), time.monotonic()
        self.console = Console(stderr=True)
        columns = (
            BarColumn(24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
        )
        self.progress = Progress(*columns, console=self.console, transient=True)
        self.task: TaskID | None = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.task is not None:
            self.progress.stop()

    def __call__(self, done: int, total: int, text: str) -> None:
        now = time.monotonic()
        if self.quiet or now - self.start < 1:
            return
        if not self.console.is_terminal:
            if now - self.said > 30:
                left = (now - self.start) * (total - done) / max(1, done)
                print(
                    f"{100 * done / max(1, total):.0f} % done, about {left:.0f} s left: {visible(text)}",
                    file=sys.stderr,
                    flush=True,
                )
                self.said = now
            return
        if self.task is None:
            self.progress.start()
            self.task = self.progress.add_task(visible(text), total=total)
        self.progress.update(self.task, completed=done, total=total, description=visible(text))


def emit(content: object, table: RenderableType, as_json: bool) -> None:
    from sparring.report.terminal import literal

    """JSON of ``content``, or the table."""
    if as_json:
        print(json.dumps(content, indent=2, default=str))
    else:
        console().print(literal(table) if isinstance(table, str) else table, highlight=False)


def print_panel(panel: Panel, as_json: bool) -> None:
    """An analysis's tables and sentences, or all of it as JSON."""
    from rich.table import Table

    from sparring.analysis.panel import cell
    from sparring.report.terminal import literal

    if as_json:
        emit(panel.json(), "", True)
        return
    for content in panel.tables:
        table = Table(title=literal(content.title))
        for i, name in enumerate(content.head):
            table.add_column(literal(name), justify="left" if i == 0 else "right")
        for row in content.rows:
            table.add_row(*(literal(cell(value)) for value in row))
        emit({}, table, False)
    for line in panel.text:
        emit({}, line, False)


def print_evaluation(result: Evaluation, as_json: bool, html: Path | None = None) -> None:
    """An evaluation as tables and sentences, or as JSON; a dry run as its plan."""
    from sparring.report.sections.attacks import cells_table
    from sparring.report.sections.checks import findings_table
    from sparring.report.sections.worst_case import closed_table
    from sparring.report.terminal import draw_table, literal

    if result.plan is not None:
        _print_plan(result.plan, as_json)
        return
    if as_json:
        print(json.dumps(result.json(), indent=2))
        return
    out = console()
    if result.missing:
        out.print(
            literal(f"{result.missing}. What follows is over those images alone, and no headline stands."),
            highlight=False,
        )
    if result.made_by:
        out.print(literal(f"These rows were {result.made_by}."), highlight=False)
    out.print(draw_table(cells_table(result.cells)))
    out.print(draw_table(closed_table(result.closed)))
    failed = [f for f in result.findings if not f.ok]
    if failed:
        out.print(draw_table(findings_table(failed)))
    for defense, note in result.prepared.items():
        out.print(literal(f"network of {defense}: {note}"), highlight=False)
    for line in result.headlines:
        out.print(literal(line), highlight=False)
    if result.folder:
        out.print(literal(f"rows: {result.folder}" + (f"   page: {html}" if html else "")), highlight=False)


def _print_plan(plan: Estimate, as_json: bool) -> None:
    from sparring.report.terminal import literal

    if as_json:
        print(json.dumps(plan.json(), indent=2))
        return
    out = console()
    for c in plan.cells:
        out.print(
            literal(
                f"{c.defense} | {c.threat} | {c.attack} | {ball(c.norm, c.eps)}: {len(c.runs)} run(s), "
                f"at most {c.forwards} forwards and {c.backwards} backwards per image"
            ),
            highlight=False,
        )
    for s in plan.skipped:
        out.print(literal(f"skipped: {s['defense']} | {s['threat']} | {s['attack']}: {s['reason']}"), highlight=False)
    cost = plan.cost_per_image
    out.print(
        literal(
            f"{len(plan.cells)} cells, {len(plan.runs)} distinct runs. Per image that survives everything: "
            f"{cost['forwards']:.0f} forwards, {cost['backwards']:.0f} backwards, "
            f"{cost['judge_forwards']:.0f} judge forwards. Estimated at most {plan.seconds:.0f} s; images that fall early cost less."
        ),
        highlight=False,
    )
