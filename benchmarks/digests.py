"""Do answers stay? One digest a cell over a fixed, small, broad set: every attack, every defense and every threat once, seeded.

    python benchmarks/digests.py --out after.json --against benchmarks/digests.json

Run before and after a change that must not move numbers. Only the public face is used (``sparring.evaluate`` and the rows on disk), so
the script runs on both sides of a rebuilding. Floats are compared to six digits: on one machine nothing else moves them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import torch
from torch import nn

import sparring

EPS = 8 / 255
# short forms: what an attack needs to be cheap here; the rest run with their defaults
ATTACKS = {
    "adaifgsm": "adaifgsm",
    "apgd": "apgd:steps=8,restarts=2",
    "autoattack": "autoattack:steps=5,queries=30",
    "bim": "bim:steps=4",
    "boundary": "boundary:queries=80,eps=1,norm=l2",
    "cascade": "cascade",
    "contrast": "contrast:steps=20",
    "cw": "cw:steps=20,searches=3,c=1",
    "ddn": "ddn:steps=10",
    "deepfool": "deepfool",
    "ead": "ead:steps=20,searches=3,c=1",
    "fab": "fab:steps=8,targets=3",
    "fgsm": "fgsm",
    "fmn": "fmn:steps=10",
    "growing_noise": "growing_noise:steps=20",
    "hopskipjump": "hopskipjump:queries=80",
    "jsma": "jsma:gamma=0.1,target=next",
    "lbfgs": "lbfgs:steps=8,searches=3",
    "local_search": "local_search:steps=4,width=16",
    "low_frequency": "low_frequency:steps=4",
    "mifgsm": "mifgsm:steps=4,diversity=0.5",
    "multi_pixel": "multi_pixel:steps=20",
    "noise": "noise",
    "one_pixel": "one_pixel:steps=3,population=10",
    "pgd": "pgd:steps=5,loss=margin",
    "rfgsm": "rfgsm",
    "salt_pepper": "salt_pepper:steps=20",
    "single_pixel": "single_pixel:steps=20",
    "spatial": "spatial:angles=5,shifts=3",
    "spsa": "spsa:steps=4,samples=8",
    "square": "square:steps=20",
}
DEFENSES = (
    "none",
    "ace:weights={ace},lam=0.5",
    "cd:bits=3",
    "deflect",
    "fc:rate=0.5",
    "gauss:std=0.1",
    "hgd:weights={hgd}",
    "laplace:eps=0.1",
    "gauss:std=0.1+mean-logit:samples=3",
    "gauss:std=0.1+mean-prob:samples=3",
    "resize-pad:scale=0.5",
    "s2snet:weights={s2snet}",
    "shift:side=random",
    "sign:std=0.1",
    "svd:rate=0.5",
    "uniform:std=0.1",
    "gauss:std=0.1+vote:samples=3",
    "fc:rate=0.5+gauss:std=0.02",
)
RETRAINED = {
    "defective": "defective:model=resnet10,keep=0.5",
    "spatial-dropout": "spatial_dropout:model=resnet10",
    "dropblock": "dropblock:model=resnet10",
    "band-limited": "band_limited:model=resnet10",
    "thermometer": "thermometer:model=resnet10",
    "rse": "noisy:model=resnet10",
    "label-smoothing": "resnet10",
    "adversarial-training": "resnet10",
}
THREATS = (
    "adaptive", "bait", "decision:queries=60", "fixed-w", "known-w:draws=3", "noise:draws=3", "oblivious", "score:queries=40", "transfer",
    "twin:draws=2", "white-exact", "white-identity",
)  # fmt: skip
COLUMNS = (
    "norm", "eps", "image", "y", "random", "pooled", "averaged", "source_fooled", "feasible", "correct", "p_select", "margin", "k", "draws",
    "label", "k_8bit", "label_8bit", "k_truncated", "linf", "l2", "l1", "l0", "forwards", "backwards", "job", "first_hit", "best_hit",
    "nonfinite_gradients", "zero_gradients",
)  # fmt: skip


class Net(nn.Module):
    """Two convolutions with BatchNorm, so that preparation has something to do; weights by a fixed seed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU()
        )  # fmt: skip
        self.head = nn.Linear(16 * 8 * 8, 10)
        generator = torch.Generator().manual_seed(seed)
        for name, tensor in self.state_dict().items():
            if "var" in name or tensor.dtype == torch.int64:
                continue
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * (2 / max(1, tensor[:1].numel())) ** 0.5)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x - 0.5).flatten(1))


