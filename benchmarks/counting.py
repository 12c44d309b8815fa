"""How long it takes to count results: closed numbers, each attack's own, and all checks of rows, over made-up rows.

``python benchmarks/counting.py [--images 10800]`` (6 systems, 2 threats, 8 attacks: 1.1 million rows)
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import pyarrow as pa

from sparring.checks.rows import run_row_checks, toy_rows
from sparring.evaluation.records.files import SCHEMA
from sparring.evaluation.results.cells import all_cells
from sparring.evaluation.results.closed import all_closed
from sparring.evaluation.results.table import CLEAN, RowTable

SYSTEMS, THREATS, ATTACKS = [f"d{i}" for i in range(6)], ["oblivious", "adaptive"], [f"a{i}" for i in range(8)]


def made_up(images: int) -> pa.Table:
    """Rows of ``images`` images in every cell, won or lost by chance."""
    random, toy = np.random.default_rng(0), toy_rows(images)
    clean = toy["threat"] == CLEAN
    parts: list[dict[str, Any]] = []
    for system in SYSTEMS:
        parts.append({k: toy[k][clean] for k in SCHEMA.names} | {"defense": np.full(images, system)})
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
                parts.append({k: toy[k][~clean] for k in SCHEMA.names} | changed)
    return pa.concat_tables([pa.table(part, schema=SCHEMA) for part in parts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_800)
    table = made_up(parser.parse_args().images)
    facts = {
        t: {"name": t, "dominated": THREATS if t == "adaptive" else [t], "deployed": True, "grants": "GRADIENT"}
        for t in THREATS
    }
    start = time.perf_counter()
    rows = RowTable(table, SYSTEMS + THREATS + ATTACKS, facts)
    marks = [("table", time.perf_counter())]
    for name, count in (("closed numbers", all_closed), ("own numbers", all_cells), ("checks of rows", run_row_checks)):
        count(rows)
        marks.append((name, time.perf_counter()))
    before, whole = start, marks[-1][1] - start
    for name, now in marks:
        print(f"{name}: {now - before:.2f} s")
        before = now
    print(f"{table.num_rows} rows in {whole:.2f} s")


if __name__ == "__main__":
    main()
