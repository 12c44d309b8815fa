"""``Evaluation``: what came out of a run, read from its folder without knowing an attack or a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sparring.evaluation.records.estimate import Estimate
from sparring.evaluation.records.files import read_rows, read_run
from sparring.evaluation.records.finding import Finding
from sparring.evaluation.records.provenance import made_by, threat_facts
from sparring.evaluation.results.cells import CellResult, all_cells
from sparring.evaluation.results.closed import ClosedResult, all_closed, headline, strongest
from sparring.evaluation.results.table import RowTable


@dataclass(frozen=True)
class Evaluation:
    """What came out: results, findings and the folder they are kept in. ``prepared``: what was done to each network before it was
    attacked, by defense. ``missing``: what an interrupted run lacks, or ""; then the numbers are over the images that every cell has, and
    there is no headline. ``made_by``: that other code made the rows, or "". ``plan``: of a dry run only."""

    cells: list[CellResult]
    closed: list[ClosedResult]
    findings: list[Finding]
    folder: Path | None
    tier: str
    prepared: dict[str, str]
    missing: str = ""
    made_by: str = ""
    plan: Estimate | None = None

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
    rows, missing = whole_rows(folder, record)
    findings = [
        Finding(**{**f, "value": float(f["value"]), "threshold": float(f["threshold"])}) for f in record["checks"]
    ]
    notes, tier = _notes(record), record["identity"]["tier"]
    cells, closed = (all_cells(rows), all_closed(rows)) if rows.size else ([], [])
    return Evaluation(cells, closed, findings, Path(folder), tier, notes, missing, made_by(record))


def load_rows(folder: str | Path) -> RowTable:
    """The judged rows of a run folder, over the images that every cell has: what metrics are asked of."""
    return whole_rows(folder, read_run(folder))[0]


def whole_rows(folder: str | Path, record: Mapping[str, Any]) -> tuple[RowTable, str]:
    """The rows of a run folder with record ``record`` (run.json), over the images that every cell has, and what is missing, or ""."""
    table, missing = whole_images(read_rows(folder), record)
    order = [text for field in ("defenses", "threats", "attacks") for text in record["identity"][field]]
    return RowTable(table, order, threat_facts(record)), missing


def _notes(record: dict[str, Any]) -> dict[str, str]:
    """What was prepared; older folders say it of the classifier alone."""
    return record["prepared"] if "prepared" in record else {"none": record["model_note"]}


def whole_images(table: pa.Table, record: Mapping[str, Any]) -> tuple[pa.Table, str]:
    """The rows of those images that every cell has, and what is missing, in words, or "". An image without rows of some attack is
    neither robust nor broken: it does not count.
    """
    counts = table.group_by("image").aggregate([("run", "count")])
    # older folders do not say how many rows an image has: as many as there are different ones
    keys = ["defense", "threat", "attack", "view", "draw", "run"]
    expected = record.get("rows_per_image") or table.group_by(keys).aggregate([]).num_rows
    whole = counts.filter(pc.field("run_count") >= expected)["image"]
    if len(whole) == record["images"] and record["complete"]:
        return table, ""
    missing = f"interrupted: {len(whole)} of {record['images']} images have been through every attack; the same command with the same --out resumes"
    return table.filter(pc.field("image").isin(pa.array(whole.to_pylist(), pa.string()))), missing
