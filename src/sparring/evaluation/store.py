"""A run folder: ``run.json`` (provenance), ``points/`` (adversarial images), ``rows/`` (typed Parquet), written
atomically.

A file that exists is complete; resume means skipping it. A folder that belongs to another configuration is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from sparring.core.columns import ROW
from sparring.core.errors import SparringError
from sparring.core.spec import parse
from sparring.version import __version__

TYPES = {"text": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
SCHEMA = pa.schema([(c.stored, TYPES[c.kind]) for c in ROW])

MAKES_POINTS = ("core", "data", "models", "attacks", "defenses", "threats", "subject.py", "evaluation")
PACKAGES = ("torch", "numpy", "scipy", "safetensors", "pyarrow", "pydantic", "timm", "torchvision")


class Store:
    """One run folder. ``identity``: what decides the answers; a folder with another one is refused, by name of the
    field.
    """

    def __init__(self, folder: str | Path, identity: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.identity = json.loads(_json(identity))
        file = self.folder / "run.json"
        if self.folder.exists() and not self.folder.is_dir():
            raise SparringError(f"output {self.folder} is a file; choose a folder")
        if file.exists():
            before = read_run(self.folder).get("identity", {})
            changed = [k for k in {**before, **self.identity} if before.get(k) != self.identity.get(k)]
            if changed == ["code"]:
                raise SparringError(
                    f"output folder {self.folder} was {made_by(read_run(self.folder))}: it can be reported, not resumed; choose another --out"
                )
            if changed:
                raise SparringError(
                    f"output folder {self.folder} holds another configuration (differs in {', '.join(sorted(changed))}); choose another --out"
                )
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise SparringError(
                f"output folder {self.folder} is not empty and is no sparring run; choose another --out"
            )
        self.folder.mkdir(parents=True, exist_ok=True)

    def write_run(self, **content: Any) -> None:
        """Write run.json: identity, environment and ``content``."""
        record = {"identity": self.identity, "environment": environment(), **content}
        write_text(self.folder / "run.json", _json(record, indent=2) + "\n")

    def points(self, run: str, block: int) -> dict[str, Tensor] | None:
        """The stored points of a block, or None."""
        file = self.folder / "points" / run / f"{block:05d}.safetensors"
        return load_file(file) if file.exists() else None

    def put_points(self, run: str, block: int, tensors: dict[str, Tensor]) -> None:
        file = self.folder / "points" / run / f"{block:05d}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in tensors.items()}, _partial(file))
        _partial(file).replace(file)

    def put_pictures(self, cell: str, tensors: dict[str, Tensor], about: dict[str, str]) -> None:
        """Example images of a cell with a text record of what they are."""
        file = self.folder / "pictures" / f"{cell}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in tensors.items()}, _partial(file), metadata=about)
        _partial(file).replace(file)

    def has_rows(self, cell: str, block: int) -> bool:
        return self._rows(cell, block).exists()

    def put_rows(self, cell: str, block: int, columns: dict[str, Any]) -> None:
        file = self._rows(cell, block)
        file.parent.mkdir(parents=True, exist_ok=True)
        made_by = {**environment(), "code": self.identity.get("code")}  # stays with the block, whoever resumes the run
        schema = SCHEMA.with_metadata({"made_by": json.dumps(made_by)})
        pq.write_table(pa.table(columns, schema=schema), _partial(file))
        _partial(file).replace(file)

    def _rows(self, cell: str, block: int) -> Path:
        return self.folder / "rows" / cell / f"{block:05d}.parquet"


def read_rows(folder: str | Path) -> pa.Table:
    """All rows of a run folder, in a fixed order; raises SparringError if there are none."""
    files = sorted(Path(folder).glob("rows/*/*.parquet"))
    if not files:
        raise SparringError(f"{folder} holds no rows; is it a sparring run folder?")
    return pa.concat_tables([pq.read_table(f, schema=SCHEMA) for f in files])


def whole_images(table: pa.Table, record: Mapping[str, Any]) -> tuple[pa.Table, str]:
    """The rows of those images that every cell has, and what is missing, in words, or "". An image without rows of some attack is
    neither robust nor broken: it does not count.
    """
    counts = table.group_by("image").aggregate([("run", "count")])
    # older folders do not say how many rows an image has: as many as there are different ones
    keys = ["defense", "threat", "attack", "view", "draw", "run"]
    expected = record.get("rows_per_image") or table.group_by(keys).aggregate([]).num_rows
    whole = counts.filter(pc.field("run_count") >= expected)["image"]
    if len(whole) == record["images"] and record["complete"]:
        return table, ""
    missing = f"interrupted: {len(whole)} of {record['images']} images have been through every attack; the same command with the same --out resumes"
    return table.filter(pc.field("image").isin(pa.array(whole.to_pylist(), pa.string()))), missing


# who inherited whose points when folders did not say so themselves
FIRST_EDITION = {
    "twin": ["oblivious", "transfer"],
    "score": ["decision"],
    "adaptive": ["score", "decision", "twin", "oblivious", "transfer", "white-exact", "white-identity"],
    "known-w": [
        "adaptive",
        "fixed-w",
        "score",
        "decision",
        "twin",
        "oblivious",
        "transfer",
        "white-exact",
        "white-identity",
    ],
}


def threat_facts(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Facts of a run's threats by their text, see ``results.ThreatFacts``; older folders get those of their time."""
    if "threats" in record:
        return record["threats"]
    names = {text: parse(text).name for text in record["identity"]["threats"]}
    old = {
        t: {"name": n, "dominated": [n, *FIRST_EDITION.get(n, ())], "merges": n == "adaptive"} for t, n in names.items()
    }
    return {
        t: {**facts, "pictured": facts["name"] in ("oblivious", "adaptive", "transfer")} for t, facts in old.items()
    }


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


@cache
def code_hash() -> str:
    """sha256 of the source of all that makes points and rows: after an upgrade an old folder is another configuration, never resumed."""
    root = files("sparring")
    digest = hashlib.sha256(__version__.encode())
    for room in MAKES_POINTS:
        place = Path(str(root.joinpath(room)))
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(file.read_bytes())
    return digest.hexdigest()


def made_by(record: Mapping[str, Any]) -> str:
    """Which code made a run, in words, or "" where it is the code that asks."""
    if record["identity"].get("code") == code_hash():
        return ""
    return f"made by other code than this (sparring {record['environment']['sparring']}; this is {__version__})"


def environment() -> dict[str, Any]:
    """Versions, machine, threads: what a reader needs to judge whether a number would come out again."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "sparring": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": found,
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "tf32": bool(torch.backends.cuda.matmul.allow_tf32),
    }


def write_text(file: Path, text: str) -> None:
    """Write a text file atomically."""
    file.parent.mkdir(parents=True, exist_ok=True)
    _partial(file).write_text(text)
    _partial(file).replace(file)


def _partial(file: Path) -> Path:
    return file.with_name(f".{file.name}.{os.getpid()}.partial")


def _json(value: Any, indent: int | None = None) -> str:
    """JSON in which infinities and NaN are strings ("inf", "nan"), so that no reader chokes and none is lost."""

    def plain(v: Any) -> Any:
        if isinstance(v, float) and not math.isfinite(v):
            return str(v)
        if isinstance(v, Mapping):
            return {str(k): plain(w) for k, w in v.items()}
        if isinstance(v, list | tuple):
            return [plain(w) for w in v]
        return v

    return json.dumps(plain(value), indent=indent, default=str)
