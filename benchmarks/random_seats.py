"""Random systems: our seat beside a plain PGD averaged over draws, at equal gradients, on the same images.

``python benchmarks/random_seats.py --data mnist cifar [--n 64] [--out random_seats.json] [--case MODEL DATA SYSTEM EPS]``
The peer is written here, apart from the engine: 2 restarts of 40 sign steps of eps/10 along the mean cross-entropy gradient of 8 draws, the restart
of the larger mean margin in the judge's selection draws. Ours: ``mpgd`` in the views of the adaptive threat, cut to as many gradients (640). Both are
judged by one judge on fresh draws: 10 for the choice, 100 for the number. One thread; rows are kept in ``--out``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from sparring.attacks.attack import attack
from sparring.attacks.engine import Batch, RunOptions
from sparring.core.losses import cross_entropy
from sparring.core.noise import Noise
from sparring.core.system import System
from sparring.evaluation.judge import Judge, Score
from sparring.evaluation.results.stats import mean_gain_bounds
from sparring.subject import Subject
from sparring.threats import Options, threat

DATA = os.environ.get("SPARRING_DATA", "../shared/data")
STEPS, DRAWS, RESTARTS = 40, 8, 2
MODELS = {
    "mnist": ("mnist_cnn", "mnist5k:split=test"),
    "cifar": (f"cifar_resnet20:weights={DATA}/cifar10_resnet20.safetensors", f"{DATA}/cifar10_test_0-699.npz"),
}
SYSTEMS = {
    "mnist": {
        "gauss:std=0.3": 0.1,
        "uniform:eps=0.5": 0.1,
        "gauss:std=0.3+vote:samples=5": 0.1,
        "resize-pad": 0.1,
        "deflect": 0.1,
        "cd:bits=2+gauss:std=0.2": 0.2,
    },
    "cifar": {
        "gauss:std=0.1": 4 / 255,
        "uniform:eps=0.15": 4 / 255,
        "gauss:std=0.1+vote:samples=5": 4 / 255,
        "resize-pad": 1 / 255,
        "deflect": 1 / 255,
        "cd:bits=4+gauss:std=0.05": 2 / 255,
    },
}


def plain(system: System, x: Tensor, y: Tensor, keys: Tensor, eps: float, seed: int) -> Tensor:
    """One restart of PGD averaged over draws."""
    noise = Noise.of(seed, "peer", keys)
    point = (x + eps * (2 * noise.uniform("start", x.shape[1:]) - 1)).clamp(0, 1)
    for step in range(STEPS):  # stages without a gradient are passed by (BPDA with the identity)
        leaf = point.detach().requires_grad_(True)
        logits = system.logits(leaf, noise.child(f"step{step}"), DRAWS)
        loss = cross_entropy(logits.flatten(0, 1), y.repeat_interleave(DRAWS)).sum()
        (grad,) = torch.autograd.grad(loss, leaf)
        point = torch.min(torch.max(point + eps / 10 * grad.sign(), x - eps), x + eps).clamp(0, 1)
    return point.detach()


def best(scores: list[Score]) -> tuple[Tensor, Tensor]:
    """Of several candidates per image, that of the largest mean selection margin: its share right on fresh draws, and the first of them."""
    chosen = torch.stack([s.margin for s in scores]).argmax(0)[None]
    shares, firsts = torch.stack([s.k for s in scores]).double(), torch.stack([s.first for s in scores])
    return shares.gather(0, chosen)[0] / JUDGE.draws, firsts.gather(0, chosen)[0]


JUDGE = Judge(10, 100, seed=99)


def compare(data: str, spec: str, eps: float, n: int, model: tuple[str, str]) -> dict[str, Any]:
    """Both on one system."""
    subject = Subject.of(*model, [spec], limit=n)
    defended = next(d for name, d in subject.systems.items() if name != "none")
    x, y, keys, system = subject.images.x, subject.images.y, subject.keys, defended.system()
    passed = defended.variants()[0].system
    start = time.process_time()
    peers = [JUDGE.score(system, plain(passed, x, y, keys, eps, s), y, keys) for s in range(RESTARTS)]
    middle = time.process_time()
    views = threat("adaptive").seat(defended, options=Options(DRAWS)).views
    cost = sum(v.victim.cost for v in views)
    steps = STEPS * DRAWS * RESTARTS // cost
    ours = []
    for number, view in enumerate(views):
        made = attack(f"mpgd:steps={steps},eps={eps}").on(
            view.victim, Batch(x, y, keys), RunOptions("never", 64, number)
        )
        ours.append(JUDGE.score(system, made.x, y, keys))
    end = time.process_time()
    clean = JUDGE.score(system, x, y, keys)
    (theirs, first), (mine, mine_first) = best([*peers, clean]), best([*ours, clean])
    bounds = mean_gain_bounds(mine.numpy(), theirs.numpy(), mine_first.numpy(), first.numpy())
    return {
        "data": data,
        "system": spec,
        "eps": eps,
        "n": len(x),
        "gradients": steps * cost,
        "clean": float((clean.k / JUDGE.draws).double().mean()),
        "peer": float(theirs.mean()),
        "ours": float(mine.mean()),
        "low": bounds.low,
        "high": bounds.high,
        "seconds": [middle - start, end - middle],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=tuple(MODELS), default=list(MODELS))
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--only", default="", help="systems whose text holds this")
    parser.add_argument("--out", type=Path, default=Path("random_seats.json"))
    parser.add_argument(
        "--case", nargs=4, metavar=("MODEL", "DATA", "SYSTEM", "EPS"), help="one system of your own in place of these"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = json.loads(args.out.read_text()) if args.out.exists() else []
    done = {(r["data"], r["system"], r["eps"], r["n"]) for r in rows}
    models, systems = dict(MODELS), dict(SYSTEMS)
    if args.case:
        model, images, system, eps = args.case
        models, systems, args.data = {"own": (model, images)}, {"own": {system: float(Fraction(eps))}}, ["own"]
    for data in args.data:
        for spec, eps in systems[data].items():
            if args.only in spec and (data, spec, eps, args.n) not in done:
                rows.append(compare(data, spec, eps, args.n, models[data]))
                args.out.write_text(json.dumps(rows, indent=1) + "\n")
                print(data, spec, f"{100 * rows[-1]['peer']:.1f} -> {100 * rows[-1]['ours']:.1f} %", flush=True)
    table = Table(title="robust accuracy in %, mean over fresh draws; difference with one-sided 95 % bounds")
    for column in (
        "data",
        "system",
        "eps",
        "n",
        "gradients",
        "clean",
        "plain PGD",
        "ours",
        "difference",
        "bounds",
        "s",
    ):
        table.add_column(column)
    for r in rows:
        share = [f"{100 * r[k]:.1f}" for k in ("clean", "peer", "ours")]
        between = f"{100 * r['low']:+.1f} to {100 * r['high']:+.1f}"
        seconds = " / ".join(f"{s:.0f}" for s in r["seconds"])
        difference = f"{100 * (r['ours'] - r['peer']):+.1f}"
        table.add_row(
            r["data"],
            r["system"],
            f"{r['eps']:.3g}",
            str(r["n"]),
            str(r["gradients"]),
            *share,
            difference,
            between,
            seconds,
        )
    Console(width=190).print(table)


if __name__ == "__main__":
    main()
