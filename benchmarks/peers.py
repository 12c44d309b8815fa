"""Every attack beside the peers that have it: paired, in one process, in turn; time, calls and quality of both.

``python benchmarks/peers.py [--only deepfool,cw] [--skip bf16] [--target easy|resnet44|hard|drawn] [--limit 100] [--repeats 1]``
``python benchmarks/peers.py --table ROWS.json ...`` writes the tables of docs/measured.md from rows, measuring nothing.
The peers get the user's network with frozen parameters, ours the prepared copy that every evaluation uses (BatchNorm
folded, channels_last): ratios are of the whole tools. Budget attacks: share of images that stay right, re-scored on the
user's network. OMP_NUM_THREADS=1 measures processor time instead of the wall's.
Minimum-norm attacks: median distance over all images (a failure counts as infinite), and in tables AttackBench's optimality among the row's attacks. "easy" is
cifar_resnet20 (resnet44: the deeper net with the same budgets), "hard" the adversarially trained small_cnn of
docs/measured.md (--hard-weights), "drawn" a CIFAR ResNet, its images and a factor of the budgets that ``--seed`` draws: nobody chose anything on them.
Rows go to --out as JSON. The peers: foolbox and torchattacks (extra ``peers``), ART, and adv-lib and the official AutoAttack: ``pip install
--no-deps adv-lib pyautoattack`` (adv-lib asks for visdom, which no longer builds and only draws).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from sparring.attacks.attack import attack
from sparring.attacks.engine import Batch, RunOptions
from sparring.core.geometry import distance
from sparring.core.noise import image_keys
from sparring.core.prepare import prepare
from sparring.core.system import System
from sparring.core.victim import Access, Victim
from sparring.data.sources import load_data
from sparring.evaluation.results.contributions import optimality
from sparring.models.load import load_model

warnings.simplefilter("ignore")
DATA = os.environ.get("SPARRING_DATA", "../shared/data")
Run = Callable[["Case", float], Tensor]


class Counted(nn.Module):
    """A network that counts the images it is shown."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.calls = network, 0
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.calls += len(x)
        return self.network(x.float())  # ART's decision attacks hand over doubles


@dataclass
class Case:
    """What a peer gets: the network, images, labels."""

    model: Counted
    x: Tensor
    y: Tensor
    classes: int = 10

    def foolbox(self) -> Any:
        import foolbox

        return foolbox.PyTorchModel(self.model, bounds=(0, 1), device="cpu")

    def art(self) -> Any:
        from art.estimators.classification import PyTorchClassifier

        shape = tuple(self.x.shape[1:])
        return PyTorchClassifier(self.model, nn.CrossEntropyLoss(), shape, self.classes, clip_values=(0.0, 1.0))


def foolbox(name: str, eps: bool = False, **options: Any) -> Run:
    def run(case: Case, budget: float) -> Tensor:
        import foolbox as fb

        made = getattr(fb.attacks, name)(**options)
        _, points, won = made(case.foolbox(), case.x, case.y, epsilons=budget if eps else None)
        found = won & points.flatten(1).any(1)  # its failures are all-black images, which may happen to be misread
        return torch.where(found[:, None, None, None], points, case.x)

    return run


def torchattacks(name: str, eps: str = "eps", step: str = "", **options: Any) -> Run:
    def run(case: Case, budget: float) -> Tensor:
        import torchattacks as ta

        own = {eps: budget} if eps else {}
        if step:
            own[step] = budget / 10
        made = getattr(ta, name)(case.model, **own, **options)
        if name == "JSMA":
            made.set_mode_targeted_by_function(lambda x, y: (y + 1) % case.classes)
        return made(case.x, case.y)

    return run


def autoattack_port(steps: int) -> Run:
    """torchattacks' AutoAttack with so many steps in APGD, APGD-T and FAB: it ships with 10, the original has 100."""

    def run(case: Case, budget: float) -> Tensor:
        import torchattacks as ta

        made: Any = ta.AutoAttack(case.model, eps=budget, n_classes=case.classes)
        for member in made._autoattack.attacks:
            if hasattr(member, "steps"):
                member.steps = steps
        return made(case.x, case.y)

    return run


