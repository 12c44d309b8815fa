"""``Panel``: what an analysis found, as data first. Plain values, tables, maps and rows of images; drawing is the report's."""

from __future__ import annotations

import base64
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from PIL import Image
from torch import Tensor

from sparring.core.shown import many, shown
from sparring.data.sources import to_uint8


@dataclass(frozen=True)
class Grid:
    """Rows of plain values under ``head``; the first column names the row."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True)
class Map:
    """Numbers (H,W) over pixels, or, with ``kind`` "labels", integer labels (H,W). ``x``, ``y``: names of the axes. ``extent`` (across,
    down): the axes run over [-across, across] and [-down, down] instead of pixel numbers.
    """

    title: str
    values: Tensor
    x: str = ""
    y: str = ""
    extent: tuple[float, float] | None = None
    kind: Literal["map", "labels"] = "map"


@dataclass(frozen=True)
class Curves:
    """Named lines of points (x, y) over one axis. ``x``, ``y``: names of the axes."""

    title: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    x: str = ""
    y: str = ""


@dataclass(frozen=True)
class Sheet:
    """Named rows of images (N,C,H,W) in [0,1], one under the other."""

    title: str
    rows: Mapping[str, Tensor]


@dataclass(frozen=True)
class Panel:
    """What an analysis found. ``data``: its numbers by name. ``text``: sentences to print. ``maps``, ``curves`` and ``sheets``: what can be drawn.
    ``provenance``: what decides the numbers (models and their weights' hashes, images' hash, options and seed, versions).
    """

    title: str
    data: Mapping[str, object]
    tables: Sequence[Grid] = ()
    maps: Sequence[Map] = ()
    curves: Sequence[Curves] = ()
    sheets: Sequence[Sheet] = ()
    text: Sequence[str] = ()
    provenance: Mapping[str, object] = field(default_factory=dict)

    def __repr__(self) -> str:
        return shown(
            self,
            repr(self.title),
            many(len(self.data), "number"),
            many(len(self.tables), "table"),
            many(len(self.maps), "map"),
        )

    def json(self) -> dict[str, Any]:
        """Everything as plain JSON values: tensors as lists, images as PNG data URIs, numbers that are not finite as null."""
        sheets = [{"title": s.title, "rows": {n: [_uri(i) for i in x] for n, x in s.rows.items()}} for s in self.sheets]
        tables, maps, curves = ([vars(part) for part in parts] for parts in (self.tables, self.maps, self.curves))
        return plain({**vars(self), "tables": tables, "maps": maps, "curves": curves, "sheets": sheets})

    def __str__(self) -> str:
        tables = (
            f"{t.title}\n" + "\n".join("  ".join(map(cell, row)) for row in (t.head, *t.rows)) for t in self.tables
        )
        return "\n".join([self.title, *tables, *self.text])


def per_image(
    ids: Sequence[str], values: Sequence[float], kind: Literal["mean", "median", "share"] = "mean"
) -> dict[str, object]:
    """A number of a panel's data that is joined, as ``kind`` says, from one value an image: whoever reads it can say how sure it is. ``ids``: of these images
    alone, of which the hash is held, so that numbers of the same images are compared as pairs.
    """
    if len(ids) != len(values):
        raise ValueError(f"{len(values)} values of {len(ids)} images")
    return {"kind": kind, "images": hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16], "values": list(values)}


def cell(value: object) -> str:
    """A table's value as text: three decimals for a float."""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def plain(value: object) -> Any:
    """``value`` of nested mappings, sequences, tensors and numbers as what JSON holds."""
    if isinstance(value, Tensor):
        return plain(value.detach().cpu().tolist())
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _uri(image: Tensor) -> str:
    """One image (C,H,W) in [0,1] as a PNG data URI of 8 bits."""
    file = io.BytesIO()
    Image.fromarray(to_uint8(image)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
