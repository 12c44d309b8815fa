"""The files of a run folder, read, and how they are written: whole or not at all."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import safe_open
from torch import Tensor

from sparring.core.columns import ROW
from sparring.core.errors import SparringError

TYPES = {"text": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
SCHEMA = pa.schema([(c.stored, TYPES[c.kind]) for c in ROW])


def read_rows(folder: str | Path) -> pa.Table:
    """All rows of a run folder, in a fixed order; raises SparringError if there are none."""
    files = sorted(Path(folder).glob("rows/*/*.parquet"))
    if not files:
        raise SparringError(f"{folder} holds no rows; is it a sparring run folder?")
    return pa.concat_tables([pq.read_table(f, schema=SCHEMA) for f in files])


def read_pictures(folder: str | Path) -> list[tuple[dict[str, str], dict[str, Tensor]]]:
    """(what it is, tensors clean / adversarial / defended) of every stored example."""
    found = []
    for file in sorted(Path(folder).glob("pictures/*.safetensors")):
        with safe_open(file, "pt") as content:
            found.append((content.metadata(), {k: content.get_tensor(k) for k in content.keys()}))  # noqa: SIM118
    return found


def read_run(folder: str | Path) -> dict[str, Any]:
    """run.json of a run folder."""
    file = Path(folder) / "run.json"
    if not file.exists():
        raise SparringError(f"{folder} holds no run.json; is it a sparring run folder?")
    try:
        return json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise SparringError(f"{file} is damaged ({error}); delete it to start over") from None


def write_text(file: Path, text: str) -> None:
    """Write a text file atomically."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial(file).write_text(text)
    partial(file).replace(file)


def is_partial(file: Path) -> bool:
    """Is it what a process left that was killed while it wrote?"""
    return file.name.startswith(".") and file.suffix == ".partial"


def partial(file: Path) -> Path:
    """Where a process writes before it renames."""
    return file.with_name(f".{file.name}.{os.getpid()}.partial")


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON of ``json_safe`` values."""
    return json.dumps(json_safe(value), indent=indent, default=str)


def json_safe(value: Any) -> Any:
    """The same with infinities and NaN as strings ("inf", "nan"), so that no reader of JSON chokes and none is lost."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): json_safe(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(v) for v in value]
    return value