def official(case: Case, budget: float) -> Tensor:
    """AutoAttack standard by its authors."""
    from pyautoattack import AutoAttack

    made = AutoAttack(case.model, norm="Linf", eps=budget, version="standard", device="cpu")
    return made.run_standard_evaluation(case.x, case.y, batch_size=len(case.x))[0]


def adv_lib(name: str, eps: str = "", **options: Any) -> Run:
    def run(case: Case, budget: float) -> Tensor:
        sys.modules.setdefault("visdom", ModuleType("visdom"))
        import adv_lib.attacks

        own = {eps: budget} if eps else {}
        return getattr(adv_lib.attacks, name)(case.model, case.x, case.y, **own, **options)

    return run


def art(name: str, eps: str = "", step: str = "", next_class: bool = False, **options: Any) -> Run:
    def run(case: Case, budget: float) -> Tensor:
        import art.attacks.evasion

        own = {eps: budget} if eps else {}
        if step:
            own[step] = budget / 10
        made = getattr(art.attacks.evasion, name)(case.art(), **own, **options)
        label = (case.y + 1) % case.classes if next_class else case.y
        return torch.from_numpy(made.generate(case.x.numpy(), label.numpy())).float()

    return run


@dataclass
class Entry:
    """One attack: our spec, the peers' calls; ``minimal``: judged by distance in ``norm``; budgets for both targets."""

    name: str
    ours: str
    peers: dict[str, Run] = field(default_factory=dict)
    norm: str = "linf"
    minimal: bool = False
    easy: float = 1 / 255
    hard: float = 0.15
    share: float = 1.0  # of --limit: fewer images where a peer is very slow
    goal: float = 1.0  # asked ratio
    amp: bool = False


def fab(steps: int) -> dict[str, Run]:
    options: dict[str, Any] = {"norm": "Linf", "n_restarts": 1, "multi_targeted": True, "n_classes": 10}
    return {"torchattacks": torchattacks("FAB", steps=steps, **options)}


def nearest(steps: int) -> dict[str, Run]:
    """adv-lib's l2 attacks of so many steps, names by attack."""
    found = {f"adv_lib {name}": adv_lib(name, num_steps=steps) for name in ("alma", "pdgd")}
    return {"adv_lib ddn": adv_lib("ddn", steps=steps), **found, "adv_lib fmn": adv_lib("fmn", norm=2, steps=steps)}


def fewest(steps: int) -> dict[str, Run]:
    """adv-lib's l0 attacks of so many steps (they count channels; quality counts pixels)."""
    return {
        "adv_lib fmn": adv_lib("fmn", norm=0, steps=steps),
        "adv_lib sigma_zero": adv_lib("sigma_zero", num_steps=steps),
    }


