"""A run folder: ``run.json`` (provenance), ``points/`` (adversarial images), ``rows/`` (typed Parquet), written
atomically.

A file that exists is complete; resume means skipping it. A folder that belongs to another configuration is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.torch import load_file, save_file
from torch import Tensor

from sparring.core.errors import SparringError
from sparring.evaluation.records.files import SCHEMA, is_partial, partial, read_run, to_json, write_text
from sparring.evaluation.records.provenance import environment, made_by


class Store:
    """One run folder. ``identity``: what decides the answers; a folder with another one is refused, by name of the
    field.
    """

    def __init__(self, folder: str | Path, identity: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.identity = json.loads(to_json(identity))
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
            if changed == ["own_code"]:
                raise SparringError(
                    f"output folder {self.folder} was made before your own code (plug-in, class, function) changed: it can be reported, not resumed; choose another --out"
                )
            if changed:
                raise SparringError(
                    f"output folder {self.folder} holds another configuration (differs in {', '.join(sorted(changed))}); choose another --out"
                )
        elif self.folder.exists() and not all(is_partial(f) for f in self.folder.iterdir()):
            raise SparringError(
                f"output folder {self.folder} is not empty and is no sparring run; choose another --out"
            )
        self.folder.mkdir(parents=True, exist_ok=True)

    def write_run(self, **content: Any) -> None:
        """Write run.json: identity, environment and ``content``."""
        record = {"identity": self.identity, "environment": environment(), **content}
        write_text(self.folder / "run.json", to_json(record, indent=2) + "\n")

    def points(self, run: str, block: str) -> dict[str, Tensor] | None:
        """The stored points of a block, or None."""
        file = self.folder / "points" / run / f"{block}.safetensors"
        return load_file(file) if file.exists() else None

    def put_points(self, run: str, block: str, tensors: dict[str, Tensor]) -> None:
        file = self.folder / "points" / run / f"{block}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in tensors.items()}, partial(file))
        partial(file).replace(file)

    def put_pictures(self, cell: str, tensors: dict[str, Tensor], about: dict[str, str]) -> None:
        """Example images of a cell with a text record of what they are."""
        file = self.folder / "pictures" / f"{cell}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in tensors.items()}, partial(file), metadata=about)
        partial(file).replace(file)

    def has_rows(self, cell: str, block: str) -> bool:
        return self._rows(cell, block).exists()

    def put_rows(self, cell: str, block: str, columns: dict[str, Any]) -> None:
        file = self._rows(cell, block)
        file.parent.mkdir(parents=True, exist_ok=True)
        made_by = {**environment(), "code": self.identity.get("code")}  # stays with the block, whoever resumes the run
        schema = SCHEMA.with_metadata({"made_by": json.dumps(made_by)})
        pq.write_table(pa.table(columns, schema=schema), partial(file))
        partial(file).replace(file)

    def _rows(self, cell: str, block: str) -> Path:
        return self.folder / "rows" / cell / f"{block}.parquet"
