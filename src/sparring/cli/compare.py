"""``sparring compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparring.cli.kinds import place
from sparring.cli.options import Json, Wide
from sparring.cli.output import emit

EXAMPLE = "Example: sparring compare runs/before runs/after"


def compare(
    first: Annotated[Path, typer.Argument(help="run folder", parser=place, metavar="RUN")],
    second: Annotated[Path, typer.Argument(help="another run folder", parser=place, metavar="RUN")],
    images: Annotated[bool, typer.Option("--images", help="name the images that moved")] = False,
    wide: Wide = False,
    json_out: Json = False,
) -> None:
    """Two runs on the images that both have: the numbers side by side, their difference with paired bounds and McNemar's test, which images moved. Nothing
    is run again.
    """
    from sparring.report.tables import comparison_table, moved_lines
    from sparring.report.terminal import draw_table
    from sparring.verdict.comparison import compare_runs

    compared = compare_runs(first, second)
    if json_out:
        emit(compared.json(), "", True)
        return
    emit({}, draw_table(comparison_table(compared)), False)
    for line in (*compared.notes, *(moved_lines(compared) if images else ())):
        emit({}, line, False)