def entries() -> list[Entry]:
    batched: dict[str, Any] = {"batch_size": 100, "verbose": False}
    pgd = {
        "torchattacks": torchattacks("PGD", step="alpha", steps=40),
        "foolbox": foolbox("LinfPGD", True, steps=40, rel_stepsize=0.1),
        "adv_lib": adv_lib("pgd_linf", "ε", steps=40, relative_step_size=0.1),
        "art": art("ProjectedGradientDescentPyTorch", "eps", "eps_step", max_iter=40, num_random_init=1, **batched),
    }
    mi = {
        "torchattacks": torchattacks("MIFGSM", step="alpha", steps=10),
        "foolbox": foolbox("MIFGSM", True, steps=10, rel_stepsize=0.1),
    }
    deep = {
        "foolbox": foolbox("L2DeepFoolAttack", steps=50),
        "torchattacks": torchattacks("DeepFool", "", steps=50),
        "art": art("DeepFool", max_iter=50, epsilon=0.02, nb_grads=10, **batched),
    }
    square = {
        "torchattacks": torchattacks("Square", n_queries=500),
        "art": art("SquareAttack", "eps", max_iter=500, batch_size=128, verbose=False),
    }
    carlini = {"foolbox": foolbox("L2CarliniWagnerAttack", binary_search_steps=9, steps=100, initial_const=0.01)}
    wide = {
        "foolbox": foolbox("L2CarliniWagnerAttack", binary_search_steps=9, steps=100, stepsize=0.1, initial_const=0.01)
    }
    lines = {"art": art("CarliniL2Method", binary_search_steps=9, max_iter=100, initial_const=0.01, **batched)}
    jump = {
        "foolbox": foolbox("HopSkipJumpAttack", steps=6),
        "art": art("HopSkipJump", max_iter=6, init_eval=100, max_eval=1000, **batched),
    }
    walk = {
        "foolbox": foolbox("BoundaryAttack", steps=1000),
        "art": art("BoundaryAttack", targeted=False, max_iter=50, num_trial=10, sample_size=10, **batched),
    }
    found = [
        Entry(
            "FGSM",
            "fgsm",
            {
                "torchattacks": torchattacks("FGSM"),
                "foolbox": foolbox("LinfFastGradientAttack", True),
                "art": art("FastGradientMethod", "eps", batch_size=100),
            },
        ),
        Entry("PGD-40 easy budget", "pgd:steps=40", pgd, easy=8 / 255, hard=0.3, goal=10),
        Entry("PGD-40", "pgd:steps=40", pgd, goal=4),
        Entry("PGD-40, most survive", "pgd:steps=40", pgd, easy=0.1 / 255, hard=0.05, goal=1.2),
        Entry("MI-FGSM-10", "mifgsm:steps=10", mi),
        Entry(
            "APGD-CE-50",
            "apgd:steps=50",
            {
                "torchattacks": torchattacks("APGD", steps=50, loss="ce"),
                "art": art("AutoProjectedGradientDescent", "eps", "eps_step", max_iter=50, nb_random_init=1, **batched),
            },
        ),
        Entry("DeepFool l2", "deepfool", deep, "l2", True, goal=8),
        Entry(
            "DeepFool linf",
            "deepfool:norm=linf",
            {"foolbox": foolbox("LinfDeepFoolAttack", steps=50)},
            "linf",
            True,
            goal=8,
        ),
        Entry("C&W 9x100", "cw:steps=100,searches=9,patience=0.1", carlini, "l2", True, goal=1.5),
        Entry("C&W 6x60 from c=.02", "cw:steps=60,searches=6,c=0.02", carlini, "l2", True, goal=1.5),
        Entry("C&W 9x100, steps of .1", "cw:steps=100,searches=9,lr=0.1", wide, "l2", True, goal=1.5),
        Entry(
            "C&W 5x60 from the nearest, steps of .1",
            "cw:steps=60,searches=5,lr=0.1,c=1,start=nearest",
            wide,
            "l2",
            True,
            goal=1.5,
        ),
        Entry("C&W 9x500 beside ART's line searches", "cw:steps=500,searches=9", lines, "l2", True, share=0.1),
        Entry("DDN-60 beside C&W", "ddn:steps=60", carlini, "l2", True),
        Entry(
            "DDN-30",
            "ddn:steps=30",
            {"foolbox": foolbox("DDNAttack", steps=30), "adv_lib": adv_lib("ddn", steps=30)},
            "l2",
            True,
            goal=1.5,
        ),
        Entry("PDGD-100", "pdgd:steps=100", nearest(100), "l2", True, share=0.6),
        Entry("PDGD-500", "pdgd:steps=500", nearest(500), "l2", True, share=0.3),
        Entry("FMN-100 l0", "fmn:norm=l0,steps=100", fewest(100), "l0", True, share=0.6),
        Entry("sigma-zero-500", "sigma_zero:steps=500", fewest(500), "l0", True, share=0.3),
        Entry(
            "DDN-20 beside DDN-30", "ddn:steps=20", {"foolbox": foolbox("DDNAttack", steps=30)}, "l2", True, goal=1.5
        ),
        Entry(
            "FMN-20 l2 beside FMN-30",
            "fmn:norm=l2,steps=20",
            {"foolbox": foolbox("L2FMNAttack", steps=30)},
            "l2",
            True,
            goal=1.5,
        ),
        Entry(
            "FMN-20 linf beside FMN-30",
            "fmn:norm=linf,steps=20",
            {"foolbox": foolbox("LInfFMNAttack", steps=30)},
            "linf",
            True,
            goal=1.5,
        ),
        Entry("FMN-30 l2", "fmn:norm=l2,steps=30", {"foolbox": foolbox("L2FMNAttack", steps=30)}, "l2", True, goal=1.5),
        Entry(
            "FMN-30 linf",
            "fmn:norm=linf,steps=30",
            {"foolbox": foolbox("LInfFMNAttack", steps=30)},
            "linf",
            True,
            goal=1.5,
        ),
        Entry("FMN-30 l1", "fmn:norm=l1,steps=30", {"foolbox": foolbox("L1FMNAttack", steps=30)}, "l1", True, goal=1.5),
        Entry("FMN-60 l0", "fmn:norm=l0,steps=60", {"foolbox": foolbox("L0FMNAttack", steps=60)}, "l0", True, goal=1.5),
        Entry(
            "EAD 5x100",
            "ead:steps=100,searches=5,c=0.1",
            {
                "foolbox": foolbox("EADAttack", binary_search_steps=5, steps=100, initial_const=0.1),
            },
            "l1",
            True,
        ),
        Entry("FAB-T 9x100, as in AutoAttack", "fab:steps=100,targets=9", fab(100), share=0.3, goal=3),
        Entry("FAB-T 9x20", "fab:steps=20,targets=9", fab(20), share=0.3, goal=3),
        Entry(
            "JSMA theta 1, gamma .02",
            "jsma:gamma=0.02,target=next",
            {
                "torchattacks": torchattacks("JSMA", "", theta=1.0, gamma=0.02),
                "art": art("SaliencyMapMethod", next_class=True, theta=1.0, gamma=0.02, verbose=False),
            },
            "l0",
            share=0.1,
            goal=20,
        ),
        Entry(
            "OnePixel 10x10",
            "one_pixel:steps=10,population=10",
            {"torchattacks": torchattacks("OnePixel", "", pixels=1, steps=10, popsize=10)},
            "l0",
            goal=1.4,
        ),
        Entry("Square 500", "square:steps=499", square, easy=4 / 255, goal=1.15),
        Entry(
            "SPSA 10x2x128",
            "spsa:steps=10,samples=128",
            {"torchattacks": torchattacks("SPSA", nb_iter=10, nb_sample=128, lr=0.01, delta=0.01)},
            easy=2 / 255,
            share=0.5,
        ),
        Entry(
            "Boundary, a third of the queries",
            "boundary:queries=340",
            walk,
            "l2",
            True,
            share=0.5,
        ),
        Entry(
            "Boundary",
            "boundary:queries=1020",
            walk,
            "l2",
            True,
            share=0.5,
        ),
        Entry("HopSkipJump, half the queries", "hopskipjump:queries=600", jump, "l2", True, share=0.5, goal=1.5),
        Entry("HopSkipJump", "hopskipjump:queries=1000", jump, "l2", True, share=0.5),
        Entry(
            "AutoAttack, 10 steps", "autoattack:steps=10", {"torchattacks": autoattack_port(10)}, share=0.5, goal=1.6
        ),
        Entry(
            "AutoAttack standard",
            "autoattack",
            {"torchattacks": autoattack_port(100), "official": official},
            share=0.5,
            goal=1.6,
        ),
        Entry("cascade beside AutoAttack standard", "cascade", {"official": official}, share=0.5),
    ]
    # the same with bfloat16 gradients (--bf16 of evaluate): points that look won are re-scored in float32
    half = ("PGD-40", "C&W 9x100", "DDN-30", "FMN-30 l2", "FMN-30 linf", "FAB-T 9x20", "AutoAttack standard")
    return found + [replace(e, name=f"{e.name}, bf16 gradients", amp=True) for e in found if e.name in half]


