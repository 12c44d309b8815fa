"""What attacks made for transfer fool: every CIFAR ResNet's points on the other three, in percent of the images that all four have right.

``python benchmarks/transfer.py [--limit 60] [--eps 4/255] [--attack SPEC ...] [--out transfer.json]``
The first attack is what the others are compared with: mean paired difference over (source, target) pairs, with 95 % bounds by a bootstrap over images.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from sparring.attacks.attack import attack
from sparring.attacks.engine import Batch, RunOptions
from sparring.core.noise import image_keys
from sparring.core.prepare import prepare
from sparring.core.system import System
from sparring.core.victim import Access, Victim
from sparring.data.sources import load_data
from sparring.models.load import load_model

DATA = os.environ.get("SPARRING_DATA", "../shared/data")
NETWORKS = ("resnet20", "resnet32", "resnet44", "resnet56")
MOMENTUM = "mifgsm:steps=10"
ATTACKS = (
    MOMENTUM,
    "mifgsm:steps=100,step_size=0.01",
    "pgd:steps=10",
    "mifgsm:steps=10,diversity=1,kernel=3",
    "mifgsm:steps=10,neighbors=9",
    "mifgsm:steps=10,neighbors=9,diversity=1",
    "low_frequency",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--eps", default="4/255")
    parser.add_argument("--attack", nargs="+", default=list(ATTACKS))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    images = load_data(f"{DATA}/cifar10_test_0-699.npz")
    loaded = {n: load_model(f"cifar_{n}:weights={DATA}/cifar10_{n}.safetensors") for n in NETWORKS}
    networks = {n: prepare(m.eval().requires_grad_(False), images.x[:4]).model for n, m in loaded.items()}
    with torch.no_grad():
        right = torch.stack([m(images.x).argmax(1) == images.y for m in networks.values()]).all(0).nonzero()
    x, y = images.x[right[: args.limit, 0]], images.y[right[: args.limit, 0]]
    keys = image_keys([str(i) for i in range(len(x))])
    console = Console(width=150)
    table = Table(title=f"fooled in percent, {args.eps}, n={len(x)} a pair, 12 pairs")
    for column in ("attack", "gradients", *(f"from {n}" for n in NETWORKS), "mean", f"more than {args.attack[0]}"):
        table.add_column(column, justify="left" if column == "attack" else "right")
    fooled: dict[str, np.ndarray] = {}  # (pairs, images) by attack
    rows = []
    for text in args.attack:
        made = attack(f"{text}{',' if ':' in text else ':'}eps={args.eps}")
        pairs, own, gradients = [], [], 0.0
        for source, network in networks.items():
            outcome = made.on(Victim((System(network),), Access.GRADIENT), Batch(x, y, keys), RunOptions("never"))
            gradients = float(outcome.backwards.double().mean())
            with torch.no_grad():
                lost = [(m(outcome.x).argmax(1) != y).numpy() for n, m in networks.items() if n != source]
            pairs += lost
            own.append(100 * float(np.mean(lost)))
            console.print(f"{text} from {source}: {own[-1]:.1f} %")
        fooled[text] = np.stack(pairs).astype(float)
        more = 100 * (fooled[text] - fooled[args.attack[0]]).mean(0)
        draws = np.random.default_rng(0).integers(0, len(more), (2000, len(more)))
        low, high = np.percentile(more[draws].mean(1), (2.5, 97.5))
        mean = 100 * float(fooled[text].mean())
        cells = [f"{v:.1f}" for v in (*own, mean)]
        table.add_row(text, f"{gradients:.0f}", *cells, f"{more.mean():+.1f} [{low:+.1f}, {high:+.1f}]")
        rows.append(
            {"attack": str(made), "n": len(x), "gradients": gradients, "from": dict(zip(NETWORKS, own, strict=True))}
        )
        rows[-1] |= {"mean": mean, "more": float(more.mean()), "low": float(low), "high": float(high)}
        if args.out:
            args.out.write_text(json.dumps(rows, indent=1) + "\n")
    console.print(table)


if __name__ == "__main__":
    main()
