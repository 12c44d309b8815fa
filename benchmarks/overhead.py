"""Time of an attack over the time of its model calls alone: the price of the engine. Must stay at or below 1.10.

``python benchmarks/overhead.py``. The same shapes, the same number of forward and backward passes, in turn.
"""

from __future__ import annotations

import argparse
import os
import time

import torch
from rich.console import Console
from rich.table import Table

from sparring.attacks.attack import attack
from sparring.core.prepare import prepare
from sparring.data.sources import load_data
from sparring.models.load import load_model

DATA = os.environ.get("SPARRING_DATA", "../shared/data")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=f"cifar_resnet20:weights={DATA}/cifar10_resnet20.safetensors")
    parser.add_argument("--data", default=f"{DATA}/cifar10_test_0-699.npz")
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    images = load_data(args.data, limit=args.slots)
    x, y = images.x, images.y
    model = prepare(load_model(args.model), x[:4]).model

    def calls(backward: int, forward: int) -> float:
        start = time.perf_counter()
        for _ in range(backward):
            leaf = x.clone().requires_grad_(True)
            torch.autograd.grad(torch.nn.functional.cross_entropy(model(leaf), y, reduction="sum"), leaf)
        with torch.no_grad():
            for _ in range(forward):
                model(x)
        return time.perf_counter() - start

    table = Table(title=f"{args.slots} rows, {torch.get_num_threads()} threads, median of {args.repeats} paired ratios")
    for name in ("attack", "model calls s", "attack s", "ratio"):
        table.add_column(name, justify="right")
    for text in (
        "pgd:eps=8/255,steps=30",
        "mifgsm:eps=8/255,steps=30",
        "apgd:eps=8/255,steps=30",
        "ddn:steps=30",
        "pgd:norm=l2,eps=0.5,steps=30",
    ):
        ratios, last = [], (0.0, 0.0)
        for _ in range(args.repeats):
            start = time.perf_counter()
            attack(text).run(model, x, y, slots=args.slots, stop="never")
            attacked = time.perf_counter() - start
            alone = calls(30, 1)
            ratios.append(attacked / alone)
            last = (alone, attacked)
        table.add_row(text, f"{last[0]:.2f}", f"{last[1]:.2f}", f"{sorted(ratios)[len(ratios) // 2]:.3f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
