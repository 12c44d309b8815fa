"""What commands print with: a progress bar on stderr, tables or JSON on stdout."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from threading import Event, Thread
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
)

from sparring.core.errors import SparringError, visible
from sparring.core.spec import ball, split

if TYPE_CHECKING:  # what is printed brings torch with it; a command's help does not wait for that
    from sparring.analysis.panel import Panel
    from sparring.evaluation.records.estimate import Estimate
    from sparring.evaluation.results.load import Evaluation

WIDTH, WIDEST = 180, 400
TICK = 0.2  # seconds between two looks at how far a job is


_WIDE = ContextVar("wide", default=False)


@contextmanager
def widened(asked: bool) -> Generator[None]:
    """What is printed inside is as wide as it is, where that is asked."""
    before = _WIDE.set(asked)
    try:
        yield
    finally:
        _WIDE.reset(before)


def many(values: list[str] | None) -> list[str]:
    """The specs of an option that takes a comma-separated list, or is repeated."""
    return [spec for value in values or [] for spec in split(value)]


class _Stdout(Console):
    """Leaves to ``heard`` what happens when nobody reads any more; rich would end the process."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console() -> Console:
    """stdout; wide enough for tables when it is not a terminal, or the command was given --wide."""
    if _WIDE.get():
        return _Stdout(width=WIDEST)
    return _Stdout() if sys.stdout.isatty() else _Stdout(width=WIDTH)


@contextmanager
def heard() -> Generator[None]:
    """What is printed inside goes nowhere once nobody reads it (``| head -1``), and the command ends as it would; a stdout that cannot be
    written is one line.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in the buffer must not fail again
        if not isinstance(error, BrokenPipeError):
            raise SparringError(
                f"cannot write to standard output: {error.strerror}; free some space or choose another file; an --out folder is whole: sparring report prints it"
            ) from None


class Bar:
    """Progress on stderr from the first second of a job on, with the time that is left; callable as progress(done, total, text).

    A terminal shows a bar. Elsewhere plain lines say what begins, the first estimate after ten seconds, then one every half minute.
    ``done`` 0 of ``total`` 1 is a step that nobody can measure: its text is all that is said. The estimate takes what is left to go as fast
    as what was done; it counts from the first measured step on, not from the start of the process, and anew after a step that cannot be measured,
    such as where the next evaluation of a recipe begins.
    """

    def __init__(self, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.quiet, self.clock, self.start = quiet, clock, clock()
        self.console = Console(stderr=True)
        columns = (
            BarColumn(24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.description}", markup=False),
        )
        self.progress = Progress(*columns, console=self.console, transient=True)
        self.task: TaskID | None = None
        self.now = (0, 1, "starting")  # done, total, text
        self.first: tuple[float, int] | None = None  # when the first measured step was, and what was done then
        self.last = (0.0, 0)  # when more was done for the last time, and what was done then
        self.said: tuple[float, str] | None = None  # when a line was printed, and what it was about
        self.estimated = False
        self.ended = Event()
        self.ticker = Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Bar:
        if not self.quiet:
            self.ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        if self.ticker.is_alive():
            self.ticker.join()
        if self.task is not None:
            self.progress.stop()

    def __call__(self, done: int, total: int, text: str) -> None:
        self.now = (done, total, text)
        if (done, total) == (0, 1):
            self.first = None
        elif self.first is None:
            self.first = (self.clock(), done)
        if done != self.last[1]:
            self.last = (self.clock(), done)

    def _tick(self) -> None:
        while not self.ended.wait(TICK):
            with suppress(OSError, ValueError):  # nobody listens any more
                self.show()

    def show(self) -> None:
        """Draw the bar, or print the line that is due, if one is."""
        now, (done, total, text) = self.clock(), self.now
        if now - self.start < 1:
            return
        left = self.left(now)
        if self.console.is_terminal:
            if self.task is None:
                self.progress.start()
                self.task = self.progress.add_task(visible(text), total=None, left="")
            measured = total if self.first else None
            self.progress.update(self.task, completed=done, total=measured, description=visible(text), left=left)
        elif self.first is None and (self.said is None or self.said[1] != "measured"):
            if self.said is None or self.said[1] != text:
                self._line(now, text, text)
        elif self.said is None or self.said[1] != "measured":
            self._line(now, f"begins: {text}", "measured")
        elif now - self.said[0] > (30 if self.estimated else 10):
            self.estimated = True
            self._line(now, f"{100 * done / max(1, total):.0f} % done{left and f', {left}'}: {text}", "measured")

    def left(self, now: float) -> str:
        """The time that is left, in words, or "" as long as nobody knows: before a step was measured, and while one takes longer than
        all was thought to take.
        """
        (_, total, _), (began, before), (last, done) = self.now, self.first or (now, 0), self.last
        if done <= before or last <= began:
            return ""
        # a long step says nothing until it is done: it is no slowness of those before it
        seconds = (last - began) * max(0, total - done) / (done - before) - (now - last)
        return f"about {duration(seconds)} left" if seconds >= 0 else ""

    def _line(self, now: float, line: str, about: str) -> None:
        print(visible(line), file=sys.stderr, flush=True)
        self.said = (now, about)


def duration(seconds: float) -> str:
    """Seconds in the unit that one reads."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


@heard()
def emit(content: object, table: RenderableType, as_json: bool) -> None:
    """JSON of ``content``, or the table."""
    from sparring.report.terminal import literal

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


@contextmanager
def invalid_as_json(command: Callable[[], str], as_json: bool) -> Generator[None]:
    """Print the verdict INVALID and the checks as JSON where one of them stops an evaluation; the error goes on to its line and exit code.
    ``command``: what to do next.
    """
    try:
        yield
    except SparringError as error:
        from sparring.evaluation.records.files import json_safe
        from sparring.evaluation.records.finding import InvalidSetup
        from sparring.verdict.rules import invalid

        if as_json and isinstance(error, InvalidSetup):
            verdicts = [v.json() for v in invalid(error.findings, command())]
            emit(json_safe({"verdicts": verdicts, "checks": [vars(f) for f in error.findings]}), "", True)
        raise


@heard()
def print_evaluation(result: Evaluation, as_json: bool, html: Path | None = None) -> None:
    """An evaluation as tables and sentences, or as JSON; a dry run as its plan."""
    from sparring.report.sections.attacks import cells_table
    from sparring.report.sections.checks import findings_table
    from sparring.report.sections.worst_case import closed_table
    from sparring.report.terminal import draw_table, literal, verdict_lines

    if result.plan is not None:
        _print_plan(result.plan, as_json)
        return
    for line in result.damaged:
        print(f"warning: {result.folder}: {line}", file=sys.stderr)
    if as_json:
        print(json.dumps(result.json(), indent=2))
        return
    out = console()
    for line in (line for verdict in result.verdicts for line in verdict_lines(verdict)):
        out.print(literal(line), highlight=False, soft_wrap=True)  # a command is pasted as one line
    if result.missing:
        out.print(
            literal(f"No verdict: {result.missing}. What follows is over those images alone, and no headline stands."),
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


@heard()
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
    if plan.asked:
        out.print(
            literal(
                f"Checks of survivors ask at most {plan.asked['checks']:.0f} network calls in all, nothing where none survives; where they "
                f"fail, the attacks that follow cost at most {plan.asked['follow_up_per_image']:.0f} for each image that is left."
            ),
            highlight=False,
        )
