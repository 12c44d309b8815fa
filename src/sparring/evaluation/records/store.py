"""A run folder: ``run.json`` (provenance, and the images of each block), ``points/`` (adversarial images), ``rows/`` (typed Parquet), each file
written whole: on disk by one rename, in a store by one PUT.

A file whose checksum is right is complete; resume means skipping it. One that is damaged is made anew. Points and rows are named by what decides
them, so a folder may grow: by images, defenses, threats, attacks. One that belongs to another configuration is refused.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
from safetensors.torch import save
from torch import Tensor

from sparring.core.columns import Json
from sparring.core.errors import SparringError
from sparring.evaluation.records.compare import adopted, grown_by, refuse_larger
from sparring.evaluation.records.files import (
    NOTE,
    block_id,
    note,
    parse_run,
    read_run,
    read_tensors,
    row_identity,
    to_json,
)
from sparring.evaluation.records.place import Place, place_of, remove
from sparring.evaluation.records.provenance import environment
from sparring.evaluation.records.rows import LARGE, SMALL, Piece, RowFile, calls_of, gather, written
from sparring.evaluation.records.seal import (
    BLANK,
    MARK,
    RESUMES,
    Damaged,
    Unreadable,
    explained,
    seal,
    seal_of,
    write_whole,
)

SAME = 0.02  # of the largest score: what two machines may differ by
LOST = "damaged"  # in the place of a checksum: equal to none
Answers = Mapping[str, Sequence[tuple[int, float]]]  # by system: the label and its score, image by image
KEPT = "kept"  # among tensors of points: the rows whose float points are kept
FORMAT = 3  # of a folder: from 2 on every file holds its checksum, from 3 on it may grow


class Store:
    """One run folder. ``identity``: what decides the answers; a folder with another one is refused, by name of the
    field, unless it holds a part of this one. ``blocks``: the names of the images of each block. ``grown``: what is new, in words, or "". ``begun``: a
    record of just this run is there.
    """

    def __init__(self, folder: str | Place, identity: Json, blocks: Sequence[Sequence[str]] = ()) -> None:
        self.folder = place_of(folder)
        self.identity = json.loads(to_json(identity))
        self.blocks = [list(names) for names in blocks]
        self.hash = row_identity(self.identity)
        self.grown, self.begun = "", False
        self._cells: set[str] = set()  # what rows were filed under here before
        self._seals: dict[Place, str] = {}  # of points that were read or written
        self._compact: set[Place] = set()  # those of them that are kept as 8-bit images
        self._made_of: dict[
            tuple[str, str], Mapping[str, str]
        ] = {}  # by cell and block of rows that were read or written: the seals of their points
        self._large: dict[tuple[str, str], tuple[RowFile, Piece]] | None = (
            None  # what large files hold, once it was looked at
        )
        self._numbers = {block_id(names): number for number, names in enumerate(self.blocks)}
        self._answers: Answers = {}
        file = self.folder / "run.json"
        try:
            record = parse_run(file)
        except Unreadable as why:
            raise self._unreadable(file, why) from None
        except Damaged as why:
            self._cells = adopted(self.folder, f"{file} is damaged ({why})", self.identity, self.blocks)
            with explained(file):
                aside = file.with_name("run.json.damaged")
                if isinstance(file, Path) and isinstance(aside, Path):
                    file.replace(aside)
                else:
                    write_whole(aside, file.read_bytes())
                    file.unlink()
            self._say(f"{file} is damaged ({why}) and is written anew; what was there is kept in run.json.damaged")
            record = None
        else:
            if record is None and self.folder.exists():
                self._cells = adopted(
                    self.folder, f"output folder {folder} has no run.json", self.identity, self.blocks
                )
        if record:
            self.grown = grown_by(self.folder, record, self.identity, self.blocks)
            self._answers = record.get("answers", {})
            self._cells = set(record.get("cells", ()))
            self.begun = self.identity == record["identity"] and self.blocks == record.get("blocks")
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def kept(self) -> int:
        """Blocks of rows that are there."""
        return len(
            {(f.parent.name, f.stem) for f in self.folder.glob(SMALL) if f.stem in self._numbers} | set(self._held())
        )

    def require_same(self, answers: Answers) -> None:
        """Keep what each system answers on a few images, in run.json. Raises SparringError where the folder's rows were made while one of them
        answered otherwise: its code, a file or a variable that it reads has changed, which no hash of its weights shows.
        """
        _require_same(self._answers, answers, f"output folder {self.folder}", "choose another --out")
        self._answers = answers

    def require_alike(self, other: Place, first: int) -> None:
        """Raise SparringError where the rows of another folder were made while a system answered otherwise, by its first answers: those that do not depend on
        the image set.
        """
        answers = read_run(other).get("answers", {})
        shared = {name: said[:first] for name, said in answers.items() if name in self._answers}
        _require_same(shared, self._answers, f"reuse: {other}", "leave reuse out")

    def write_run(self, **content: Any) -> None:
        """Write run.json: identity, environment and ``content``. Raises SparringError where the folder holds more than this run by now."""
        refuse_larger(self.folder, self.identity, self.blocks)
        self._cells |= set(content.get("cells", ()))
        record = {"identity": self.identity, "environment": environment(), "answers": self._answers, **content}
        record |= {"blocks": self.blocks, "cells": sorted(self._cells)}
        text = to_json({**record, "format": FORMAT, "checksum": BLANK}, indent=2) + "\n"
        self._write(self.folder / "run.json", text.encode())

    def points(self, run: str, block: str, exact: bool = False) -> dict[str, Tensor] | None:
        """The stored points of a block, or None where there are none or they are damaged; ``exact``: or where some are kept as 8-bit images alone."""
        content = self._tensors(self._points(run, block))
        if content is None or (exact and KEPT in content[0]):
            return None
        tensors = content[0]
        if KEPT in tensors:
            x = tensors["x_8bit"].float() / 255
            x[tensors.pop(KEPT)] = tensors["x"]
            tensors["x"] = x
        return tensors

    def compact(self, run: str, block: str) -> None:
        """Keep the points that fooled what they were made against as 8-bit images alone, where there are such: their float points were judged. The
        file still counts as what its rows were made of.
        """
        file = self._points(run, block)
        content = None if file in self._compact else self._tensors(file)
        if content is None or "x_8bit" not in content[0] or KEPT in content[0]:
            return
        tensors = content[0]
        kept = (~tensors["success"]).nonzero()[:, 0]
        tensors |= {"x": tensors["x"][kept], KEPT: kept}
        self._save(file, tensors, {NOTE: note(self.folder, file, of=self._seal(file))})
        self._compact.add(file)

    def drop_points(self) -> None:
        """Remove all points: the rows are enough for every number."""
        remove(self.folder / "points")

    def put_points(self, run: str, block: str, tensors: dict[str, Tensor], of: str = "") -> None:
        """Store the points of a block; ``of``: what stands for the checksum of those of which some are 8-bit images alone."""
        file = self._points(run, block)
        if KEPT in tensors:
            self._save(file, tensors, {NOTE: note(self.folder, file, of=of)})
            self._seals[file] = of
            self._compact.add(file)
        else:
            self._seals[file] = self._save(file, tensors, {NOTE: note(self.folder, file)})
            self._compact.discard(file)

    def forget_points(self, run: str, block: str) -> None:
        """Remove the points of a block, which are to be made anew with all that was made of them."""
        file = self._points(run, block)
        self._say(
            f"{file} spared images that are right now that what ran before it came out otherwise; it is made anew"
        )
        with explained(file):
            file.unlink(missing_ok=True)
        self._seals[file] = LOST

    def has_pictures(self, name: str, about: Mapping[str, str], points: Iterable[tuple[str, str]]) -> bool:
        """Is there a whole file of these pictures, made of the points (run, block) that are stored now, or of such as are gone?"""
        content = self._tensors(self._pictures(name))
        if content is None:
            return False
        seals = {f"{run}/{block}": self._seal(self._points(run, block)) for run, block in points}
        made_of = json.loads(content[1][NOTE])["points"]
        same = all(content[1].get(key) == text for key, text in about.items())
        return all(seal in ("", made_of.get(key)) for key, seal in seals.items()) and (same or "" in seals.values())

    def put_pictures(
        self, name: str, tensors: dict[str, Tensor], about: dict[str, str], points: Iterable[tuple[str, str]]
    ) -> None:
        """Example images with a text record of what they are, made of stored points (run, block)."""
        file, seals = self._pictures(name), {f"{r}/{b}": self._seal(self._points(r, b)) for r, b in points}
        self._save(file, tensors, {**about, NOTE: note(self.folder, file, identity=self.hash, points=seals)})

    def has_rows(self, cell: str, block: str) -> bool:
        """Are there whole rows of a block, judged on the points that are stored now? Points that are gone are not needed, damaged ones
        are made anew with all that was made of them.
        """
        key = cell, block
        if key not in self._made_of:
            piece = self._stored(cell, block)
            if piece is None:
                return False
            self._made_of[key] = piece[1].points
        stored = {run: self._seal(self._points(run, block)) for run in self._made_of[key]}
        return all(stored[run] in ("", seal) for run, seal in self._made_of[key].items())

    def rows(self, cell: str, block: str) -> pa.Table:
        """The stored rows of a block."""
        stored = self._stored(cell, block)
        if stored is None:
            raise SparringError(f"{self._rows(cell, block)} is gone; {RESUMES}")
        return stored[0].table(stored[1])

    def put_rows(self, cell: str, block: str, rows: pa.Table, runs: tuple[str, ...] = (), made_by: str = "") -> None:
        """Store the rows of a block, judged on the stored points of ``runs``. ``made_by``: which code and machine made them, if not this one."""
        file = self._rows(cell, block)
        here = {**environment(), "code": self.identity.get("code")}  # stays with the block, whoever resumes the run
        number = self._numbers[block]
        facts = {
            "identity": self.hash,
            "points": {run: self._seal(self._points(run, block)) for run in runs},
            "calls": calls_of(rows),
            "images": self.blocks[number],
            "number": number,
        }
        self._write(file, written(self.folder, file, rows, made_by or json.dumps(here), **facts), sealed=True)
        self._made_of[cell, block] = facts["points"]

    def look_again(self) -> None:
        """Forget which rows and points were whole: others have been here."""
        self._made_of.clear()
        self._seals.clear()
        self._compact.clear()
        self._large = None

    def gather(self) -> None:
        """Once the run is complete: remove rows of the same images in blocks that were cut otherwise, and bring many small files of rows into few."""
        images = {name for names in self.blocks for name in names}
        for file in self.folder.glob(SMALL):
            if file.stem not in self._numbers:
                with suppress(Damaged, FileNotFoundError), explained(file):
                    stray = RowFile(self.folder, file, True, self.hash)
                    if (
                        stray.facts.get("identity") == self.hash
                        and len(set(stray.pieces[0].images)) > 0
                        and set(stray.pieces[0].images) <= images
                    ):
                        self._say(f"{file} holds rows of images that this run has in other blocks; it is removed")
                        file.unlink()
        gather(self.folder, self.hash)

    def _stored(self, cell: str, block: str) -> tuple[RowFile, Piece] | None:
        """The rows of a cell and block: a small file counts before a large one, which is older."""
        file = self._rows(cell, block)
        try:
            rows = RowFile(self.folder, file, True, self.hash)
        except FileNotFoundError:
            return self._held().get((cell, block))
        except Unreadable as why:
            raise self._unreadable(file, why) from None
        except Damaged as why:
            self._say(f"{file} is damaged ({why}) and is made anew")
            return None
        return rows, rows.pieces[0]

    def _held(self) -> dict[tuple[str, str], tuple[RowFile, Piece]]:
        """What large files hold, by cell and block. One that is damaged is removed: what it held is made anew."""
        if self._large is None:
            files: list[RowFile] = []
            for file in self.folder.glob(LARGE):
                try:
                    files.append(RowFile(self.folder, file, True, self.hash))
                except FileNotFoundError:
                    continue
                except Unreadable as why:
                    raise self._unreadable(file, why) from None
                except Damaged as why:
                    self._say(f"{file} is damaged ({why}); what it held is made anew")
                    with explained(file):
                        file.unlink()
            replaced = {name for file in files for name in file.replaces}
            counts = [file for file in files if file.file.stem not in replaced]
            self._large = {piece.key: (file, piece) for file in counts for piece in file.pieces}
        return self._large

    def _tensors(self, file: Place) -> tuple[dict[str, Tensor], dict[str, str]] | None:
        try:
            return read_tensors(self.folder, file, True, self.hash)
        except Unreadable as why:
            raise self._unreadable(file, why) from None
        except Damaged as why:
            self._say(f"{file} is damaged ({why}) and is made anew")
            with explained(file):
                file.unlink()
            self._seals[file] = LOST
            return None

    def _save(self, file: Place, tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
        content = seal(save({k: v.contiguous() for k, v in tensors.items()}, metadata=metadata))
        self._write(file, content, sealed=True)
        return seal_of(content)

    def _write(self, file: Place, content: bytes, sealed: bool = False) -> None:
        if isinstance(self.folder, Path) and not self.folder.is_dir():
            raise SparringError(
                f"cannot write {file}: {self.folder} vanished while it was being written; bring it back, {RESUMES}"
            )
        write_whole(file, content if sealed else seal(content))

    def _seal(self, file: Place) -> str:
        """The checksum of stored points, "" where there are none, or LOST where they are damaged."""
        if file not in self._seals:
            content = self._tensors(file)
            if content is not None:
                facts = json.loads(content[1][NOTE])
                self._seals[file] = facts.get("of") or facts["checksum"].removeprefix(MARK)
                if "of" in facts:
                    self._compact.add(file)
        return self._seals.setdefault(file, "")

    def _unreadable(self, file: Place, why: Unreadable) -> SparringError:
        return SparringError(f"{file} cannot be read: {why}; make it readable or move it away, {RESUMES}")

    @staticmethod
    def _say(text: str) -> None:
        warnings.warn(text, stacklevel=4)

    def _points(self, run: str, block: str) -> Place:
        return self.folder / "points" / run / f"{block}.safetensors"

    def _pictures(self, name: str) -> Place:
        return self.folder / "pictures" / f"{name}.safetensors"

    def _rows(self, cell: str, block: str) -> Place:
        return self.folder / "rows" / cell / f"{block}.parquet"


def _require_same(before: Answers, now: Answers, folder: str, fix: str) -> None:
    """Raise SparringError where more than one answer of a system is another than it was (one may be a tie)."""
    for name, said in before.items():
        most = max((abs(score) for _, score in said), default=0.0)
        moved = sum(
            abs(score - was) > SAME * most or label != old
            for (old, was), (label, score) in zip(said, now.get(name, []), strict=False)
        )
        if moved > 1:
            raise SparringError(
                f"{folder} was made while {name} answered otherwise ({moved} of {len(said)} answers differ): a module, file or variable that it reads has changed; {fix}"
            )
