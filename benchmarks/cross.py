"""Points made on one model, judged on every other behind a defense: S2SNet's Fig. 8 and ACE's Fig. 5 and 9.

``python benchmarks/cross.py MODEL MODEL ... --data DATA [--attack fgsm:eps=4/255] [--defense none|shift]``. Rows: the model that is
judged; columns: the model the points were made on, without the defense, run to the end. Cells: accuracy over all images as a
share of the row model's clean accuracy without the defense, in percent (ACE's defense success rate; may exceed 100).
"""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table
from torch import Tensor

from sparring.attacks.attack import attack
from sparring.attacks.engine import Batch, RunOptions
from sparring.core.system import System
from sparring.evaluation.judge import Judge
from sparring.evaluation.setup import set_up
from sparring.threats import threat


def accuracy(judge: Judge, system: System, x: Tensor, y: Tensor, keys: Tensor) -> float:
    """Mean accuracy over images and judge draws."""
    return float(judge.score(system, x, y, keys).k.double().mean()) / judge.draws_for(system)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", required=True)
    parser.add_argument("--attack", default="fgsm:eps=4/255")
    parser.add_argument("--defense", default="none")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    made = [set_up(m, args.data, [args.defense], limit=args.limit) for m in args.models]
    x, y, keys, judge = made[0].images.x, made[0].images.y, made[0].keys, Judge(draws=20, seed=args.seed)
    points = []
    for one in made:
        seat = threat("oblivious").seat(one.systems["none"])
        points.append(
            attack(args.attack).on(seat.views[0].victim, Batch(x, y, keys), RunOptions(seat.stop, seed=args.seed)).x
        )
    title = f"{args.attack} oblivious, behind {args.defense}, n={len(x)}: percent of the judged model's clean accuracy"
    table = Table(title=title)
    table.add_column("judged \\ made on")
    for i in range(len(made)):
        table.add_column(str(i + 1), justify="right")
    table.add_column("clean", justify="right")
    for i, one in enumerate(made):
        clean = accuracy(judge, one.systems["none"].system(), x, y, keys)
        system = one.systems[args.defense].system()
        cells = [100 * accuracy(judge, system, p, y, keys) / clean for p in points]
        table.add_row(f"{i + 1} {args.models[i].split('/')[-1]}", *(f"{c:.1f}" for c in cells), f"{100 * clean:.1f}")
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
