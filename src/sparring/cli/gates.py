"""What a pipeline asks of a run: options of ``evaluate`` and ``report`` that end in exit code 4 where a number is not good enough."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparring.cli.kinds import place_option
from sparring.core.errors import SparringError, visible
from sparring.evaluation.records.place import Place

if TYPE_CHECKING:  # they bring torch with them; a command's help does not wait for that
    from sparring.evaluation.results.load import Evaluation
    from sparring.verdict.gate import Gate

FAILED = 4  # the exit code of a gate
FailUnder = Annotated[
    str | None,
    typer.Option(
        "--fail-under",
        metavar="PERCENT",
        help="exit code 4 unless so many percent are trusted to be right in every number with a verdict",
    ),
]
FailVerdict = Annotated[
    list[str] | None,
    typer.Option("--fail-verdict", metavar="WORD,...", help="exit code 4 for these verdicts, such as BROKEN,REFUTED"),
]
Junit = Annotated[
    Path | None,
    place_option("write the gate's answer here, as JUnit XML", "--junit", suffix=".xml", stored=True),
]


def gate_of(fail_under: str | None, fail_verdict: Sequence[str], file: Place | None) -> Gate | None:
    """The gate that was asked for. Raises SparringError for none with a file for its answer: everything would pass."""
    from sparring.verdict.gate import Gate

    gate = Gate.of(fail_under, fail_verdict)
    if file and not gate:
        raise SparringError("--junit needs a mark to fail at: add --fail-under 40, or --fail-verdict BROKEN,REFUTED")
    return gate


def pass_or_leave(gate: Gate | None, evaluation: Evaluation, file: Place | None) -> None:
    """Write the gate's answer, and leave with exit code 4 where it fails."""
    if not gate:
        return
    from sparring.evaluation.records.seal import write_text
    from sparring.verdict.gate import junit

    if file:
        write_text(file, junit(evaluation, gate, str(evaluation.folder or "sparring")))
    failures = gate.failures(evaluation)
    for name, fault in failures.items():
        print(visible(f"gate failed: {name}: {fault}"), file=sys.stderr)
    if failures:
        raise typer.Exit(FAILED)
