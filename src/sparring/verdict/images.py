"""What became of each image in each number with a verdict, and which checks speak against it: a table for a spreadsheet."""

from __future__ import annotations

import io
from collections.abc import Iterable

import pyarrow as pa
from pyarrow import csv

from sparring.core.columns import Json
from sparring.core.errors import SparringError
from sparring.evaluation.records.files import read_run
from sparring.evaluation.records.place import Place
from sparring.evaluation.records.seal import write_text
from sparring.evaluation.results.closed import pool_mask
from sparring.evaluation.results.load import whole_rows
from sparring.evaluation.results.table import CLEAN, RowTable
from sparring.evaluation.results.verdicts import Verdict
from sparring.verdict.read import load_evaluation


def image_rows(folder: str | Place) -> list[Json]:
    """``lines_of`` a run folder, as its own baseline and claims judge it."""
    return lines_of(whole_rows(folder, read_run(folder))[0], load_evaluation(folder).verdicts)


def lines_of(rows: RowTable, verdicts: Iterable[Verdict]) -> list[Json]:
    """One line per verdict about a number and image, of its worst point: the share of judge draws in which the label is right, the label in the first,
    who made the point and how far away it lies. ``reasons``: ids of the checks that doubt it, "" where none does; ``suspect`` says the same in a word.
    """
    lines: list[Json] = []
    for verdict in verdicts:
        if not verdict.threat:
            continue
        about = verdict.defense, verdict.threat, verdict.norm, verdict.eps
        picked = rows.pick(pool_mask(rows, *about))
        for image, share, at in zip(picked.images, picked.p.tolist(), picked.rows.tolist(), strict=True):
            reasons = verdict.suspects.get(image, ())
            lines.append(
                {
                    **dict(zip(("defense", "threat", "norm", "eps"), about, strict=True)),
                    "image": image,
                    "y": int(rows["y"][at]),
                    "right": share,
                    "label": int(rows["label"][at]),
                    "suspect": bool(reasons),
                    "reasons": " ".join(reasons),
                    "by_threat": str(rows.at("threat", at)),
                    "by_attack": "" if str(rows.at("threat", at)) == CLEAN else str(rows.at("attack", at)),
                    "linf": float(rows["linf"][at]),
                    "l2": float(rows["l2"][at]),
                }
            )
    return lines


def write_images(folder: str | Place, file: Place) -> None:
    """``image_rows`` as a CSV file. Raises SparringError where the run has no verdict, as one that was interrupted: an empty file would say nothing."""
    lines = image_rows(folder)
    if not lines:
        raise SparringError(
            f"{folder} has no verdict on any number, so there is no line per image; see sparring report {folder}"
        )
    buffer = io.BytesIO()
    csv.write_csv(pa.Table.from_pylist(lines), buffer)
    write_text(file, buffer.getvalue().decode())