@dataclass(frozen=True)
class Drawn:
    """A target that a seed draws: depth of the ResNet, a factor of the budgets; its images are drawn by the seed as well."""

    depth: int
    factor: float

    @classmethod
    def of(cls, seed: int) -> Drawn:
        draw = random.Random(seed)
        return cls(draw.choice((20, 32, 44, 56)), 2 ** draw.uniform(-1, 1))


def load(target: str, weights: str, limit: int, seed: int = 0) -> Case:
    if target != "hard":
        name = f"resnet{Drawn.of(seed).depth}" if target == "drawn" else "resnet20" if target == "easy" else target
        images = load_data(f"{DATA}/cifar10_test_0-699.npz")
        images = images.draw(2 * limit, seed) if target == "drawn" else images
        user = load_model(f"cifar_{name}:weights={DATA}/cifar10_{name}.safetensors")
    else:
        images = load_data("mnist5k:split=test")
        user = load_model(f"small_cnn:weights={weights}")
    user = user.requires_grad_(False)
    with torch.no_grad():
        right = (user(images.x).argmax(1) == images.y).nonzero()[:limit, 0]
    return Case(Counted(user), images.x[right], images.y[right])


def measured(entry: Entry, case: Case, points: Tensor, eps: float) -> dict[str, Any]:
    """On the user's network: robust accuracy in percent, or the median distance and every image's (None: not fooled)."""
    with torch.no_grad():
        fooled = case.model.network(points).argmax(1) != case.y
    if entry.name.startswith("JSMA"):  # targeted for all
        with torch.no_grad():
            fooled = case.model.network(points).argmax(1) == (case.y + 1) % case.classes
    size = distance(points - case.x, entry.norm)  # type: ignore[arg-type]
    if not entry.minimal:  # a point outside the ball has not won
        inside = size <= eps + 1e-5 if entry.norm == "linf" else torch.ones_like(fooled)
        return {"quality": 100 * float((~(fooled & inside)).double().mean())}
    each = [v if won else None for v, won in zip(size.tolist(), fooled.tolist(), strict=True)]
    return {"quality": float(torch.where(fooled, size, torch.inf).median()), "distances": each}


