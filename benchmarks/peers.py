"""Ours beside torchattacks and foolbox: PGD-40, paired in one process, peers with frozen parameters, time and quality.

``python benchmarks/peers.py [--model SPEC --data SPEC --limit 100 --repeats 3]``. An easy budget (all fall at once), a middle one
and a hard one (nearly all survive). The peers' networks are the same prepared copy as ours, so ratios are of the attacks.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

from sparring.attacks.base import attack
from sparring.core.spec import show
from sparring.data.sources import load_data
from sparring.models.load import load_model
from sparring.models.prepare import prepare

warnings.simplefilter("ignore")
DATA = os.environ.get("SPARRING_DATA", "../shared/data")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=f"cifar_resnet20:weights={DATA}/cifar10_resnet20.safetensors")
    parser.add_argument("--data", default=f"{DATA}/cifar10_test_0-699.npz")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    args = parser.parse_args()
    import foolbox
    import torchattacks

    images = load_data(args.data, limit=args.limit)
    user = load_model(args.model).requires_grad_(False)
    ours_model = prepare(user, images.x[:4]).model
    with torch.no_grad():
        right = user(images.x).argmax(1) == images.y
    x, y = images.x[right], images.y[right]
    peer = foolbox.PyTorchModel(user, bounds=(0, 1), device="cpu")

    def accuracy(points: torch.Tensor) -> float:
        with torch.no_grad():
            return float((user(points).argmax(1) == y).double().mean())

    table = Table(
        title=f"PGD-{args.steps}, {len(x)} clean-correct images of {args.data}, {torch.get_num_threads()} threads, best of {args.repeats}"
    )
    for name in (
        "eps",
        "torchattacks s (spread)",
        "foolbox s",
        "ours s",
        "ratio to torchattacks",
        "ratio to the faster",
        "robust: torchattacks / foolbox / ours",
    ):
        table.add_column(name, justify="right")
    for eps in (8 / 255, 1 / 255, 0.1 / 255):
        runs: dict[str, Callable[[], torch.Tensor]] = {
            "torchattacks": lambda eps=eps: torchattacks.PGD(
                user, eps=eps, alpha=eps / 10, steps=args.steps, random_start=True
            )(x, y),
            "foolbox": lambda eps=eps: foolbox.attacks.LinfPGD(rel_stepsize=0.1, steps=args.steps)(
                peer, x, y, epsilons=eps
            )[1],
            "ours": lambda eps=eps: attack(f"pgd:eps={eps},steps={args.steps}").run(ours_model, x, y, slots=len(x)).x,
        }
        times: dict[str, list[float]] = {k: [] for k in runs}
        robust: dict[str, float] = {}
        for _ in range(args.repeats):  # in turn, so that a busy moment of the machine hits all
            for name, run in runs.items():
                start = time.perf_counter()
                points = run()
                times[name].append(time.perf_counter() - start)
                robust[name] = accuracy(points)
        best = {k: min(v) for k, v in times.items()}
        spread = max(times["torchattacks"]) / best["torchattacks"]
        fastest = min(best["torchattacks"], best["foolbox"])
        table.add_row(
            show(eps),
            f"{best['torchattacks']:.2f} (x{spread:.2f})",
            f"{best['foolbox']:.2f}",
            f"{best['ours']:.2f}",
            f"{best['torchattacks'] / best['ours']:.1f}x",
            f"{fastest / best['ours']:.1f}x",
            " / ".join(f"{100 * robust[k]:.1f}" for k in runs),
        )
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
