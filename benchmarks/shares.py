"""Where a default evaluation's time goes: the network under attack, noise, checks, the judge, counting, and all the rest.

``python benchmarks/shares.py [--only mnist cifar photo] [--n 32] [--out shares.json]``
Processor seconds of one thread; what is asked within checks or the judge is theirs, noise elsewhere is noise's. The rest is the attacks' own steps,
bookkeeping, files, and loading. The same command on another checkout gives before and after.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from rich.console import Console
from rich.table import Table

import sparring
from sparring import conduct
from sparring.core.noise import Noise
from sparring.core.victim import Victim
from sparring.evaluation.judge import Judge
from sparring.evaluation.results import load

DATA = os.environ.get("SPARRING_DATA", "../shared/data")
CASES: dict[str, tuple[str, str, list[str], dict[str, Any]]] = {
    "mnist, broken": ("mnist_cnn", "mnist5k:split=test", ["cd:bits=3"], {"eps": [0.2]}),
    "mnist, survivors": ("mnist_cnn", "mnist5k:split=test", ["cd:bits=3"], {"eps": [0.1]}),
    "mnist, random": ("mnist_cnn", "mnist5k:split=test", ["gauss:std=0.3"], {"eps": [0.1]}),
    "cifar, broken": (
        f"cifar_resnet20:weights={DATA}/cifar10_resnet20.safetensors",
        f"{DATA}/cifar10_test_0-699.npz",
        ["cd:bits=4"],
        {"eps": [8 / 255]},
    ),
    "cifar, survivors": (
        f"cifar_resnet20:weights={DATA}/cifar10_resnet20.safetensors",
        f"{DATA}/cifar10_test_0-699.npz",
        ["cd:bits=4"],
        {"eps": [1 / 255]},
    ),
    "photo, broken": ("lite0", f"{DATA}/imagenet_sample_150.npz", ["cd:bits=4"], {"eps": [4 / 255]}),
}
KINDS: dict[str, tuple[tuple[object, str], ...]] = {
    "network": ((Victim, "gradient"), (Victim, "jacobian"), (Victim, "logits"), (Victim, "scores"), (Victim, "labels")),
    "noise": ((Noise, "bits"), (Noise, "normal")),
    "checks": ((conduct, "run_checks"), (conduct, "run_active_checks"), (conduct, "run_row_checks")),
    "judge": ((Judge, "score"), (Judge, "labels")),
    "counting": ((load, "all_cells"), (load, "all_closed"), (conduct, "all_closed"), (conduct, "load_evaluation")),
}
KEPT = ("checks", "judge", "counting")  # what is done within them is theirs


class Clock:
    """Processor time by the kind of work that is going on."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self.doing, self.since = "rest", time.process_time()

    def turn(self, kind: str) -> None:
        now = time.process_time()
        self.spent[self.doing] += now - self.since
        self.doing, self.since = kind, now

    def timed(self, kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            before = self.doing
            self.turn(before if before in KEPT else kind)
            try:
                return function(*args, **options)
            finally:
                self.turn(before)

        return call


@contextmanager
def watched() -> Iterator[Clock]:
    """A clock that sees every call of the functions in ``KINDS``."""
    clock, patches = Clock(), []
    for kind, places in KINDS.items():
        for owner, name in places:
            patches.append(patch.object(owner, name, clock.timed(kind, vars(owner)[name])))
    for each in patches:
        each.start()
    try:
        yield clock
    finally:
        clock.turn("rest")
        for each in patches:
            each.stop()


def measured(case: str, n: int) -> dict[str, Any]:
    """One evaluation and its shares."""
    model, data, defenses, more = CASES[case]
    with tempfile.TemporaryDirectory() as folder, watched() as clock:
        result = sparring.evaluate(model, data, defenses, limit=n, out=Path(folder) / "run", **more)
    whole = sum(clock.spent.values())
    left = next(c.robust_accuracy for c in result.closed if c.threat == "adaptive" and c.defense != "none")
    return {
        "case": case,
        "n": n,
        "seconds": whole,
        "left": left,
        **{k: clock.spent[k] / whole for k in (*KINDS, "rest")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=["mnist", "cifar", "photo"])
    parser.add_argument("--n", type=int, default=32)
    parser.add_argument("--out", type=Path, help="FILE.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for case in CASES:
        if case.partition(",")[0] in args.only:
            rows.append(measured(case, args.n))
            print(rows[-1], flush=True)
            if args.out:
                args.out.write_text(json.dumps(rows, indent=1) + "\n")
    table = Table(title="default evaluations: processor seconds, and their shares in %")
    for column in ("case", "n", "left %", "s", *KINDS, "rest"):
        table.add_column(column)
    for row in rows:
        shares = (f"{100 * row[k]:.1f}" for k in (*KINDS, "rest"))
        table.add_row(row["case"], str(row["n"]), f"{100 * row['left']:.1f}", f"{row['seconds']:.1f}", *shares)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
