"""``Former``: the rows and points of another run folder, image by image, for a run that has some of the same images."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from sparring.core.columns import Json
from sparring.core.errors import SparringError
from sparring.evaluation.records.files import GROWS, NOTE, read_run, read_tensors, row_identity, to_json
from sparring.evaluation.records.place import Place
from sparring.evaluation.records.rows import Piece, RowFile, row_files
from sparring.evaluation.records.seal import MARK, Damaged
from sparring.evaluation.records.store import KEPT, Store


class Stored(NamedTuple):
    """A block's points in the other folder, and their checksum: of those that are kept as 8-bit images that of what they were."""

    tensors: dict[str, Tensor]
    seal: str


def names_in(folder: Place) -> frozenset[str]:
    """The names of all images of the run that a folder holds. Raises SparringError."""
    return frozenset(name for block in read_run(folder).get("blocks", ()) for name in block)


class Former:
    """``store``: of the run that takes over. Raises SparringError where the other folder's run is of another configuration."""

    def __init__(self, folder: Place, store: Store) -> None:
        record = read_run(folder)
        before, now = record["identity"], store.identity
        differs = sorted(k for k in {**before, **now} if k not in GROWS and before.get(k) != now.get(k))
        if differs or "blocks" not in record:
            raise SparringError(
                f"reuse: {folder} is of another configuration (differs in {', '.join(differs) or 'its edition'}): nothing of it would be the same here; leave reuse out"
            )
        self.folder, self.store, self._hash = folder, store, row_identity(now)
        self._pieces: dict[str, dict[str, tuple[RowFile, Piece]]] = {}
        files, damaged = row_files(folder, True, self._hash)
        if damaged:
            more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
            warnings.warn(f"reuse: {folder / damaged[0]}{more}; what it held is made anew here", stacklevel=4)
        for file in sorted(files, key=lambda file: not file.large):  # a small file counts before a large one
            for piece in file.pieces:
                where = self._pieces.setdefault(piece.cell, {})
                where.update(dict.fromkeys(piece.images, (file, piece)))
        self._points: dict[tuple[str, str], Stored | None] = {}

    def give(self, cells: Iterable[str], block: str, images: Sequence[str], ids: Sequence[str]) -> int:
        """Put the rows and points of a block of images into the store, as far as all of a cell's are whole; how many cells were. ``images``: their
        names; ``ids``: what rows call them.
        """
        self._points.clear()  # of one block at a time
        return sum(self._give(cell, block, images, ids) for cell in cells)

    def _give(self, cell: str, block: str, images: Sequence[str], ids: Sequence[str]) -> bool:
        where = self._pieces.get(cell, {})
        if self.store.has_rows(cell, block) or not all(name in where for name in images):
            return False
        pieces = list({piece.block: (file, piece) for file, piece in map(where.__getitem__, images)}.values())
        makers = {piece.made_by for _, piece in pieces}
        runs = list(pieces[0][1].points)
        stored = {run: [self._stored(run, piece) for _, piece in pieces] for run in runs}
        made_of = all(
            part is None or part.seal == piece.points.get(run)
            for run, parts in stored.items()
            for part, (_, piece) in zip(parts, pieces, strict=True)
        )
        if len(makers) > 1 or not made_of:  # rows of one block are of one maker, and of the points beside them
            return False
        rows = _in_order(pa.concat_tables([file.table(piece) for file, piece in pieces]), ids)
        if rows is None:
            return False
        for run, parts in stored.items():
            there = [part for part in parts if part is not None]
            if len(there) == len(parts):
                at = [[piece.images.index(n) if n in piece.images else -1 for n in images] for _, piece in pieces]
                self.store.put_points(run, block, _joined(there, at), _seal_of(there, images))
        self.store.put_rows(cell, block, rows, tuple(runs), makers.pop())
        return True

    def _stored(self, run: str, piece: Piece) -> Stored | None:
        """The points of a run that rows were judged on; None: they were not kept."""
        key = run, piece.block
        if key not in self._points:
            self._points[key] = self._read(run, piece.block)
        return self._points[key]

    def _read(self, run: str, block: str) -> Stored | None:
        file = self.folder / "points" / run / f"{block}.safetensors"
        try:
            content = read_tensors(self.folder, file, True, self._hash)
        except Damaged:
            return Stored({}, "")  # equal to no seal
        if content is None:
            return None
        about: Json = json.loads(content[1][NOTE])
        return Stored(content[0], about.get("of") or about["checksum"].removeprefix(MARK))


def _in_order(rows: pa.Table, ids: Sequence[str]) -> pa.Table | None:
    """The rows of some images, run by run and in the images' order, as the ring writes them; None where a run lacks one."""
    number = {name: i for i, name in enumerate(ids)}
    image = np.array([number.get(name, -1) for name in rows["image"].to_pylist()])
    texts = rows["run"].to_pylist()
    runs = {name: i for i, name in enumerate(dict.fromkeys(texts))}
    run = np.array([runs[name] for name in texts])
    order = [int(i) for i in np.lexsort((image, run)) if image[i] >= 0]
    if image[order].tolist() != list(range(len(ids))) * len(runs):
        return None
    return rows.take(order)


def _joined(parts: Sequence[Stored], at: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """The points of some images. ``at``: by part and image where it stands there, -1: elsewhere. Where a part keeps fallen images as 8-bit ones alone, all are."""
    of = [next(number for number, rows in enumerate(at) if rows[i] >= 0) for i in range(len(at[0]))]
    places = [(number, at[number][i]) for i, number in enumerate(of)]
    joined = {
        name: torch.stack([parts[number].tensors[name][row] for number, row in places])
        for name in parts[0].tensors
        if name not in (KEPT, "x")
    }
    compact = any(KEPT in part.tensors for part in parts)
    kept = (~joined["success"]).nonzero()[:, 0] if compact else torch.arange(len(places))
    joined["x"] = torch.stack(
        [_float(parts[places[i][0]].tensors, places[i][1]) for i in kept.tolist()] or [_none(parts[0])]
    )
    if compact:
        joined["x"] = joined["x"][: len(kept)]
        joined[KEPT] = kept
    return joined


def _float(tensors: dict[str, Tensor], row: int) -> Tensor:
    """The float point of an image for which one is kept."""
    if KEPT not in tensors:
        return tensors["x"][row]
    return tensors["x"][int((tensors[KEPT] == row).nonzero()[0, 0])]


def _none(part: Stored) -> Tensor:
    """A point of no image."""
    return torch.zeros(part.tensors["x"].shape[1:])


def _seal_of(parts: Sequence[Stored], images: Sequence[str]) -> str:
    """What stands for the checksum of points that were taken from several files."""
    return hashlib.sha256(to_json([[part.seal for part in parts], list(images)]).encode()).hexdigest()
