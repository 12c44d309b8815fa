"""The rows of a run: a file of each cell and block while it is made, few large ones once it is complete; a column is read when it is asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from sys import intern
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sparring.core.columns import ROW, Json
from sparring.core.errors import SparringError
from sparring.evaluation.records.files import (
    NOTE,
    block_id,
    damage,
    first_line,
    identity_of,
    note,
    noted,
    parse_run,
    read_run,
)
from sparring.evaluation.records.place import Place, place_of
from sparring.evaluation.records.seal import Damaged, explained, read_sealed, seal, write_whole

TYPES = {"text": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
SCHEMA = pa.schema([(c.stored, TYPES[c.kind]) for c in ROW])
ENCODED = pa.schema(
    [
        (name, pa.dictionary(pa.int32(), kind) if pa.types.is_string(kind) else kind)
        for name, kind in zip(SCHEMA.names, SCHEMA.types, strict=True)
    ]
)
TEXTS = [c.stored for c in ROW if c.kind == "text"]
JUDGED = [c.stored for c in ROW[: [c.name for c in ROW].index("l0") + 1]]  # in every edition; the others came later
MADE_BY = "made_by"  # the key of a file's metadata under which it says which code and machine made it
SMALL, LARGE = "rows/*/*.parquet", "rows/*.parquet"
MANY = 200  # small files: fewer may stay
MOST = 1_000_000  # rows of a large file, some 50 MB
GROUP = 65_536  # rows that a large file holds, and a reader decodes, at once
TOGETHER = 128  # small files that are joined at once: a chunk of each column costs more than its few rows
LOOKS = 3  # at a folder whose files are gathered while they are read


def table_of(columns: Json) -> pa.Table:
    """Rows as a table of the schema."""
    return pa.table(columns, schema=SCHEMA)


@dataclass(frozen=True)
class Piece:
    """The rows of one cell and block. ``points``: by run the seal of those that were judged. ``calls``: by run the network calls that its points cost,
    None: older files do not say. ``images``: the names of the block's images, and ``number``: where the block stood; older files say neither.
    """

    cell: str
    block: str
    rows: int
    points: dict[str, str]
    calls: dict[str, int] | None
    images: tuple[str, ...]
    number: int
    made_by: str

    @property
    def key(self) -> tuple[str, str]:
        """What it is filed under."""
        return self.cell, self.block


class RowFile:
    """A whole file of rows, whose ``pieces`` follow each other. ``replaces``: large files of which it holds all that still counted."""

    def __init__(self, folder: Place, file: Place, sealed: bool, identity: str = "") -> None:
        """Raises Damaged; FileNotFoundError where it is gone."""
        content = read_sealed(file, sealed)
        if content is None:
            raise FileNotFoundError(file)
        self.file, self._content = file, content
        try:
            parquet = self._open()
            # else of another edition, whose columns are fitted to this one's; one that is not there is read as nulls
            ours = parquet.schema_arrow.equals(SCHEMA)
            self._fitted = None if ours else pq.read_table(pa.BufferReader(content), schema=SCHEMA)
            if lacks := [name for name in JUDGED if self._nulls(name, parquet.metadata)]:
                raise Damaged(f"it lacks {', '.join(lacks[:3])}")
            metadata = {k.decode(): v.decode() for k, v in (parquet.schema_arrow.metadata or {}).items()}
            self.facts = noted(metadata, folder, file, identity)
            self.size = parquet.metadata.num_rows
            self.pieces = tuple(self._pieces(metadata.get(MADE_BY, "")))
            if sum(piece.rows for piece in self.pieces) != self.size:
                raise Damaged("it does not hold the rows that it names")
        except Damaged:
            raise
        except Exception as error:  # whatever a reader says of bytes that are none of its format
            raise Damaged(f"it is no table of rows ({first_line(error)})") from None

    def _open(self, encoded: Sequence[str] = ()) -> pq.ParquetFile:
        return pq.ParquetFile(pa.BufferReader(self._content), read_dictionary=list(encoded))

    @cached_property
    def _encoded(self) -> pq.ParquetFile:
        """The file as its columns are read."""
        return self._open(TEXTS)

    def _nulls(self, name: str, about: pq.FileMetaData) -> int:
        if self._fitted is not None:
            return self._fitted[name].null_count
        at = SCHEMA.names.index(name)
        columns = [about.row_group(i).column(at) for i in range(about.num_row_groups)]
        return sum(c.statistics.null_count for c in columns if c.is_stats_set)

    def _pieces(self, made_by: str) -> Iterator[Piece]:
        facts = self.facts
        if not self.large:
            images, number = tuple(map(intern, facts.pop("images", ()))), facts.get("number", 0)
            points = facts.get("points", {})
            yield Piece(
                self.file.parent.name, self.file.stem, self.size, points, facts.get("calls"), images, number, made_by
            )
            return
        for cell, block, rows, points, calls, maker in facts["pieces"]:
            images, number = facts["blocks"][block]
            yield Piece(cell, block, rows, points, calls, tuple(images), number, facts["makers"][maker])

    @property
    def replaces(self) -> tuple[str, ...]:
        return tuple(self.facts.get("replaces", ()))

    @cached_property
    def starts(self) -> dict[tuple[str, str], int]:
        """Where each piece begins."""
        ends = np.cumsum([0, *(piece.rows for piece in self.pieces)]).tolist()
        return {piece.key: start for piece, start in zip(self.pieces, ends, strict=False)}

    @property
    def large(self) -> bool:
        """Does it hold the rows of many cells and blocks?"""
        return "pieces" in self.facts

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of all rows, texts as numbers among few."""
        return self._encoded.read(columns=[name], use_threads=False).column(0)

    def encoded(self) -> pa.Table:
        """All columns of all rows, likewise."""
        if self._fitted is not None:
            return self._fitted.replace_schema_metadata(None).cast(ENCODED)
        return self._open(TEXTS).read(use_threads=False).replace_schema_metadata(None)

    def table(self, piece: Piece, names: Sequence[str] = SCHEMA.names) -> pa.Table:
        """The rows of a piece."""
        start, stop = self.starts[piece.key], self.starts[piece.key] + piece.rows
        if self._fitted is not None:
            return self._fitted.select(names).slice(start, piece.rows)
        parquet = self._open()
        about = parquet.metadata
        ends = np.cumsum([0, *(about.row_group(i).num_rows for i in range(about.num_row_groups))])
        groups = [i for i in range(about.num_row_groups) if ends[i] < stop and ends[i + 1] > start]
        if not groups:
            return SCHEMA.empty_table().select(names)
        rows = parquet.read_row_groups(groups, columns=list(names)).select(names)
        return rows.slice(start - int(ends[groups[0]]), piece.rows).replace_schema_metadata(None)


