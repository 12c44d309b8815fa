"""How cheap can a cascade be that finds what AutoAttack standard finds? The frontier of cost against robust accuracy.

``python benchmarks/cascade.py --hard-weights small_cnn_adv.safetensors --out cascade.json --plot cascade.png``
Every candidate attack runs on the same clean-correct images of every target; a subset of candidates has as robust
accuracy the share that no member breaks, as cost what an image pays that survives all of it (forwards, and backwards
counted as two forwards). All subsets are tried; the cheapest that stays within 0.2 points of AutoAttack on *every* target
is printed first. Counts, not times: it may run beside other work. ``--candidates cascade --skip 100 --out unseen.json``
confirms a choice on images it was not made on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from rich.console import Console
from rich.table import Table

from sparring.attacks.attack import attack
from sparring.core.system import System
from sparring.core.victim import Access, Victim
from sparring.data.sources import load_data
from sparring.models.load import load_model
from sparring.models.prepare import prepare

DATA = os.environ.get("SPARRING_DATA", "../shared/data")
REFERENCE = "autoattack"
CANDIDATES = (
    "pgd:steps=20,loss=margin",
    "apgd:steps=20,loss=margin",
    "apgd:steps=50,loss=margin",
    "apgd:steps=20",
    "apgd:steps=20,loss=dlr,targets=2",
    "apgd:steps=20,loss=dlr,targets=4",
    "apgd:steps=20,loss=dlr,targets=9",
    "apgd:steps=50,loss=dlr,targets=4",
    "fab:steps=20,targets=4",
    "fmn:steps=50,norm=linf",
    "square:steps=499",
)


def targets(hard: str) -> list[tuple[str, Any, Any, float]]:
    """(name, model, images, eps) of every target."""
    cifar = load_data(f"{DATA}/cifar10_test_0-699.npz")
    found: list[tuple[str, Any, Any, float]] = []
    for size in (20, 44):
        model = load_model(f"cifar_resnet{size}:weights={DATA}/cifar10_resnet{size}.safetensors")
        found += [(f"resnet{size} {k}/255", model, cifar, k / 255) for k in (0.5, 1)]
    if hard:
        found.append(
            ("small_cnn adv .15", load_model(f"small_cnn:weights={hard}"), load_data("mnist5k:split=test"), 0.15)
        )
    return found


def measure(candidates: list[str], limit: int, skip: int, hard: str, file: Path, only: str) -> list[dict[str, Any]]:
    """Rows (target, attack, n, survivors as a list of bool, cost of a survivor); resumes from ``file``."""
    rows: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    done = {(r["target"], r["attack"]) for r in rows}
    for name, model, images, eps in targets(hard):
        if only not in name:
            continue
        network = prepare(model, images.x[:4]).model
        with torch.no_grad():
            right = (network(images.x).argmax(1) == images.y).nonzero()[skip : skip + limit, 0]
        x, y = images.x[right], images.y[right]
        victim = Victim((System(network),), Access.GRADIENT)
        for text in (*candidates, REFERENCE):
            if (name, text) in done:
                continue
            method = attack(text).with_eps(eps)
            found = method.run(victim, x, y)
            rows.append(
                {
                    "target": name,
                    "attack": text,
                    "n": len(x),
                    "survives": (~found.success).tolist(),
                    "mean_forwards": float(found.forwards.double().mean()),
                }
            )
            file.write_text(json.dumps(rows) + "\n")
            print(name, text, f"{100 * (~found.success).double().mean():.1f} %", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hard-weights", default="")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--skip", type=int, default=0, help="clean-correct images of every target to pass over")
    parser.add_argument("--candidates", default=" ".join(CANDIDATES), help="attacks to combine, separated by spaces")
    parser.add_argument("--out", type=Path, default=Path("cascade.json"))
    parser.add_argument("--plot", type=Path)
    parser.add_argument(
        "--only", default="", help="measure only targets whose name holds this; all measured ones are printed"
    )
    args = parser.parse_args()
    candidates = args.candidates.split()
    rows = measure(candidates, args.limit, args.skip, args.hard_weights, args.out, args.only)
    names = [r["target"] for r in rows if r["attack"] == REFERENCE]  # measured last: the target is complete
    table = {(r["target"], r["attack"]): r for r in rows}
    victim = Victim((System(torch.nn.Identity()),), Access.GRADIENT)
    costs = {a: attack(a).with_eps(0.1).cost(victim, 10, 3 * 32 * 32) for a in (*candidates, REFERENCE)}
    cost = {a: forwards + 2 * backwards for a, (forwards, backwards) in costs.items()}

    def robust(target: str, members: tuple[str, ...]) -> float:
        alive = torch.ones(table[target, REFERENCE]["n"], dtype=torch.bool)
        for member in members:
            alive &= torch.tensor(table[target, member]["survives"])
        return 100 * float(alive.double().mean())

    reference = {t: robust(t, (REFERENCE,)) for t in names}
    points = []
    for size in range(1, 5):
        for members in itertools.combinations(candidates, size):
            worst = max(robust(t, members) - reference[t] for t in names)
            points.append((sum(cost[m] for m in members), worst, members))
    points.sort(key=lambda p: (p[0], p[1]))
    frontier, best = [], float("inf")
    for point in points:
        if point[1] < best - 1e-9:
            best = point[1]
            frontier.append(point)
    out = Table(
        title=f"frontier: cost of a survivor (forwards + 2 x backwards; AutoAttack standard: {cost[REFERENCE]}) against robust accuracy in %"
    )
    for column in ("cost", "share of AutoAttack's", "worst gap, points", *names, "members"):
        out.add_column(column)
    for total, gap, members in frontier:
        each = [f"{robust(t, members):.1f} ({reference[t]:.1f})" for t in names]
        out.add_row(str(total), f"{total / cost[REFERENCE]:.3f}", f"{gap:+.1f}", *each, " > ".join(members))
    Console(width=180).print(out)
    if args.plot:
        figure, axis = plt.subplots(figsize=(7, 4))
        axis.scatter([p[0] for p in points], [p[1] for p in points], s=6, color="0.75", label="subsets of candidates")
        axis.step([p[0] for p in frontier], [p[1] for p in frontier], where="post", color="C0", label="frontier")
        axis.scatter([cost[REFERENCE]], [0], marker="*", s=120, color="C3", label="AutoAttack standard", zorder=3)
        axis.axhline(0.2, color="0.5", lw=0.8, ls="--")
        axis.set(
            xscale="log",
            xlabel="forwards + 2 x backwards of a surviving image",
            ylabel="worst gap to AutoAttack (points)",
        )
        axis.legend()
        figure.tight_layout()
        figure.savefig(args.plot, dpi=150)


if __name__ == "__main__":
    main()
