"""How long it takes to count results, and how much memory, in a fresh process: a run folder's rows are read, then closed numbers, each attack's own, and
all checks of rows are counted, over made-up rows.

``python benchmarks/counting.py [--images 10800] [--block 256]`` (6 systems, 2 threats, 8 attacks: 1.1 million rows)
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sparring.checks.base import in_order
from sparring.checks.rows import RowCheck, run_row_checks, toy_rows
from sparring.core.columns import Json
from sparring.evaluation.records.files import block_id, row_identity
from sparring.evaluation.records.rows import SCHEMA, calls_of, gather, scan_rows, written
from sparring.evaluation.results.cells import all_cells
from sparring.evaluation.results.closed import all_closed
from sparring.evaluation.results.load import whole_images
from sparring.evaluation.results.status import status_of
from sparring.evaluation.results.table import CLEAN, RowTable

SYSTEMS, THREATS, ATTACKS = [f"d{i}" for i in range(6)], ["oblivious", "adaptive"], [f"a{i}" for i in range(8)]
IDENTITY = {"defenses": SYSTEMS, "threats": THREATS, "attacks": ATTACKS, "tier": "quick", "model": "made up"}
FACTS = {
    t: {"name": t, "dominated": THREATS if t == "adaptive" else [t], "deployed": True, "grants": "GRADIENT"}
    for t in THREATS
}


def made_up(images: int) -> Iterator[tuple[str, pa.Table]]:
    """By cell rows of ``images`` images, won or lost by chance."""
    random, toy = np.random.default_rng(0), toy_rows(images)
    clean = toy["threat"] == CLEAN
    for system in SYSTEMS:
        part: dict[str, Any] = {k: toy[k][clean] for k in SCHEMA.names} | {"defense": np.full(images, system)}
        yield f"{system}-clean", pa.table(part, schema=SCHEMA)
        for threat in THREATS:
            for number, attack in enumerate(ATTACKS):
                right = random.random(images) < 0.5
                changed = {
                    "defense": np.full(images, system),
                    "threat": np.full(images, threat),
                    "attack": np.full(images, attack),
                    "run": np.full(images, f"{system}/{threat}/{attack}"),
                    "kind": np.full(images, "iterative" if number < 4 else "query"),
                    "p_select": right.astype(float),
                    "k": right.astype(int),
                    "k_8bit": right.astype(int),
                    "correct": right,
                    "margin": random.normal(size=images),
                }
                yield (
                    f"{system}-{threat}-{attack}",
                    pa.table({k: toy[k][~clean] for k in SCHEMA.names} | changed, schema=SCHEMA),
                )


def write(folder: Path, images: int, block: int, compact: bool) -> None:
    """A run folder of these rows, in files of ``block`` images."""
    ours = row_identity(IDENTITY)
    for cell, rows in made_up(images):
        names = [f"{hashlib.sha256(str(i).encode()).hexdigest()[:20]}" for i in range(images)]
        for number, start in enumerate(range(0, images, block)):
            part, mine = rows.slice(start, block), names[start : start + block]
            file = folder / "rows" / cell / f"{block_id(mine)}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            facts = {"identity": ours, "points": {}, "calls": calls_of(part), "images": mine, "number": number}
            file.write_bytes(written(folder, file, part, "{}", **facts))
    if compact:
        gather(folder, ours)


def peak() -> float:
    """The most memory that this process has had, in MB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def count(folder: Path, images: int) -> None:
    """Count, and print how long each step took and how much more memory the whole needed than what was imported."""
    in_order(RowCheck)  # imported, as the rest is
    before, begun, marks = peak(), time.process_time(), [("", time.perf_counter())]
    record: Json = {"runs": [f"{s}/{t}/{a}" for s in SYSTEMS for t in THREATS for a in ATTACKS], "images": images}
    record |= {"complete": True, "rows_per_image": len(SYSTEMS) * (1 + len(THREATS) * len(ATTACKS))}
    stored, damaged = scan_rows(folder, {})
    assert not damaged
    marks.append(("files", time.perf_counter()))
    rows, missing = whole_images(RowTable(stored, SYSTEMS + THREATS + ATTACKS, FACTS), record)
    assert not missing, missing
    marks.append(("whole images", time.perf_counter()))
    for name, question in (("closed", all_closed), ("own", all_cells), ("checks of rows", run_row_checks)):
        question(rows)
        marks.append((name, time.perf_counter()))
    used = time.process_time() - begun
    for (_, start), (name, ended) in itertools.pairwise(marks):
        print(f"{name}: {ended - start:.2f} s")
    wall = marks[-1][1] - marks[0][1]
    print(
        f"{rows.size} rows in {wall:.2f} s ({used:.2f} s of processors), {peak() - before:.0f} MB above {before:.0f} MB"
    )


def status(folder: Path) -> None:
    """How long ``sparring status`` takes."""
    record = {"identity": {**IDENTITY, "seed": 0, "weights": "", "data": ""}, "environment": {"sparring": ""}}
    record |= {"images": 0, "complete": False, "checks": []}
    (folder / "run.json").write_text(json.dumps(record))
    start = time.perf_counter()
    status_of(folder)
    print(f"status in {time.perf_counter() - start:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_800)
    parser.add_argument("--block", type=int, default=256)
    parser.add_argument("--count", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.count:
        count(given.count, given.images)
        return
    for compact in (True, False):
        with tempfile.TemporaryDirectory() as place:
            start = time.perf_counter()
            write(Path(place), given.images, given.block, compact)
            files = list(Path(place).rglob("*.parquet"))
            size = sum(f.stat().st_size for f in files) / 1e6
            print(f"{len(files)} files, {size:.0f} MB, written in {time.perf_counter() - start:.0f} s", flush=True)
            again = [sys.executable, __file__, "--images", str(given.images), "--count", place]
            subprocess.run(again, check=True)
            status(Path(place))


if __name__ == "__main__":
    main()
