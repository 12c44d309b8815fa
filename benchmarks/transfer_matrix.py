"""The channels paper's Table 1: points made against channel A (rows), recovered behind channel D (columns), in percent.

``python benchmarks/transfer_matrix.py MODEL --data DATA --limit 100``. As in the paper: adaptive C&W, identity backward,
one noise draw per step ("single adaptive step"), accuracy over all images. Ours is judged on fresh draws.
"""

from __future__ import annotations

import argparse

import numpy as np
from rich.console import Console
from rich.table import Table

from sparring.attacks.attack import attack
from sparring.attacks.engine import Batch, RunOptions
from sparring.evaluation.judge import Judge
from sparring.evaluation.results.stats import wilson
from sparring.subject import Subject
from sparring.threats import threat

# FC 30 %, SVD 50 %, CD 4 bits, Gauss and Laplace 0.03, uniform 0.04, all in the paper's eps convention
CHANNELS = {
    "FC": "fc:rate=0.3",
    "CD": "cd:bits=4",
    "SVD": "svd:rate=0.5",
    "Gauss": "gauss:eps=0.03",
    "Uniform": "uniform:eps=0.04",
    "Laplace": "laplace:eps=0.03",
}
PUBLISHED = {  # ResNet-18, 2,000 CIFAR-10 test images, 5 searches of 100 steps
    "Empty": (93.32, 93.01, 93.12, 92.53, 91.6, 91.35),
    "FC": (0.20, 80.75, 83.05, 81.15, 79.65, 78.70),
    "CD": (3.85, 0.70, 43.60, 47.30, 60.45, 62.35),
    "SVD": (1.99, 47.96, 0.77, 46.52, 62.87, 65.75),
    "Gauss": (4.45, 48.70, 44.80, 51.50, 61.75, 60.15),
    "Uniform": (3.45, 30.30, 30.60, 30.15, 48.05, 51.55),
    "Laplace": (3.05, 23.35, 24.60, 23.80, 39.15, 46.70),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--attack", default="cw:steps=100,searches=5,c=0.1")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    made = Subject.of(args.model, args.data, list(CHANNELS.values()), limit=args.limit)
    x, y, keys, judge = made.images.x, made.images.y, made.keys, Judge(draws=20, seed=args.seed)
    method = attack(args.attack)
    out = Console(width=150)
    table = Table(
        title=f"{args.attack} on {args.model}, n={len(x)}: accuracy over all images in %, published in brackets"
    )
    table.add_column("attacked as")
    for name in CHANNELS:
        table.add_column(name, justify="right")
    table.add_column("median L2", justify="right")

    def row(name: str, points, norm: float) -> None:
        cells = []
        for column, spec in enumerate(CHANNELS.values()):
            system = made.systems[spec].system()
            score = judge.score(system, points, y, keys)
            share = float(score.k.double().mean()) / judge.draws_for(system)
            low, high, _ = wilson(round(share * len(x)), len(x))
            cells.append(f"{100 * share:.1f} [{100 * low:.0f}-{100 * high:.0f}] ({PUBLISHED[name][column]:.1f})")
        table.add_row(name, *cells, f"{norm:.3f}")

    row("Empty", x, 0.0)
    for name, spec in CHANNELS.items():
        view = threat("white-identity").seat(made.systems[spec]).views[0]
        found = method.on(view.victim, Batch(x, y, keys), RunOptions("never", seed=args.seed))
        row(name, found.x, float(np.median(found.distance.numpy())))
        out.print(f"{name} done", highlight=False)
    out.print(table)


if __name__ == "__main__":
    main()
