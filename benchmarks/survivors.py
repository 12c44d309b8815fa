"""What it saves to attack only what is left: default evaluations of broken defenses, with and without survivors, and their closed numbers.

``python benchmarks/survivors.py [--n 32]``
Calls: forwards and backwards of the attacks, each run counted once, an image. Seconds: the whole evaluation, checks and judge included, one thread.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import sparring
from sparring.evaluation.results.load import load_rows

DATA = os.environ.get("SPARRING_DATA", "../shared/data")
DIGITS = "mnist_cnn", "mnist5k:split=test"
PHOTOS = f"cifar_resnet20:weights={DATA}/cifar10_resnet20.safetensors", f"{DATA}/cifar10_test_0-699.npz"
CASES = (
    (*DIGITS, "none"),
    (*DIGITS, "cd:bits=3"),
    (*DIGITS, "svd:rate=0.5"),
    (*DIGITS, "fc:rate=0.5"),
    (*PHOTOS, "cd:bits=4"),
    (*PHOTOS, "svd:rate=0.5"),
)


def calls(folder: Path) -> float:
    """Network calls of the attacks, an image."""
    rows = load_rows(folder)
    run, image = rows.texts["run"], rows.texts["image"]
    once = np.unique(run.numbers.astype(np.int64) * len(image.names) + image.numbers, return_index=True)[1]
    return float((rows["forwards"] + rows["backwards"])[once].sum() / len(image.names))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=32)
    args = parser.parse_args()
    torch.set_num_threads(1)
    table = Table(title=f"default evaluations, n={args.n}: attacks on all images / on survivors")
    for column in ("model", "defense", "calls an image", "ratio", "seconds", "closed numbers (%)"):
        table.add_column(column)
    for model, data, defense in CASES:
        spent, took, numbers = [], [], []
        for survivors in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                result = sparring.evaluate(
                    model, data, [defense], limit=args.n, survivors=survivors, out=Path(folder) / "run"
                )
                took.append(time.perf_counter() - start)
                spent.append(calls(Path(folder) / "run"))
                numbers.append([f"{100 * c.robust_accuracy:.1f}" for c in result.closed])
        same = "equal: " + ", ".join(numbers[0]) if numbers[0] == numbers[1] else f"{numbers[0]} / {numbers[1]}"
        name = model.partition(":")[0]
        each = " / ".join(f"{s:.0f}" for s in spent)
        table.add_row(name, defense, each, f"{spent[0] / spent[1]:.0f}", " / ".join(f"{t:.0f}" for t in took), same)
        print(name, defense, each, same, flush=True)
    Console(width=170).print(table)


if __name__ == "__main__":
    main()
