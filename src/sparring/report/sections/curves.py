"""Accuracy against budget."""

from __future__ import annotations

from sparring.report.content import Evaluated, Figure, Section, section
from sparring.report.curves import eps_curves


@section("curves", 30)
def curves(run: Evaluated) -> Section | None:
    """One figure a norm, where at least two budgets were run."""
    drawn = [Figure(f"Accuracy against budget, {norm}", svg) for norm, svg in eps_curves(run.evaluation.closed)]
    return Section("Accuracy against budget", tuple(drawn)) if drawn else None
