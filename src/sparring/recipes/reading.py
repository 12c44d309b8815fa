"""A recipe's numbers, read from the rows of its evaluations and the panels of its analyses."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sparring.attacks.attack import attack
from sparring.core.columns import Json
from sparring.core.errors import SparringError
from sparring.core.registry import METRICS
from sparring.core.spec import parse
from sparring.evaluation.records.files import read_run
from sparring.evaluation.results.cells import candidates
from sparring.evaluation.results.load import whole_rows
from sparring.evaluation.results.metrics.base import Metric, Points, points_of
from sparring.evaluation.results.table import CLEAN, RowTable
from sparring.recipes.expand import Address
from sparring.recipes.numbers import Number, PerImage, mean_number
from sparring.recipes.recipe import UNITS
from sparring.recipes.steps import Folders


class Absent(Exception):
    """A cell has no number, and why."""


@dataclass
class Reader:
    """Reads addresses; each run folder once. ``unit``: of the recipe's table, for addresses without one."""

    folders: Folders
    unit: str

    def __post_init__(self) -> None:
        self.rows: dict[Path, RowTable] = {}
        self.panels: dict[Path, Json] = {}

    def number(self, address: Address) -> Number:
        """The number at an address. Raises Absent where there is none."""
        number = self._read(address)
        return number if address.divisor is None else quotient(number, self._read(address.divisor), address.complement)

    def _read(self, address: Address) -> Number:
        path = self.folders.out / address.place
        panel = path.with_name(f"{path.name}.json")
        if path.is_dir():
            return self._of_run(path, address)
        if panel.exists():
            return self._of_panel(panel, address)
        raise Absent("its step has not been run")

    def _rows(self, folder: Path) -> RowTable:
        if folder not in self.rows:
            rows, missing, _ = whole_rows(folder, read_run(folder))
            if missing:
                raise Absent(missing)
            self.rows[folder] = rows
        return self.rows[folder]

    def _of_run(self, folder: Path, address: Address) -> Number:
        rows, defense = self._rows(folder), self.folders.place(address.defense)
        metric: Metric = METRICS[address.metric]
        if address.threat == CLEAN:
            parts = [_clean(rows, defense)]
        else:
            threat = str(parse(self.folders.place(address.threat)))
            names = [str(attack(text)) for text in address.attacks]
            if not names:
                raise SparringError(f"the cell {'/'.join(address.labels)} names no attack; write attack = ...")
            parts = [_attacked(rows, defense, threat, name, metric) for name in names]
        columns = tuple(column for column, _ in parts)
        if len({images for _, images in parts}) > 1:
            raise Absent("its attacks looked at different images")
        scale = UNITS[address.unit or self.unit] if metric.percent else 1.0
        value = mean_number(columns, scale)
        if math.isnan(value):
            raise Absent("no image is left to count")
        images = parts[0][1]
        about = address.labels, address.seat, address.seed, address.threat, ",".join(address.attacks)
        return Number(*about, images, columns, scale, value)

    def _of_panel(self, file: Path, address: Address) -> Number:
        if file not in self.panels:
            self.panels[file] = json.loads(file.read_text())
        inside: object = self.panels[file]["data"]
        for part in address.path:
            name = self.folders.place(part)
            if not isinstance(inside, dict) or name not in inside:
                there = ", ".join(map(str, inside)) if isinstance(inside, dict) else str(inside)
                raise Absent(f"the analysis says nothing of {name} (it has {there})")
            inside = inside[name]
        about = address.labels, address.seat, address.seed, address.threat, ""
        scale = UNITS[address.unit or self.unit]
        if isinstance(inside, dict) and set(inside) == {"right", "n"}:
            top = (np.arange(inside["n"]) < inside["right"]).astype(float)  # which images are right is not known
            column = PerImage(top, np.ones(len(top)), top > 0.5, "share", False)
            unpaired = _hash([address.place, *address.path])
            return Number(*about, unpaired, (column,), scale, mean_number((column,), scale), address.exact)
        if isinstance(inside, dict) and set(inside) == {"kind", "images", "values"}:
            if not inside["values"]:
                raise Absent("no image is left to count")
            top = np.array(inside["values"], float)
            column = PerImage(top, np.ones(len(top)), top > 0.5, inside["kind"], False)
            value = mean_number((column,), scale)
            if math.isnan(value):
                raise Absent(f"the analysis found no number for some image at {'/'.join(address.path)}")
            return Number(*about, inside["images"], (column,), scale, value, address.exact)
        if isinstance(inside, bool) or not isinstance(inside, int | float):
            raise Absent(f"the analysis says {inside} at {'/'.join(address.path)}")
        return Number(*about, "", (), scale, scale * inside, address.exact)


def quotient(a: Number, b: Number, complement: bool) -> Number:
    """a / b of two shares of the same images, or one minus that, per image: (the sum of tops) over (the sum of the other's tops). Raises Absent for
    numbers of other images, or of other kinds.
    """
    if a.images != b.images:
        raise Absent("it and its divisor are of different images")
    columns = (*a.columns, *b.columns)
    if len(columns) != 2 or any(c.kind != "share" or not (c.over == 1).all() for c in columns):
        raise Absent("only shares of all images are divided, each of one attack")
    top, over = columns[0].top, columns[1].top
    column = PerImage(over - top if complement else top, over, top > 0.5, "ratio", any(c.random for c in columns))
    if math.isnan(column.value()):
        raise Absent("its divisor is 0")
    return replace(a, columns=(column,), value=mean_number((column,), a.scale), exact=a.exact and b.exact)


def _hash(images: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(images).encode()).hexdigest()[:16]


def _clean(rows: RowTable, defense: str) -> tuple[PerImage, str]:
    """The clean images on the deployed system."""
    mask = rows.clean(defense)
    if not mask.any():
        raise Absent(f"no clean images behind {defense}")
    picked = rows.pick(mask)
    random = picked.draws > 1
    return PerImage(picked.p, np.ones(len(picked.p)), picked.first.astype(bool), "share", random), _hash(picked.images)


def _attacked(rows: RowTable, defense: str, threat: str, name: str, metric: Metric) -> tuple[PerImage, str]:
    if not rows.where(defense=defense, threat=threat, attack=name, check="").any():
        raise Absent(f"no rows of {defense} | {threat} | {name}")
    cell = candidates(rows, defense, threat, name)
    points = points_of(rows, defense, threat, name)
    quantity = metric.ask(points)
    first = quantity.top
    if quantity.kind == "share":
        first = metric.ask(_first(points)).top
    images = _hash(rows.pick(cell.pool, cell.averaged).images)
    return PerImage(quantity.top, quantity.over, first > 0.5, quantity.kind, points.random), images


def _first(points: Points) -> Points:
    """What was seen in the first draw of the judge."""
    return replace(points, after=points.after_first.astype(float), clean=points.clean_first.astype(float))