class StoredRows:
    """The rows of a run's files as a table whose columns are read when they are asked for. ``parts``: of each file which of its rows count, None: all."""

    schema = SCHEMA
    column_names = SCHEMA.names

    def __init__(self, parts: Sequence[tuple[RowFile, np.ndarray | None]]) -> None:
        self.num_rows = sum(file.size if mask is None else int(mask.sum()) for file, mask in parts)
        self._large = [part for part in parts if part[0].large]
        self._rest = [part for part in parts if not part[0].large]

    @cached_property
    def _small(self) -> pa.Table:
        """The rows of small files: to open thousands of them for each column takes longer than to read them once."""
        together = ENCODED.empty_table()
        for at in range(0, len(self._rest), TOGETHER):
            tables = [_chosen(file.encoded(), mask) for file, mask in self._rest[at : at + TOGETHER]]
            joined = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
            together = pa.concat_tables([together, joined])
        self._rest = []
        return together

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        pa.default_memory_pool().release_unused()  # what earlier columns left behind: a tenth of the memory of counting
        columns = [_chosen(file.column(name), mask) for file, mask in self._large] + [self._small[name]]
        return pa.chunked_array([chunk for column in columns for chunk in column.chunks], type=ENCODED.field(name).type)

    def table(self) -> pa.Table:
        """All of it, decoded."""
        return pa.table({name: self[name].cast(SCHEMA.field(name).type) for name in SCHEMA.names}, schema=SCHEMA)


