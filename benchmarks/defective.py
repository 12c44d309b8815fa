"""Defective networks and their baselines under every threat of the defective paper: one row a variant, mean and spread over seeds.

``python benchmarks/defective.py FOLDER --data TEST --sources W,W,W,W``: FOLDER holds weights named VARIANT_sSEED.safetensors, as ``sparring
train classifier`` wrote them (docs/measured.md has the commands); seeds from 10 on are twins of seed - 10 with its masks. What is
found for a network is kept in FOLDER/found.json, so that the command can be stopped and run again. ``--part`` picks some of:

transfer   points made on each of the sources alone and on their mean logits, run to the end: FGSM, PGD (no random start)
twin       the same points made on a network of the same variant: same masks, other masks
white      PGD-4/6/10 with steps of 1/255 as published, APGD-100
noise      Gaussian noise clipped at two standard deviations, judged on 8-bit images
patches    k x k patch shuffle, over images that the standard network of the same seed gets right too
decision   boundary attack, S(M) = median |d|_2^2 / N after 1,000 and 5,000 queries, first --decision images

Accuracies are over all n images unless said. "SDR" is the paper's success defense rate: right after the attack, over images
right before whose point fools its source.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sparring.analysis.patches import patch_shuffle
from sparring.attacks.attack import attack
from sparring.attacks.engine import Batch, RunOptions
from sparring.core.noise import Noise, image_keys
from sparring.core.prepare import prepare
from sparring.core.system import System
from sparring.core.victim import Access, Victim
from sparring.data.sources import load_data
from sparring.models.load import load_model

POINTS = {
    "fgsm8": "fgsm:eps=8/255",
    "pgd8": "bim:eps=8/255,steps=7,step_size=0.25",
    "fgsm16": "fgsm:eps=16/255",
    "pgd16": "bim:eps=16/255,steps=20,step_size=0.0625",
}
WHITE = {
    "pgd-4 2/255": "bim:eps=2/255,steps=4,step_size=0.5",
    "pgd-6 4/255": "bim:eps=4/255,steps=6,step_size=0.25",
    "pgd-10 8/255": "bim:eps=8/255,steps=10,step_size=0.125",
    "apgd-100 1/255": "apgd:eps=1/255,steps=100",
    "apgd-100 8/255": "apgd:eps=8/255,steps=100",
}
SIGMAS = (4, 8, 16, 24, 32)
PARTS = ("transfer", "twin", "white", "noise", "patches", "decision")


class Bench:
    def __init__(self, args: argparse.Namespace) -> None:
        images = load_data(args.data, limit=args.limit)
        self.x, self.y, self.ids = images.x, images.y, list(images.ids)
        self.keys = image_keys(self.ids)
        self.args, self.store = args, Path(args.folder) / "found.json"
        self.found: dict[str, Any] = json.loads(self.store.read_text()) if self.store.exists() else {}
        self.files = {
            (v, int(s)): p
            for p in sorted(Path(args.folder).glob("*_s*.safetensors"))
            for v, s in [p.stem.rsplit("_s", 1)]
        }
        self.sources = {f"source {i}": self.ready(w) for i, w in enumerate(args.sources.split(",")) if w}
        self.made: dict[str, dict[str, Tensor]] = {}
        self.loaded: dict[tuple[str, int], nn.Module] = {}

    def ready(self, spec: str) -> nn.Module:
        return prepare(load_model(spec), self.x[:4]).model

    def net(self, variant: str, seed: int) -> nn.Module:
        key = variant, seed
        if key not in self.loaded:
            self.loaded[key] = self.ready(f"trained:{self.files[key]}")
        return self.loaded[key]

    def right(self, net: nn.Module, x: Tensor) -> np.ndarray:
        with torch.no_grad():
            return torch.cat(
                [net(p).argmax(1) == t for p, t in zip(x.split(128), self.y.split(128), strict=True)]
            ).numpy()

    def points(self, name: str, nets: list[nn.Module]) -> dict[str, Tensor]:
        """Points made on the mean logits of ``nets``, run to the end; kept in FOLDER/points."""
        file = self.store.parent / "points" / f"{name.replace('/', '_s').replace(' ', '_')}_{len(self.x)}.safetensors"
        if name not in self.made and file.exists():
            self.made[name] = load_file(file)
        if name not in self.made:
            victim = Victim(tuple(System(n) for n in nets), Access.GRADIENT, combine="logits")
            self.made[name] = {
                k: attack(spec).on(victim, Batch(self.x, self.y, self.keys), RunOptions("never")).x
                for k, spec in POINTS.items()
            }
            file.parent.mkdir(exist_ok=True)
            save_file(self.made[name], file)
        return self.made[name]

    def judged(self, net: nn.Module, name: str, nets: list[nn.Module]) -> dict[str, float]:
        clean, found = self.right(net, self.x), {}
        for kind, x in self.points(name, nets).items():
            after = self.right(net, x)
            with torch.no_grad():
                z = torch.stack([torch.cat([n(p) for p in x.split(128)]) for n in nets]).mean(0)
            over = clean & (z.argmax(1) != self.y).numpy()  # CC(target) and FOOL(source), PROTOCOL 2.5
            found[f"{kind} from {name}"] = float(after.mean())
            found[f"{kind} from {name} SDR"] = float(after[over].mean())
        return found

    def transfer(self, variant: str, seed: int) -> dict[str, float]:
        net, found = self.net(variant, seed), {}
        for name, source in self.sources.items():
            found |= self.judged(net, name, [source])
        return found | self.judged(net, "all sources", list(self.sources.values()))

    def twin(self, variant: str, seed: int) -> dict[str, float]:
        net, found = self.net(variant, seed), {}
        masked = variant.startswith(("k", "sm"))
        others = [s for v, s in self.files if v == variant and s not in (seed, seed + 10) and s < 10]
        if others:
            other = min(others, key=lambda s: (s - seed) % 10)
            kept = self.judged(net, f"{variant}/{other}", [self.net(variant, other)])
            found |= {
                k.replace(f"{variant}/{other}", "twin, other masks" if masked else "twin"): v for k, v in kept.items()
            }
        if (variant, seed + 10) in self.files:
            kept = self.judged(net, f"{variant}/{seed + 10}", [self.net(variant, seed + 10)])
            found |= {k.replace(f"{variant}/{seed + 10}", "twin, same masks"): v for k, v in kept.items()}
        return found

    def white(self, variant: str, seed: int) -> dict[str, float]:
        net = self.net(variant, seed)
        part = slice(0, self.args.white)
        found = {}
        for name, spec in WHITE.items():
            x = attack(spec).run(net, self.x[part], self.y[part], ids=self.ids[part]).x
            with torch.no_grad():
                found[name] = float((net(x).argmax(1) == self.y[part]).double().mean())
        return found

    def noise(self, variant: str, seed: int) -> dict[str, float]:
        net, found = self.net(variant, seed), {}
        for sigma in SIGMAS:
            spec = f"noise:law=gaussian,std={sigma / 255},winsorize=2,norm=linf"
            x = attack(spec).run(_Blind(), self.x, self.y, ids=self.ids, stop="never").x
            found[f"noise {sigma}"] = float(self.right(net, (x * 255).round() / 255).mean())
        return found

    def patches(self, variant: str, seed: int) -> dict[str, float]:
        net = self.net(variant, seed)
        both = self.right(net, self.x) & self.right(self.net("std", seed % 10), self.x)
        noise = Noise.of(0, "patches", self.keys)
        found: dict[str, float] = {"patches n": int(both.sum())}
        for k in (2, 4, 8):
            x = patch_shuffle(self.x, k, noise)
            found[f"patches {k}x{k}"] = float(self.right(net, x)[both].mean())
            found[f"patches {k}x{k} std"] = float(self.right(self.net("std", seed % 10), x)[both].mean())
        return found

    def decision(self, variant: str, seed: int) -> dict[str, float]:
        net, count = self.net(variant, seed), self.args.decision
        kept = self.right(net, self.x)[:count]
        rows = torch.from_numpy(kept.nonzero()[0])
        found: dict[str, float] = {"S(M) n": len(rows)}
        for queries in (1000, 5000):
            x = self.x[rows]
            made = attack(f"boundary:queries={queries}").run(net, x, self.y[rows], ids=[self.ids[i] for i in rows])
            far = (made.x - x).flatten(1).norm(dim=1).where(made.success, torch.inf)
            found[f"S(M) {queries}"] = float((far.square() / x[0].numel()).median())
        return found

    def run(self) -> None:
        parts = self.args.part.split(",")
        todo = [(k, p) for k in sorted(self.files, key=lambda f: f[1]) for p in ["clean", *parts]]
        for (variant, seed), part in todo:
            if seed >= 10 and part != "clean":
                continue
            entry = self.found.setdefault(f"{variant}/{seed}", {})
            if part in entry or (part == "decision" and variant not in ("std", "k1", "k3", "k5")):
                continue
            todo_part: Callable[[str, int], dict[str, float]] = getattr(self, part)
            entry[part] = todo_part(variant, seed)
            print(variant, seed, part, flush=True)
            self.store.write_text(json.dumps(self.found, indent=1))

    def clean(self, variant: str, seed: int) -> dict[str, float]:
        return {"clean": float(self.right(self.net(variant, seed), self.x).mean())}

    def table(self) -> None:
        variants: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for name, entry in self.found.items():
            if int(name.split("/")[1]) < 10:
                for values in entry.values():
                    for key, value in values.items():
                        variants[name.split("/")[0]][key].append(value)
        names = list(variants)
        table = Table(
            title=f"mean (lowest - highest over seeds), percent; n={len(self.x)}, white-box n={self.args.white}"
        )
        for name in ("measure", *names):
            table.add_column(name, justify="right")
        for key in dict.fromkeys(k for v in variants.values() for k in v):
            cells = []
            for name in names:
                values = variants[name].get(key)
                if not values:
                    cells.append("")
                elif key.startswith("S(M)") or key.endswith(" n"):
                    cells.append(f"{np.mean(values):.2g}")
                else:
                    low, high = 100 * min(values), 100 * max(values)
                    cells.append(f"{100 * np.mean(values):.1f} ({low:.0f}-{high:.0f})")
            table.add_row(key, *cells)
        Console(width=220).print(table)
        self.differences(names, list(dict.fromkeys(k for v in variants.values() for k in v)))

    def differences(self, names: list[str], keys: list[str]) -> None:
        """Each variant minus the standard network of the same seed; patches: minus the standard network on the same images."""

        def value(variant: str, seed: int, key: str) -> float | None:
            entry = self.found.get(f"{variant}/{seed}", {})
            return next((part[key] for part in entry.values() if key in part), None)

        table = Table(title="points more than the standard network of the same seed: mean (lowest to highest, seeds)")
        others = [n for n in names if n != "std"]
        for name in ("measure", *others):
            table.add_column(name, justify="right")
        for key in keys:
            if key.startswith("S(M)") or key.endswith((" n", " std")):
                continue
            cells = []
            for name in others:
                beside = (name, f"{key} std") if key.startswith("patches") else ("std", key)
                pairs = [(value(name, s, key), value(beside[0], s, beside[1])) for s in range(10)]
                gaps = [100 * (a - b) for a, b in pairs if a is not None and b is not None]
                cells.append(
                    f"{np.mean(gaps):+.1f} ({min(gaps):+.1f} to {max(gaps):+.1f}, {len(gaps)})" if gaps else ""
                )
            table.add_row(key, *cells)
        Console(width=220).print(table)


class _Blind(nn.Module):
    """Noise asks nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :10]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--data", required=True)
    parser.add_argument("--sources", default="", help="model specs joined by commas")
    parser.add_argument("--limit", type=int, default=500)
    parser.add_argument("--white", type=int, default=200)
    parser.add_argument("--decision", type=int, default=40)
    parser.add_argument("--part", default=",".join(PARTS))
    args = parser.parse_args()
    bench = Bench(args)
    bench.run()
    bench.table()


if __name__ == "__main__":
    main()
