"""A run folder: ``run.json`` (provenance, and the images of each block), ``points/`` (adversarial images), ``rows/`` (typed Parquet), each file
written by one rename.

A file whose checksum is right is complete; resume means skipping it. One that is damaged is made anew. Points and rows are named by what decides
them, so a folder may grow: by images, defenses, threats, attacks. One that belongs to another configuration is refused.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from safetensors.torch import save
from torch import Tensor

from sparring.core.columns import Json
from sparring.core.errors import SparringError
from sparring.evaluation.records.files import (
    GROWS,
    NOTE,
    block_id,
    note,
    parse_run,
    read_block,
    read_tensors,
    row_identity,
    to_json,
)
from sparring.evaluation.records.folder import OURS
from sparring.evaluation.records.provenance import environment, made_by
from sparring.evaluation.records.seal import (
    BLANK,
    MARK,
    RESUMES,
    Damaged,
    Unreadable,
    explained,
    is_partial,
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

    def __init__(self, folder: str | Path, identity: Json, blocks: Sequence[Sequence[str]] = ()) -> None:
        self.folder = Path(folder)
        self.identity = json.loads(to_json(identity))
        self.blocks = [list(names) for names in blocks]
        self.hash = row_identity(self.identity)
        self.grown, self.begun = "", False
        self._cells: set[str] = set()  # what rows were filed under here before
        self._seals: dict[Path, str] = {}  # of points that were read or written
        self._compact: set[Path] = set()  # those of them that are kept as 8-bit images
        self._made_of: dict[Path, dict[str, str]] = {}  # of rows that were read or written: the seals of their points
        self._answers: Answers = {}
        file = self.folder / "run.json"
        try:
            record = parse_run(file)
        except Unreadable as why:
            raise self._unreadable(file, why) from None
        except Damaged as why:
            self._adopt(f"{file} is damaged ({why})")
            with explained(file):
                file.replace(file.with_name("run.json.damaged"))
            self._say(f"{file} is damaged ({why}) and is written anew; what was there is kept in run.json.damaged")
            record = None
        else:
            if record is None and self.folder.exists():
                self._adopt(f"output folder {folder} has no run.json")
        if record:
            self._same(record)
            self._answers = record.get("answers", {})
            self._cells = set(record.get("cells", ()))
            self.begun = self.identity == record["identity"] and self.blocks == record.get("blocks")
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def _same(self, record: Json) -> None:
        """Raises SparringError if the folder's record is that of another configuration."""
        before = record.get("identity", {})
        changed = [k for k in {**before, **self.identity} if before.get(k) != self.identity.get(k)]
        if "blocks" in record:
            lost, more = self._growth(record)
            self.grown = ", ".join(more)
            changed = [k for k in changed if k not in GROWS or k in lost]
        if changed == ["code"]:
            raise SparringError(
                f"output folder {self.folder} was {made_by(record)}: it can be reported, not resumed; choose another --out"
            )
        if changed == ["own_code"]:
            raise SparringError(
                f"output folder {self.folder} was made before your own code (plug-in, class, function) changed: it can be reported, not resumed; choose another --out"
            )
        if changed:
            passed, was = record.get("passed", {}), ""
            if "data" in changed and "limit" in passed:
                was = f"; its data was {passed.get('data')} with limit {passed['limit'] or 'none'}"
            raise SparringError(
                f"output folder {self.folder} holds another configuration (differs in {', '.join(sorted(changed))}{was}); choose another --out"
            )

    def _growth(self, record: Json) -> tuple[list[str], list[str]]:
        """Fields of which the folder holds more than this configuration asks for, and what this one adds, in words."""
        before, now = record["identity"], self.identity
        lost, more = [], []
        for name in ("defenses", "threats", "attacks"):
            if set(before[name]) - set(now[name]):
                lost.append(name)
            if new := [text for text in now[name] if text not in before[name]]:
                more.append(f"{name} {', '.join(new)}")
        if any(now["draws"].get(name, count) != count for name, count in before["draws"].items()):
            lost.append("draws")
        old, images = ({name for block in blocks for name in block} for blocks in (record["blocks"], self.blocks))
        if old - images:
            lost.append("data")
        if images - old:
            more.append(f"{len(images - old)} images beside {len(old & images)}")
        return lost, more

    @property
    def kept(self) -> int:
        """Blocks of rows that are there."""
        return sum(not is_partial(file) for file in self.folder.glob("rows/*/*.parquet"))

    def require_same(self, answers: Answers) -> None:
        """Keep what each system answers on a few images, in run.json. Raises SparringError where the folder's rows were made while one of them
        answered otherwise: its code, a file or a variable that it reads has changed, which no hash of its weights shows.
        """
        for name, before in self._answers.items():
            now = answers.get(name, [])
            most = max((abs(score) for _, score in before), default=0.0)
            moved = sum(
                abs(score - was) > SAME * most or label != old
                for (old, was), (label, score) in zip(before, now, strict=False)
            )
            if moved > 1:  # one may be a tie
                raise SparringError(
                    f"output folder {self.folder} was made while {name} answered otherwise ({moved} of {len(before)} answers "
                    "differ): a module, file or variable that it reads has changed; choose another --out"
                )
        self._answers = answers

    def _adopt(self, fault: str) -> None:
        """Raises SparringError unless all that a folder without a readable record holds is of this configuration, as its rows say."""
        foreign = [f.name for f in self.folder.iterdir() if f.name not in OURS and not is_partial(f)]
        if foreign:
            raise SparringError(
                f"{fault}, and {foreign[0]} is none of a sparring run's files; move it away, or choose another --out"
            )
        blocks = {block_id(names) for names in self.blocks}
        for file in sorted(self.folder.glob("rows/*/*.parquet")):
            try:
                rows, facts = read_block(self.folder, file, False)
            except Damaged:
                continue
            if facts.get("identity") != self.hash or file.stem not in blocks or not self._asks(rows):
                raise SparringError(f"{fault}, and its rows are of another configuration; choose another --out")

    def _asks(self, rows: pa.Table) -> bool:
        """Are rows of what this configuration asks, or of what followed it?"""
        own = rows.filter((pc.field("check") == "") & (pc.field("kind") != ""))  # clean images are of every run
        said = {"defenses": rows["defense"], "threats": own["threat"], "attacks": own["attack"]}
        return all(set(texts.unique().to_pylist()) <= set(self.identity[name]) for name, texts in said.items())

    def write_run(self, **content: Any) -> None:
        """Write run.json: identity, environment and ``content``."""
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
        with explained(self.folder / "points"):
            shutil.rmtree(self.folder / "points", ignore_errors=True)

    def put_points(self, run: str, block: str, tensors: dict[str, Tensor]) -> None:
        """Store the points of a block."""
        file = self._points(run, block)
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

    def has_pictures(self, cell: str, run: str, block: str) -> bool:
        """Is there a whole file of examples of a cell, made of the points that are stored now?"""
        content = self._tensors(self._pictures(cell))
        seal = self._seal(self._points(run, block))
        return content is not None and seal in ("", json.loads(content[1][NOTE])["points"][run])

    def put_pictures(self, cell: str, tensors: dict[str, Tensor], about: dict[str, str], run: str, block: str) -> None:
        """Example images of a cell with a text record of what they are, made of a run's stored points of a block."""
        file, points = self._pictures(cell), {run: self._seal(self._points(run, block))}
        self._save(file, tensors, {**about, NOTE: note(self.folder, file, identity=self.hash, points=points)})

    def has_rows(self, cell: str, block: str) -> bool:
        """Are there whole rows of a block, judged on the points that are stored now? Points that are gone are not needed, damaged ones
        are made anew with all that was made of them.
        """
        file = self._rows(cell, block)
        if file not in self._made_of:
            try:
                self._made_of[file] = read_block(self.folder, file, True, self.hash)[1]["points"]
            except Unreadable as why:
                raise self._unreadable(file, why) from None
            except Damaged as why:
                if file.exists():
                    self._say(f"{file} is damaged ({why}) and is made anew")
                return False
        stored = {run: self._seal(self._points(run, block)) for run in self._made_of[file]}
        return all(stored[run] in ("", seal) for run, seal in self._made_of[file].items())

    def rows(self, cell: str, block: str) -> pa.Table:
        """The stored rows of a block."""
        return read_block(self.folder, self._rows(cell, block), True, self.hash)[0]

    def put_rows(self, cell: str, block: str, rows: pa.Table, runs: tuple[str, ...] = ()) -> None:
        """Store the rows of a block, judged on the stored points of ``runs``."""
        file = self._rows(cell, block)
        made_by = {**environment(), "code": self.identity.get("code")}  # stays with the block, whoever resumes the run
        points = {run: self._seal(self._points(run, block)) for run in runs}
        facts = note(self.folder, file, identity=self.hash, points=points)
        buffer = pa.BufferOutputStream()
        pq.write_table(rows.replace_schema_metadata({"made_by": json.dumps(made_by), NOTE: facts}), buffer)
        self._write(file, seal(buffer.getvalue().to_pybytes()), sealed=True)
        self._made_of[file] = points

    def _tensors(self, file: Path) -> tuple[dict[str, Tensor], dict[str, str]] | None:
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

    def _save(self, file: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
        content = seal(save({k: v.contiguous() for k, v in tensors.items()}, metadata=metadata))
        self._write(file, content, sealed=True)
        return seal_of(content)

    def _write(self, file: Path, content: bytes, sealed: bool = False) -> None:
        if not self.folder.is_dir():
            raise SparringError(
                f"cannot write {file}: {self.folder} vanished while it was being written; bring it back, {RESUMES}"
            )
        write_whole(file, content if sealed else seal(content))

    def _seal(self, file: Path) -> str:
        """The checksum of stored points, "" where there are none, or LOST where they are damaged."""
        if file not in self._seals:
            content = self._tensors(file)
            if content is not None:
                facts = json.loads(content[1][NOTE])
                self._seals[file] = facts.get("of") or facts["checksum"].removeprefix(MARK)
                if "of" in facts:
                    self._compact.add(file)
        return self._seals.setdefault(file, "")

    def _unreadable(self, file: Path, why: Unreadable) -> SparringError:
        return SparringError(f"{file} cannot be read: {why}; make it readable or move it away, {RESUMES}")

    @staticmethod
    def _say(text: str) -> None:
        warnings.warn(text, stacklevel=4)

    def _points(self, run: str, block: str) -> Path:
        return self.folder / "points" / run / f"{block}.safetensors"

    def _pictures(self, cell: str) -> Path:
        return self.folder / "pictures" / f"{cell}.safetensors"

    def _rows(self, cell: str, block: str) -> Path:
        return self.folder / "rows" / cell / f"{block}.parquet"