Chosen = TypeVar("Chosen", pa.Table, pa.ChunkedArray)


def _chosen(rows: Chosen, mask: np.ndarray | None) -> Chosen:
    return rows if mask is None else rows.filter(pa.array(mask))


def read_rows(folder: str | Place) -> pa.Table:
    """All rows of a run folder, in a fixed order; raises SparringError if there are none, or if a file of them is damaged."""
    folder = place_of(folder)
    record = read_run(folder) if (folder / "run.json").exists() else {}
    rows, damaged = scan_rows(folder, record)
    if damaged:
        raise SparringError(f"{folder / damaged[0]}; the same command with the same --out makes it anew")
    return rows.table()


def scan_rows(folder: str | Place, record: Json) -> tuple[StoredRows, list[str]]:
    """All whole rows of a run folder with record ``record`` (run.json), in a fixed order, and a line on each damaged file.

    Raises SparringError if there are none at all.
    """
    folder = place_of(folder)
    files, damaged = row_files(folder, "checksum" in record, identity_of(record) if record else "")
    if not files and not damaged:
        fault = (
            "has a record, but its rows are gone; the same command with the same --out makes them anew"
            if record
            else "holds no rows; is it a sparring run folder?"
        )
        raise SparringError(f"{folder} {fault}")
    cells, blocks = record.get("cells"), {block_id(names) for names in record.get("blocks", ())}
    newer = {(name.parent.name, name.stem) for name in folder.glob(SMALL)}
    parts: list[tuple[RowFile, np.ndarray | None]] = []
    for file in files:
        counts = [piece for piece in file.pieces if not file.large or piece.key not in newer]
        foreign = [p for p in counts if cells is not None and (p.cell not in cells or p.block not in blocks)]
        if foreign:
            damaged.append(damage(folder, file.file, Damaged("it belongs to another run")))
        parts.append((file, _mask(file, [piece for piece in counts if piece not in foreign])))
    return StoredRows(parts), damaged


def _mask(file: RowFile, pieces: Sequence[Piece]) -> np.ndarray | None:
    """(rows,) bool: which rows of a file are of these pieces; None: all."""
    if len(pieces) == len(file.pieces):
        return None
    chosen = {piece.key for piece in pieces}
    return np.repeat([piece.key in chosen for piece in file.pieces], [piece.rows for piece in file.pieces])


def row_files(folder: Place, sealed: bool, identity: str = "") -> tuple[list[RowFile], list[str]]:
    """The whole files of rows that count, large ones first, and a line on each damaged one. Small files may be newer than a large one that holds
    the same cell and block, and count instead of that.
    """
    files: list[RowFile] = []
    faults: dict[Place, Damaged] = {}
    for _ in range(LOOKS):
        files, faults, gathered = [], {}, False
        for file in (*folder.glob(LARGE), *sorted(folder.glob(SMALL))):
            try:
                files.append(RowFile(folder, file, sealed, identity))
            except FileNotFoundError:  # somebody gathers them just now: what it held stands elsewhere
                gathered = True
            except Damaged as why:
                faults[file] = why
        if not gathered:
            break
    replaced = {name for file in files for name in file.replaces}
    whole = [file for file in files if file.file.stem not in replaced]
    return whole, [damage(folder, file, why) for file, why in faults.items() if file.stem not in replaced]


def blocks_before(folder: str | Place) -> list[list[str]]:
    """The images of each block of the run that a folder holds; where its record is gone or damaged, as its rows say. None where there is no run."""
    folder = place_of(folder)
    try:
        record = parse_run(folder / "run.json")
    except Damaged:
        record = None
    return _blocks_of(folder) if record is None else record.get("blocks", [])


def _blocks_of(folder: Place) -> list[list[str]]:
    """The images of each block, as rows say; of blocks that share an image the first."""
    pieces = [piece for file in row_files(folder, False)[0] for piece in file.pieces]
    blocks = {(piece.number, piece.block): piece.images for piece in pieces if piece.images}
    taken: set[str] = set()
    whole: list[list[str]] = []
    for (_, name), images in sorted(blocks.items()):
        if block_id(images) == name and not taken & set(images):
            taken |= set(images)
            whole.append(list(images))
    return whole


