"""What 64 GPUs, and a thousand, would do with one evaluation: a simulation whose costs of coordination are measured here, on the code that coordinates.

``python benchmarks/cost_model.py [--images 50000] [--runs 50] [--calls 4000] [--rate 2000] [--out model.json]``
Measured: a block's way through the driver (``Crew`` and ``Queue`` with workers that answer at once, so that nothing but the driver works), the same through
a real Ray cluster on this machine, bytes of a task and its answer, a file written and read, rows read at the end, run.json.
Assumed, and printed: network calls an image, calls a second of a GPU, how much blocks differ (a lognormal spread), requests a second of a bucket.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import sparring
from sparring.conduct import crew
from sparring.conduct.engine import Cluster, Engine
from sparring.conduct.helper import Order, precision
from sparring.conduct.queue import Queue
from sparring.conduct.workers import cut
from sparring.evaluation.records.files import parse_run, read_rows, to_json
from sparring.evaluation.records.seal import write_whole

SPREAD = 0.35  # of the logarithm of what blocks cost
BUCKET = 3500  # files a second that one prefix of an S3 bucket takes, by its documentation; not measured here
BLOCK = "0123456789abcdef0123"
WORKERS = (1, 2, 8, 64, 1000)


class Instant:
    """A worker that answers at once, in the place of ``Helper``."""

    def __init__(self, order: str) -> None:
        self.order = Order.read(order)

    def prepare(self) -> str:
        return to_json({"host": "here", "seen": True, "precision": precision(), "identity": {}, "device": "cpu"})

    def join(self) -> str:
        return "{}"

    def work(self, block: str) -> str:
        return to_json({"calls": 1.0, "runs": {f"{n:020x}": [1.0, 1] for n in range(int(self.order.spec["runs"]))}})

    def calls(self) -> str:
        return '{"calls": 0.0}'


class Near:
    """As much of Ray as ``Crew`` asks for, without processes: what is left is the driver's own work."""

    class exceptions:
        RayError = ConnectionError

    def remote(self, kind: type[Instant]) -> Near:
        self.kind = kind
        near = self

        class Options:
            def options(self, **_: object) -> Any:
                return self

            def remote(self, text: str) -> Any:
                helper = near.kind(text)
                names = ("prepare", "join", "work", "calls")
                methods = {n: type("Method", (), {"remote": staticmethod(_wrapped(getattr(helper, n)))}) for n in names}
                return type("Actor", (), methods)

        return Options()  # type: ignore[return-value]

    def wait(self, references: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        return references[:num_returns], references[num_returns:]

    def get(self, reference: Any) -> str:
        return reference[0]

    def kill(self, _: object) -> None:
        pass


def _wrapped(method: Any) -> Any:
    return lambda *texts: (method(*texts), object())  # a reference that is equal to no other


def order_of(runs: int) -> Order:
    return Order({"runs": runs}, "/shared/run", "0", "", [], None, 64, "8bit", 1, 1.0)


def driver_seconds(ray: Any, workers: int, blocks: int, runs: int) -> float:
    """Seconds of the driver a block, where workers take no time."""
    helper, crew.Helper = crew.Helper, Instant  # type: ignore[assignment,misc]
    try:
        queue = Queue({f"{n:020x}": 1.0 for n in range(blocks)})
        own = {"identity": {}, "precision": precision(), "device": "cpu"}
        team = crew.Crew(Cluster(ray, workers), order_of(runs), 0.0, queue, own)
        begun: list[float] = []  # the first block: to begin is not what is measured
        start = time.perf_counter()
        team.drive(lambda *_: begun.append(time.perf_counter()), lambda: None, lambda: None)
        return (begun[-1] - begun[0]) / max(1, len(begun) - 1) if begun else time.perf_counter() - start
    finally:
        crew.Helper = helper  # type: ignore[misc]


def stored() -> dict[str, float]:
    """Seconds to write and to read a file of rows, rows read a second, and bytes of a row and of an image in run.json, of a small real run."""
    fields: dict[str, Any] = {"defenses": ["cd:bits=4"], "threats": ["adaptive"], "block": 256}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        sparring.evaluate("mnist_cnn", "mnist5k:split=test,limit=256", attacks=["fgsm:eps=0.5"], out=folder, **fields)
        files = list(folder.glob("rows/*/*.parquet"))
        contents = [f.read_bytes() for f in files]
        start = time.perf_counter()
        for n in range(100):
            write_whole(Path(place) / "new" / str(n), contents[0])
        write = (time.perf_counter() - start) / 100
        start = time.perf_counter()
        for _ in range(20):
            rows = read_rows(folder)
        read = (time.perf_counter() - start) / 20
        record = parse_run(folder / "run.json") or {}
        memory = rows.nbytes / len(rows)
        sizes = {"row_on_disk": sum(map(len, contents)) / len(rows), "row_in_memory": memory}
        names = len(json.dumps(record["blocks"])) / 256
    return {"write": write, "read_file": read / len(files), "rows_per_second": len(rows) / read, "name": names, **sizes}


def straggling(blocks: list[float], workers: int) -> tuple[float, float]:
    """Makespan of blocks (seconds), the longest first, and the share of all workers' time that they wait for the last."""
    free = [0.0] * workers
    for seconds in sorted(blocks, reverse=True):
        heapq.heapreplace(free, free[0] + seconds)
    end = max(free)
    return end, 1 - sum(blocks) / (end * workers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--calls", type=int, default=4000, help="network calls an image, of all runs")
    parser.add_argument("--rate", type=float, default=2000, help="of them, a GPU makes a second")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    drive = {n: driver_seconds(Near(), n, max(2000, 4 * n), args.runs) for n in WORKERS}
    said: dict[str, Any] = {
        "assumed": vars(args) | {"out": None, "spread": SPREAD},
        "driver_seconds": drive,
        **stored(),
    }
    helper = Instant(order_of(args.runs).text())
    said |= {"bytes_task": len(BLOCK), "bytes_answer": len(helper.work(BLOCK)), "bytes_order": len(order_of(1).text())}
    if find_spec("ray"):
        with Engine().connected(2) as cluster:
            said["ray_seconds"] = {n: driver_seconds(cluster.ray, n, 500, args.runs) for n in (1, 2)}
    print(json.dumps(said, indent=1))
    table = Table(
        title=f"{args.images:,} images x {args.runs} runs, {args.calls} calls an image, {args.rate:g} a second"
    )
    for name in (
        "workers",
        "images a block",
        "blocks",
        "hours",
        "waiting for the last",
        "driver busy",
        "files a second",
        "rows at the end",
    ):
        table.add_column(name, justify="right")
    rows_file = said["read_file"]
    for workers in WORKERS:
        size = cut(args.images, 256, workers)
        count = -(-args.images // size)
        spread = random.Random(0)
        mean = size * args.calls / args.rate
        seconds = [mean * spread.lognormvariate(-(SPREAD**2) / 2, SPREAD) for _ in range(count)]
        makespan, waits = straggling(seconds, workers)
        files = count * args.runs * 2  # points and rows
        table.add_row(
            str(workers),
            str(size),
            str(count),
            f"{makespan / 3600:.2f}",
            f"{100 * waits:.0f} %",
            f"{100 * count * drive[workers] / makespan:.3f} %",
            f"{files / makespan:.1f} of {BUCKET}",
            f"{count * args.runs * rows_file:.0f} s",
        )
    Console(width=150).print(table)
    many = 10**9
    print(
        f"1e9 images: run.json {many * said['name'] / 1e9:.0f} GB; rows {many * args.runs * said['row_in_memory'] / 1e12:.1f} TB in memory at the end, "
    )
    print(
        f"{many * args.runs * said['row_on_disk'] / 1e12:.1f} TB on disk; {many / 256:,.0f} blocks, {many / 256 * drive[1000] / 3600:.1f} h of the driver's queue"
    )
    if args.out:
        args.out.write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    main()
