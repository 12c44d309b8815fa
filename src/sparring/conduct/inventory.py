"""``images.parquet`` of a run folder: the inventory of an image set that is larger than memory, for those who join its run."""

from __future__ import annotations

from dataclasses import asdict

import pyarrow as pa
import pyarrow.parquet as pq

from sparring.data.inventory import Inventory
from sparring.evaluation.records.files import NOTE, note, noted
from sparring.evaluation.records.folder import IMAGES
from sparring.evaluation.records.place import Place
from sparring.evaluation.records.seal import Damaged, read_sealed, seal, write_whole

COLUMNS = ("numbers", "ids", "labels", "digests", "lattice")  # an entry an image


def write_inventory(folder: Place, inventory: Inventory, asked: str) -> None:
    """Write it down; ``asked``: the text of all that decides which images are meant. Raises SparringError where the folder cannot be written."""
    file, fields = folder / IMAGES, asdict(inventory)
    about = note(folder, file, asked=asked, **{name: fields[name] for name in fields if name not in COLUMNS})
    table = pa.table({name: list(fields[name]) for name in COLUMNS}).replace_schema_metadata({NOTE: about})
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    write_whole(file, seal(buffer.getvalue().to_pybytes()))


def read_inventory(folder: Place, asked: str) -> Inventory | None:
    """What is written there of just this set; None where nothing is, or nothing whole: then the images are read to be known."""
    file = folder / IMAGES
    try:
        content = read_sealed(file, sealed=True)
        if content is None:
            return None
        table = pq.read_table(pa.BufferReader(content))
        about = noted({k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}, folder, file)
        if about["asked"] != asked:
            return None
        columns = {name: tuple(table[name].to_pylist()) for name in COLUMNS}
        channels, height, width = about["shape"]
        left_out, listing = tuple(about["left_out"]), about["listing"]
    except (Damaged, KeyError, TypeError, ValueError, pa.ArrowException):
        return None
    return Inventory(**columns, shape=(channels, height, width), left_out=left_out, listing=listing)