def written(folder: Place, file: Place, rows: pa.Table, made_by: str, **facts: object) -> bytes:
    """The content of a file of rows that says these facts of itself."""
    buffer = pa.BufferOutputStream()
    pq.write_table(rows.replace_schema_metadata({MADE_BY: made_by, NOTE: note(folder, file, **facts)}), buffer)
    return seal(buffer.getvalue().to_pybytes())


def calls_of(rows: pa.Table) -> dict[str, int]:
    """By run the network calls that its points cost, of each image once."""
    points = rows.group_by(["run", "image"]).aggregate([("forwards", "max"), ("backwards", "max")])
    sums = points.group_by("run").aggregate([("forwards_max", "sum"), ("backwards_max", "sum")]).to_pydict()
    return {
        run: f + b for run, f, b in zip(sums["run"], sums["forwards_max_sum"], sums["backwards_max_sum"], strict=True)
    }


def gather(folder: Place, identity: str) -> None:
    """Bring the many small files of a complete run into few large ones. Each is written whole, and read again, before what it holds is removed: whenever
    this stops, every row is there, and counts once.
    """
    if len(list(folder.glob(SMALL))) <= MANY:
        return
    files = row_files(folder, True, identity)[0]
    newer = {piece.key for file in files if not file.large for piece in file.pieces}
    sources: list[tuple[RowFile, list[Piece]]] = []
    for file in files:
        counts = [piece for piece in file.pieces if not file.large or piece.key not in newer]
        if not file.large or len(counts) < len(file.pieces) or file.size < MOST // 2:
            sources.append((file, counts))
    for group in _groups(sources):
        _gathered(folder, identity, group)
    left = {name for file in files for name in file.replaces}
    for file in folder.glob(LARGE):
        if file.stem in left:
            with explained(file):
                file.unlink(missing_ok=True)


def _groups(sources: Iterable[tuple[RowFile, list[Piece]]]) -> Iterator[list[tuple[RowFile, list[Piece]]]]:
    """Files whose rows fill a large one."""
    group: list[tuple[RowFile, list[Piece]]] = []
    size = 0
    for file, pieces in sources:
        rows = sum(piece.rows for piece in pieces)
        if group and size + rows > MOST:
            yield group
            group, size = [], 0
        group.append((file, pieces))
        size += rows
    if group:
        yield group


def _gathered(folder: Place, identity: str, group: Sequence[tuple[RowFile, list[Piece]]]) -> None:
    """Write one large file and remove what it holds."""
    pieces = [piece for _, counts in group for piece in counts]
    makers = list(dict.fromkeys(piece.made_by for piece in pieces))
    replaces = [file.file.stem for file, _ in group if file.large]
    listed = [[p.cell, p.block, p.rows, p.points, p.calls, makers.index(p.made_by)] for p in pieces]
    blocks = {piece.block: [piece.images, piece.number] for piece in pieces}
    name = hashlib.sha256(json.dumps([listed, replaces]).encode()).hexdigest()[:20]
    target = folder / "rows" / f"{name}.parquet"
    facts = note(folder, target, identity=identity, pieces=listed, blocks=blocks, makers=makers, replaces=replaces)
    buffer = pa.BufferOutputStream()
    with pq.ParquetWriter(buffer, SCHEMA.with_metadata({NOTE: facts}), dictionary_pagesize_limit=2**24) as writer:
        waiting: list[pa.Table] = []
        for file, counts in group:
            waiting += [file.table(piece) for piece in counts]
            if sum(table.num_rows for table in waiting) >= GROUP:
                writer.write_table(pa.concat_tables(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting))
    write_whole(target, seal(buffer.getvalue().to_pybytes()))
    RowFile(folder, target, True, identity)
    for file, _ in group:
        with explained(file.file):
            file.file.unlink(missing_ok=True)
            if isinstance(file.file, Path) and file.file.parent.name != "rows":
                with suppress(OSError):  # others stand in it
                    file.file.parent.rmdir()
