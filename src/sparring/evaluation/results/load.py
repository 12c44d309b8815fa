"""``Evaluation``: what came out of a run, read from its folder without knowing an attack or a model."""

from __future__ import annotations

import importlib
import itertools
import warnings
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from sparring.core.columns import Json
from sparring.core.errors import SparringError
from sparring.core.extras import need
from sparring.core.shown import many, percent, shown
from sparring.core.trackers import Log
from sparring.evaluation.records.estimate import Estimate
from sparring.evaluation.records.files import read_run, scan_pictures
from sparring.evaluation.records.finding import Finding
from sparring.evaluation.records.place import Place, place_of
from sparring.evaluation.records.provenance import made_by, threat_facts
from sparring.evaluation.records.rows import scan_rows
from sparring.evaluation.results.cells import CellResult, all_cells
from sparring.evaluation.results.closed import UNDEFENDED, ClosedResult, all_closed, headline, strongest
from sparring.evaluation.results.table import CLEAN, RowTable
from sparring.evaluation.results.verdicts import Verdict

if TYPE_CHECKING:  # an extra
    from pandas import DataFrame


@dataclass(frozen=True)
class Evaluation:
    """What came out: results, findings and the folder they are kept in. ``prepared``: what was done to each network before it was
    attacked, by defense. ``missing``: what an interrupted run lacks, or ""; then the numbers are over the images that every cell has, and
    there is no headline. ``damaged``: a line on each file that is not what was written, which
    no number counts. ``made_by``: that other code made the rows, or "". ``plan``: of a dry run only. ``verdicts``: one per defense and ball, and one
    per claim; none of an incomplete run (``sparring.load_evaluation`` and ``evaluate`` give them)."""

    cells: list[CellResult]
    closed: list[ClosedResult]
    findings: list[Finding]
    folder: Place | None
    tier: str
    prepared: dict[str, str]
    missing: str = ""
    made_by: str = ""
    plan: Estimate | None = None
    damaged: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ()

    @property
    def headlines(self) -> list[str]:
        """One sentence per defense and ball, about the strongest threat that was run; the undefended model's own only
        where there is no defense. None of an incomplete run.
        """
        if self.missing:
            return []
        chosen = strongest(self.closed)
        return [
            headline(r, self.tier)
            for r in chosen
            if r.defense != UNDEFENDED or all(o.defense == UNDEFENDED for o in chosen)
        ]

    def __str__(self) -> str:
        """What is to be read first, a line each: what is missing, the verdicts (or the headlines, where there are none), the checks that
        failed, the folder.
        """
        if self.plan is not None:
            return f"dry run: {len(self.plan.cells)} cells, estimated at most {self.plan.seconds:.0f} s"
        lines = [self.missing] if self.missing else []
        lines += [f"{v.line}\n  {v.sentence}" for v in self.verdicts] or self.headlines
        lines += [f"{f.severity} {f.check} {f.subject}: {f.message}" for f in self.findings if not f.ok]
        return "\n".join(lines + ([f"rows: {self.folder}"] if self.folder else []))

    def __repr__(self) -> str:
        words = [f"{v.defense} {v.word.replace('_', ' ')} {percent(v.robust_accuracy)}" for v in self.verdicts]
        return shown(self, self.tier, many(len(self.cells), "cell"), "incomplete" if self.missing else "", *words)

    def table(self, form: str = "text") -> str:
        """The numbers to report and their verdicts, as "text", "markdown", "latex", "csv" or "html". Raises SparringError for another form."""
        return _report("formats").evaluation_as(self, form)

    def to_pandas(self) -> DataFrame:
        """The numbers to report as a pandas DataFrame, shares in [0,1], a row a (defense, threat, ball); ``verdict`` is "" where a number has none.
        Raises SparringError where pandas is not installed.
        """
        rows = [{**c.json(), "verdict": self.word_on(c)} for c in self.closed]
        return need("pandas", "pandas").DataFrame(rows)

    def report(self, file: str | Place) -> Place:
        """Write the page of the run folder to FILE.html; its path. Raises SparringError where the run was not kept."""
        if self.folder is None:
            raise SparringError("this run was not kept, so there is no page of it; give evaluate an out folder")
        return _report("page").write_report(self.folder, file)

    def log(self, to: str) -> None:
        """Log the numbers, verdicts and configuration to a tracker, such as "tensorboard:logs", "wandb:PROJECT" or "mlflow:EXPERIMENT". Raises SparringError
        where its library is not installed, and for an incomplete evaluation.
        """
        run = "evaluation" if self.folder is None else self.folder.name
        _report("logged").log_evaluation(self, Log.of(to), run=run)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return self.table("html")

    def word_on(self, result: ClosedResult) -> str:
        """The verdict on a number, "" where it has none."""
        about = result.defense, result.threat, result.norm, result.eps
        return next((v.word for v in self.verdicts if (v.defense, v.threat, v.norm, v.eps) == about), "")

    def undermined(self, result: ClosedResult) -> list[str]:
        """Ids of the failed checks that speak against a number."""
        about = (result.defense, result.threat, result.norm, result.eps)
        failed = [f for f in self.findings if not f.ok and f.severity in ("FATAL", "FAIL") and f.about(*about)]
        return list(dict.fromkeys(f.check for f in failed))

    def json(self) -> Json:
        return {
            "verdicts": [v.json() for v in self.verdicts],
            "cells": [c.json() for c in self.cells],
            "closed": [{**c.json(), "undermined": self.undermined(c)} for c in self.closed],
            "checks": [asdict(f) for f in self.findings],
            "prepared": self.prepared,
            "missing": self.missing,
            "damaged": list(self.damaged),
            "made_by": self.made_by,
        }


