"""``Evaluation``: what came out of a run, read from its folder without knowing an attack or a model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparring.evaluation.finding import Finding
from sparring.evaluation.results import CellResult, ClosedResult, RowTable, all_cells, all_closed, headline, strongest
from sparring.evaluation.store import made_by, read_rows, read_run, threat_facts, whole_images

if TYPE_CHECKING:
    from sparring.evaluation.plan import Plan


@dataclass(frozen=True)
class Evaluation:
    """What came out: results, findings and the folder they are kept in. ``prepared``: what was done to each network before it was
    attacked, by defense. ``missing``: what an interrupted run lacks, or ""; then the numbers are over the images that every cell has, and
    there is no headline. ``made_by``: that other code made the rows, or "". ``plan`` and ``seconds`` of a dry run only."""

    cells: list[CellResult]
    closed: list[ClosedResult]
    findings: list[Finding]
    folder: Path | None
    tier: str
    prepared: dict[str, str]
    missing: str = ""
    made_by: str = ""
    plan: Plan | None = None
    seconds: float = 0.0

    @property
    def headlines(self) -> list[str]:
        """One sentence per defense and ball, about the strongest threat that was run; the undefended model's own only
        where there is no defense. None of an incomplete run.
        """
        if self.missing:
            return []
        chosen = strongest(self.closed)
        return [
            headline(r, self.tier) for r in chosen if r.defense != "none" or all(o.defense == "none" for o in chosen)
        ]

    def json(self) -> dict[str, Any]:
        return {
            "cells": [c.json() for c in self.cells],
            "closed": [c.json() for c in self.closed],
            "checks": [asdict(f) for f in self.findings],
            "prepared": self.prepared,
            "missing": self.missing,
            "made_by": self.made_by,
        }


def load_evaluation(folder: str | Path) -> Evaluation:
    """An ``Evaluation`` from a run folder: all numbers are computed anew from its rows, over the images that every cell has."""
    record = read_run(folder)
    table, missing = whole_images(read_rows(folder), record)
    order = [text for field in ("defenses", "threats", "attacks") for text in record["identity"][field]]
    rows = RowTable(table, order, threat_facts(record))
    findings = [
        Finding(**{**f, "value": float(f["value"]), "threshold": float(f["threshold"])}) for f in record["checks"]
    ]
    notes, tier = _notes(record), record["identity"]["tier"]
    cells, closed = (all_cells(rows), all_closed(rows)) if rows.size else ([], [])
    return Evaluation(cells, closed, findings, Path(folder), tier, notes, missing, made_by(record))


def _notes(record: dict[str, Any]) -> dict[str, str]:
    """What was prepared; older folders say it of the classifier alone."""
    return record["prepared"] if "prepared" in record else {"none": record["model_note"]}
