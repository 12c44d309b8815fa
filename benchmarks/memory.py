"""What a set's size costs in memory: peak of a whole evaluation of 224-pixel photos, each in a fresh process.

``python benchmarks/memory.py [--photos 2000 8000] [--out memory.json]``
The photos are uniform noise that is drawn when it is asked for, the network a small one: what is measured is what the library keeps. "imports" is the
process before it loads anything. The goal: at most 1.5 GB, and the same for 2,000 and 8,000.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import sparring

SIDE = 224
GB = 1e6  # of the system's kilobytes


class Photos(torch.utils.data.Dataset[tuple[np.ndarray, int]]):
    """So many pictures, each the same whenever it is drawn."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return np.random.default_rng(index).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8), index % 10


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GB


def measure(count: int) -> dict[str, float]:
    """Of this process: memory in GB and seconds."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 7, 8), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 28 * 28, 10)).eval()
    before, start = peak(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        arguments = {"threats": ["adaptive"], "attacks": ["fgsm:eps=8/255"], "expect_clean": 0.1}
        evaluation = sparring.evaluate(net, Photos(count), **arguments, out=Path(folder) / "run")
    robust = evaluation.closed[0].robust_accuracy
    return {
        "photos": count,
        "imports": before,
        "peak": peak(),
        "seconds": time.perf_counter() - start,
        "robust": robust,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=int, nargs="+", default=[2000, 8000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one)))
        return
    rows = []
    table = Table("photos", "as float32, GB", "imports, GB", "peak, GB", "seconds")
    for count in given.photos:
        command = [sys.executable, __file__, "--one", str(count)]
        row = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        rows.append(row)
        whole = 4 * 3 * SIDE**2 * count / 1e9
        table.add_row(
            str(count), f"{whole:.2f}", f"{row['imports']:.2f}", f"{row['peak']:.2f}", f"{row['seconds']:.0f}"
        )
    Console().print(table)
    if given.out:
        given.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