def cells(folder: Path) -> dict[str, str]:
    """Digest of the rows of every (defense, threat, attack) in a run folder."""
    found: dict[str, list[str]] = {}
    for file in sorted(folder.glob("rows/**/*.parquet")):
        for row in pq.read_table(file).to_pylist():
            attack = row["attack"] if row["threat"] != "clean" else "deployed" if row["pooled"] else "elsewhere"
            cell = " | ".join((row["defense"], row["threat"], attack))
            values = [f"{v:.6g}" if isinstance(v, float) else str(v) for v in (row[c] for c in COLUMNS)]
            found.setdefault(cell, []).append(" ".join(values))
    return {k: hashlib.sha256("\n".join(sorted(v)).encode()).hexdigest()[:16] for k, v in sorted(found.items())}


def weights(folder: Path) -> dict[str, str]:
    """Untrained networks of the learned and retrained defenses, saved with cards as training saves them."""
    from sparring.defenses.learned import build_network
    from sparring.models.load import load_model
    from sparring.models.weights import save_weights

    made = {}
    kinds = {
        "ace": {"kind": "caged_unet", "channels": 3, "widths": [4, 8]},
        "hgd": {"kind": "dunet", "channels": 3, "width": 0.1, "levels": 4},
        "s2snet": {"kind": "segnet", "channels": 3, "stages": [[4, 4], [8, 8]]},
    }
    for name, config in kinds.items():
        file = folder / f"{name}.safetensors"
        save_weights(build_network(config), file, {"network": config})
        made[name] = str(file)
    for name, spec in RETRAINED.items():
        file = folder / f"{name}.safetensors"
        base, _, fields = spec.partition(":")
        text = f"{base}:weights={file.name}{',' * bool(fields)}{fields}"
        card = {
            "model": text,
            "smoothing": 0.1 * (name == "label-smoothing"),
            "hardening": "pgd" * (name == "adversarial-training"),
        }
        save_weights(load_model(spec).network, file, card)
        made[name] = str(file)
    return made


def digests(folder: Path) -> dict[str, str]:
    net, twin = Net(0), Net(1)
    x = torch.randint(0, 256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(5)).to(torch.uint8)
    x = (x // 4 + torch.arange(6).mul(12)[:, None, None, None] + 60).clamp(0, 255).to(torch.uint8)
    with torch.no_grad():
        y = net(x / 255).argmax(1)
    data, files = (x, y), weights(folder)
    short = lambda text: text.replace(str(folder) + "/", "")  # noqa: E731
    pgd = "pgd:steps=3"
    plans = {
        # every attack in the seats that take it
        "attacks": ([], ["noise:draws=2", "adaptive", "decision:queries=60"], list(ATTACKS.values())),
        # every threat against a random and a deterministic chain
        "threats": (
            ["cd:bits=3+gauss:std=0.05", "shift:side=random"],
            list(THREATS),
            [pgd, "noise", "square:steps=20", "hopskipjump:queries=60", "ddn:steps=5"],
        ),
        # every defense before those who do not and do know it
        "defenses": (
            [d.format(**files) for d in DEFENSES if d != "none"],
            ["oblivious", "adaptive"],
            [pgd, "square:steps=20"],
        ),
        "retrained": ([f"{d}:weights={files[d]}" for d in RETRAINED], ["oblivious", "adaptive"], [pgd]),
    }
    found = {}
    for name, (defenses, threats, attacks) in plans.items():
        out = folder / name
        sparring.evaluate(net, data, defenses, threats, attacks, eps=[EPS], sources=[twin], out=out, seed=7, draws=3)
        for cell, digest in cells(out).items():
            found[f"{name}: {short(cell)}"] = digest
        print(f"{name}: {len(cells(out))} cells", file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--against", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        now = digests(Path(scratch))
    if arguments.out:
        arguments.out.write_text(json.dumps(now, indent=1) + "\n")
    before = json.loads(arguments.against.read_text()) if arguments.against else {}
    differ = [c for c in {**before, **now} if before.get(c) != now.get(c)]
    print(f"{len(now)} cells" + (f", {len(differ)} differ" if before else ""))
    for cell in differ if before else now:
        print(f"{before.get(cell, '-'):18}{now.get(cell, '-'):18}{cell}")
    sys.exit(bool(before and differ))


if __name__ == "__main__":
    main()