def _report(module: str) -> ModuleType:
    """A module of the room that draws, which stands above this one and knows it: imported when somebody wants to look."""
    return importlib.import_module(f"sparring.report.{module}")


def evaluation_of(folder: str | Place, record: Json, rows: RowTable, missing: str, damaged: list[str]) -> Evaluation:
    """An ``Evaluation`` of a run folder, without verdicts, from what ``read_run`` and ``whole_rows`` give: all numbers are computed anew from its
    rows, over the images that every cell has. Files that are damaged are named and not counted. Raises SparringError if run.json is damaged.
    """
    try:
        findings = [
            Finding(
                **{
                    **f,
                    "value": float(f["value"]),
                    "threshold": float(f["threshold"]),
                    "images": tuple(f.get("images", ())),
                }
            )
            for f in record["checks"]
        ]
        notes, tier = _notes(record), record["identity"]["tier"]
    except (KeyError, TypeError, ValueError) as error:
        raise SparringError(f"{place_of(folder) / 'run.json'} is damaged: {type(error).__name__} {error}") from None
    cells, closed = (all_cells(rows), all_closed(rows)) if rows.size else ([], [])
    unread, other = (*damaged, *scan_pictures(folder, record)[1]), made_by(record)
    return Evaluation(cells, closed, findings, place_of(folder), tier, notes, missing, made_by=other, damaged=unread)


def load_rows(folder: str | Place) -> RowTable:
    """The judged rows of a run folder, over the images that every cell has: what metrics are asked of. Warns if that is not all."""
    rows, missing, _ = whole_rows(folder, read_run(folder))
    if missing:
        warnings.warn(f"{folder}: {missing}", stacklevel=2)
    return rows


def whole_rows(folder: str | Place, record: Json) -> tuple[RowTable, str, list[str]]:
    """The rows of a run folder with record ``record`` (run.json), over the images that every cell has; what is missing, or ""; and a
    line on each damaged file of rows.
    """
    stored, damaged = scan_rows(folder, record)
    order = [text for field in ("defenses", "threats", "attacks") for text in record["identity"][field]]
    rows, missing = whole_images(RowTable(stored, order, threat_facts(record)), record)
    if damaged:
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        missing = f"{damaged[0]}{more}; {missing or 'the same command with the same --out makes it anew; what is no file of the run, remove'}"
    if failed := record.get("failed"):
        block, why = next(iter(failed.items()))
        missing = f"{len(failed)} of {len(record['blocks'])} blocks failed (the first, {block}: {why}); {missing}"
    return rows, missing, damaged


def _notes(record: Json) -> dict[str, str]:
    """What was prepared; older folders say it of the classifier alone."""
    return record["prepared"] if "prepared" in record else {"none": record["model_note"]}


def whole_images(rows: RowTable, record: Json) -> tuple[RowTable, str]:
    """The rows of those images that every cell has, and what is missing, in words, or "". An image without rows of some attack is
    neither robust nor broken: it does not count.
    """
    image = rows.texts["image"]
    planned = np.ones(rows.size, bool)
    if "runs" in record:  # a folder that grew may hold rows of runs that are not asked for now
        planned = rows.among("run", [*record["runs"], CLEAN])
    counts = np.bincount(image.numbers[planned], minlength=len(image.names))
    # older folders do not say how many rows an image has: as many as there are different ones
    expected = record.get("rows_per_image") or _different(rows) + _cells_without_rows(rows, record)
    whole = counts >= expected
    if whole.sum() == record["images"] and record["complete"]:
        return rows, ""
    missing = f"interrupted: {whole.sum()} of {record['images']} images have been through every attack; the same command with the same --out resumes"
    return rows.only(whole[image.numbers]), missing


def _different(rows: RowTable) -> int:
    """Rows that an image has in an older folder."""
    keys = ("defense", "threat", "attack", "view", "draw", "run")
    return len(set(zip(*(map(str, rows[name].tolist()) for name in keys), strict=True)))


def _cells_without_rows(rows: RowTable, record: Json) -> int:
    """Cells of an older folder's record of which there is no row at all."""
    identity, names = record["identity"], ("defense", "threat", "attack")
    cells = set(itertools.product(*(identity[f"{name}s"] for name in names)))
    skipped = {tuple(s[name] for name in names) for s in record["skipped"]} if "skipped" in record else cells
    there = set(zip(*(rows[name].tolist() for name in names), strict=True))
    return len(cells - skipped - there)
