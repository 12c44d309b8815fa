"""What masks cost: a defective network beside the plain one, in turn, in one process.

``python benchmarks/masks.py [--models resnet10,resnet18] [--batch 64] [--rounds 20]``. Seconds per batch (least over rounds, so that what else the
machine does is left out) of a forward, of a forward with input gradient (both prepared as for attacks), and of a training step. Quality is the masked network's own: see
docs/measured.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import nn

from sparring.core.prepare import prepare
from sparring.models.load import load_model


def seconds(work: Callable[[], object]) -> float:
    """Of the wall; on a CPU with one thread, of the processor."""
    clock = time.process_time if torch.get_num_threads() == 1 and not torch.cuda.is_available() else time.perf_counter
    start = clock()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start


def jobs(spec: str, batch: int) -> dict[str, Callable[[], object]]:
    """The three kinds of work on one model."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, y = torch.rand(batch, 3, 32, 32, device=device), torch.arange(batch, device=device) % 10
    quick = prepare(load_model(spec), x[:4].cpu()).model.to(device)
    trained: nn.Module = load_model(spec).to(device).train().requires_grad_(True)
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.01, momentum=0.9)

    def forward() -> object:
        with torch.no_grad():
            return quick(x)

    def gradient() -> object:
        leaf = x.clone().requires_grad_(True)
        return torch.autograd.grad(F.cross_entropy(quick(leaf), y), leaf)

    def step() -> object:
        optimizer.zero_grad()
        F.cross_entropy(trained(x), y).backward()
        return optimizer.step()

    return {"forward": forward, "forward + input gradient": gradient, "training step": step}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="resnet10,resnet18")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    table = Table(
        title=f"keep 0.5 at the bottom beside no masks, batch {args.batch}, {torch.get_num_threads()} threads"
    )
    for name in ("model", "work", "plain ms", "masked ms", "ratio", "masked images/s"):
        table.add_column(name, justify="right")
    for model in args.models.split(","):
        plain, masked = jobs(model, args.batch), jobs(f"defective:model={model},keep=0.5", args.batch)
        for work in plain:
            seconds(plain[work]), seconds(masked[work])
            pairs = [(seconds(plain[work]), seconds(masked[work])) for _ in range(args.rounds)]
            a, b = (min(p[i] for p in pairs) for i in (0, 1))
            ratio = b / a
            row = [model, work, f"{1000 * a:.1f}", f"{1000 * b:.1f}", f"{ratio:.3f}", f"{args.batch / b:.0f}"]
            table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
