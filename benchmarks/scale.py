"""What several processes on one run folder bring: wall time of one process with one thread, one with all threads, of N with one thread each, and of
1 and N workers on a Ray cluster of this machine (extra ``scale``).

``python benchmarks/scale.py [--workers 2] [--limit 256] [--out scale.json]`` (quiet; CIFAR: ``SPARRING_DATA``)
The same evaluation each time in a fresh process, so that loading is counted; the rows of all must be equal but for rounding (rates, labels and costs
are compared). Also printed: bytes on disk and files, an image. With ``--die`` one of two workers is killed halfway.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sparring.evaluation.records.rows import read_rows

DATA = os.environ.get("SPARRING_DATA", "../shared/data")
SAME = ("defense", "threat", "attack", "view", "run", "image", "label", "k", "k_8bit", "forwards", "backwards")


def evaluate(folder: Path, limit: int, workers: int, threads: int, die: bool, engine: str) -> float:
    """Wall seconds of one evaluation in a process of its own."""
    model = f"cifar_resnet20:weights={DATA}/cifar10_resnet20.safetensors"
    command = [sys.executable, "-c", "from sparring.cli import main; main()", "evaluate", model]
    command += ["--data", f"{DATA}/cifar10_test_0-699.npz", "--limit", str(limit), "--defense", "cd:bits=4"]
    command += [
        "--attack",
        "pgd:eps=1/255,steps=40",
        "--attack",
        "apgd:eps=1/255,steps=50",
        "--threat",
        "oblivious,adaptive",
    ]
    command += ["--out", str(folder), "--workers", str(workers), "--engine", engine, "--json"]
    own = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    process = subprocess.Popen(command, env=own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if die:
        _kill_a_worker(process.pid, folder)
    if process.wait():
        raise SystemExit(f"evaluate --workers {workers} ended with {process.returncode}")
    return time.perf_counter() - start


def _kill_a_worker(parent: int, folder: Path) -> None:
    """Once it is at its first block, and a third of the rows are there."""
    while len(list(folder.glob("rows/*/*.parquet"))) < 4:
        time.sleep(0.2)
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=True
    ).stdout
    for pid in map(int, listed.split()):
        if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)


def rows_of(folder: Path) -> list[Any]:
    table = read_rows(folder).select(list(SAME))
    return sorted(tuple(row.values()) for row in table.to_pylist())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit", type=int, default=256)
    parser.add_argument("--die", action="store_true", help="kill one of the workers")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    cores = os.cpu_count() or 1
    own = "processes"
    cases = [("one process, one thread", 1, 1, False, own), (f"one process, {cores} threads", 1, cores, False, own)]
    cases.append((f"{args.workers} workers of one thread", args.workers, 1, False, own))
    if args.die:
        cases.append((f"{args.workers} workers, one killed", args.workers, 1, True, own))
    if find_spec("ray"):
        cases += [(f"Ray, {n} worker(s)", n, 1, False, "ray") for n in (1, args.workers)]
    table = Table(title=f"cifar_resnet20, cd:bits=4, two threats, two attacks, n={args.limit}")
    for name in ("case", "wall s", "ratio to one thread", "rows that differ", "MB", "files"):
        table.add_column(name, justify="left" if name == "case" else "right")
    said: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        first: list[Any] = []
        for number, (name, workers, threads, die, engine) in enumerate(cases):
            folder = Path(place) / str(number)
            seconds = evaluate(folder, args.limit, workers, threads, die, engine)
            rows = rows_of(folder)
            first = first or rows
            differ = sum(a != b for a, b in zip(first, rows, strict=True))
            files = [f for f in folder.rglob("*") if f.is_file()]
            size = sum(f.stat().st_size for f in files) / 1e6
            said.append(
                {"case": name, "seconds": seconds, "ratio": (said or [{"seconds": seconds}])[0]["seconds"] / seconds}
            )
            said[-1] |= {"differ": differ, "rows": len(rows), "mb": size, "files": len(files)}
            table.add_row(
                name,
                f"{seconds:.1f}",
                f"{said[-1]['ratio']:.2f}x",
                f"{differ} of {len(rows)}",
                f"{size:.1f}",
                str(len(files)),
            )
            print(said[-1], flush=True)
            if args.out:
                args.out.write_text(json.dumps(said, indent=1) + "\n")
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