def table_of(rows: list[dict[str, Any]]) -> list[str]:
    """The rows as Markdown: one line an attack, its peers in turn."""
    by_attack: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for row in rows:
        by_attack.setdefault((row["attack"], row["spec"], row["n"]), []).append(row)
    head = [
        "| attack (our spec) | n | peers: s, calls, quality | ours: s, calls, quality | ratio |",
        "|---|---|---|---|---|",
    ]
    lines = [f"**{rows[0]['target']}**", "", *head]
    for (name, spec, n), peers in by_attack.items():
        found = [*(r["theirs"] for r in peers), peers[0]["ours"]]
        sizes = [[math.inf if d is None else d for d in f.get("distances", ())] for f in found]
        near = optimality(sizes) if sizes[0] else [None] * len(found)
        shown = [
            f"{f['seconds']:.1f}, {f['calls']:.0f}, "
            + (f"{f['quality']:.4g}" if peers[0]["minimal"] else f"{f['quality']:.0f} %")
            + ("" if share is None else f" ({share:.2f})")
            for f, share in zip(found, near, strict=True)
        ]
        theirs = "; ".join(f"{r['peer']} {text}" for r, text in zip(peers, shown, strict=False))
        ratios = "; ".join(f"{r['ratio']:.1f}x" for r in peers)
        lines.append(f"| {name} (`{spec}`) | {n} | {theirs} | {shown[-1]} | {ratios} |")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--skip", default="")
    parser.add_argument("--target", choices=["easy", "resnet44", "hard", "drawn"], default="easy")
    parser.add_argument("--hard-weights", default="small_cnn_adv.safetensors")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the drawn target")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", type=Path, nargs="+", metavar="ROWS.json")
    args = parser.parse_args()
    if args.table:
        print("\n".join(line for file in args.table for line in table_of(json.loads(file.read_text()))))
        return
    wanted, left = ([w.lower() for w in words.split(",") if w] for words in (args.only, args.skip))
    chosen = [e for e in entries() if not wanted or any(w in e.name.lower() for w in wanted)]
    chosen = [e for e in chosen if not any(w in e.name.lower() for w in left)]
    # one thread on a CPU: its own time, so that nothing else the machine does is counted
    processor = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    how = "processor time of one thread" if processor else f"{torch.get_num_threads()} threads"
    table = Table(title=f"{args.target}, up to {args.limit} clean-correct images, {how}, best of {args.repeats}")
    for name in (
        "attack",
        "n",
        "peer",
        "s",
        "calls/img",
        "quality",
        "ours s",
        "calls/img",
        "quality",
        "ratio",
        "asked",
    ):
        table.add_column(name, justify="left" if name in ("attack", "peer") else "right")
    rows: list[dict[str, Any]] = []
    console = Console(width=150)
    clock = time.process_time if processor else time.perf_counter
    for entry in chosen:
        case = load(args.target, args.hard_weights, max(4, int(args.limit * entry.share)), args.seed)
        eps = entry.hard if args.target == "hard" else entry.easy
        eps *= Drawn.of(args.seed).factor if args.target == "drawn" else 1.0
        counted = Counted(prepare(case.model.network, case.x[:4]).model)
        spec = attack(entry.ours)
        spec = spec if entry.minimal or "one_pixel" in entry.ours or "jsma" in entry.ours else spec.with_eps(eps)
        victim = Victim((System(counted),), Access.GRADIENT, amp=entry.amp)
        keys = image_keys([str(i) for i in range(len(case.x))])
        runs: dict[str, Callable[[], Tensor]] = {
            k: (lambda r=r, case=case, eps=eps: r(case, eps)) for k, r in entry.peers.items()
        }
        runs["ours"] = lambda: spec.on(victim, Batch(case.x, case.y, keys), RunOptions(slots=min(64, len(case.x)))).x  # noqa: B023
        found: dict[str, dict[str, Any]] = {}
        for _ in range(args.repeats):
            for name, run in runs.items():  # in turn, so that a busy moment of the machine hits all
                counter = counted if name == "ours" else case.model
                counter.calls, start = 0, clock()
                try:
                    points = run()
                except Exception as error:
                    console.print(f"{entry.name}: {name} failed: {str(error)[:100]}")
                    continue
                seconds = clock() - start
                best = min(seconds, found.get(name, {}).get("seconds", seconds))
                calls = counter.calls / len(case.x)
                found[name] = {"seconds": best, "calls": calls, **measured(entry, case, points, eps)}
        ours = found.pop("ours")
        for name, peer in found.items():
            ratio = peer["seconds"] / ours["seconds"]
            show = lambda q: f"{q:.4g}" if entry.minimal else f"{q:.1f} %"  # noqa: E731, B023
            cells = [
                entry.name,
                len(case.x),
                name,
                f"{peer['seconds']:.2f}",
                f"{peer['calls']:.0f}",
                show(peer["quality"]),
            ]
            cells += [
                f"{ours['seconds']:.2f}",
                f"{ours['calls']:.0f}",
                show(ours["quality"]),
                f"{ratio:.1f}x",
                f"{entry.goal:g}x",
            ]
            table.add_row(*(str(c) for c in cells))
            console.print(" | ".join(str(c) for c in cells))
            rows.append(
                {
                    "attack": entry.name,
                    "spec": str(spec),
                    "n": len(case.x),
                    "peer": name,
                    "target": f"{Drawn.of(args.seed)}" if args.target == "drawn" else args.target,
                    "minimal": entry.minimal,
                    "theirs": peer,
                    "ours": ours,
                    "ratio": ratio,
                }
            )
        if args.out:
            args.out.write_text(json.dumps(rows, indent=1) + "\n")
    console.print(table)


if __name__ == "__main__":
    main()
