"""The Law, measured: the same attack at several slots and in shuffled order; how many images moved, and by how much.

``python benchmarks/law.py``. On networks with matrix products answers are equal up to the kernels' rounding.
"""

from __future__ import annotations

import argparse
import os

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
    parser.add_argument("--limit", type=int, default=200)
    args = parser.parse_args()
    images = load_data(args.data, limit=args.limit)
    x, y, ids = images.x, images.y, list(images.ids)
    model = prepare(load_model(args.model), x[:4]).model
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    table = Table(title=f"{args.model}, n={len(x)}, reference: slots 64 in order")
    for name in (
        "attack",
        "run",
        "robust accuracy %",
        "labels that changed",
        "points moved > 1e-6",
        "largest move (linf)",
    ):
        table.add_column(name, justify="right")
    for text in ("pgd:eps=1/255,steps=20", "apgd:eps=1/255,steps=20", "ddn:steps=20"):
        reference = attack(text).run(model, x, y, ids=ids, slots=64)
        for slots, pick in ((64, None), (16, None), (200, None), (64, order)):
            at = torch.arange(len(x)) if pick is None else pick
            found = attack(text).run(model, x[at], y[at], ids=[ids[i] for i in at], slots=slots)
            with torch.no_grad():
                same = model(found.x).argmax(1) == model(reference.x[at]).argmax(1)
            move = (found.x - reference.x[at]).abs().flatten(1).amax(1)
            robust = 100 * float((~found.success).double().mean())
            name = f"slots {slots}" + ("" if pick is None else ", shuffled")
            table.add_row(
                text,
                name,
                f"{robust:.1f}",
                str(int((~same).sum())),
                str(int((move > 1e-6).sum())),
                f"{float(move.max()):.1e}",
            )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
