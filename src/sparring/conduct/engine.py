"""``Engine``: the Ray cluster that an evaluation's blocks are done on; its options, checked, and the way to it."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Literal

from sparring.core.columns import Json
from sparring.core.errors import SparringError, one_line
from sparring.core.extras import need
from sparring.core.ranges import Positive
from sparring.core.spec import convert

SHIPS = ("working_dir", "py_modules", "excludes", "env_vars")  # what a runtime environment may say
STORE = 100_000_000  # bytes of the object store of a cluster of our own: nothing but short texts goes through it


@dataclass(frozen=True)
class Cluster:
    """Ray, connected, and how many workers there are to be."""

    ray: ModuleType
    workers: int


@dataclass(frozen=True)
class Engine:
    """address: of a cluster that is there ("auto", HOST:PORT), None: one of our own on this machine, or the one that this Python process is
    connected to. gpus: of each worker, a part of one is allowed. ships: Ray's runtime environment, which brings files to the workers.
    """

    address: str | None = None
    gpus: float = 0.0
    ships: Json = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        engine: str,
        address: str | None,
        gpus_per_worker: float | None,
        runtime_env: str | Path | None,
        device: str | None,
    ) -> Engine | None:
        """From options; None for processes of this machine, which need no engine. Raises SparringError for what is none or does not fit."""
        if engine not in ("processes", "ray"):
            raise SparringError(f"engine={engine} is not one of processes, ray")
        given = {"address": address, "gpus_per_worker": gpus_per_worker, "runtime_env": runtime_env}
        if engine != "ray":
            for name in (name for name, value in given.items() if value is not None):
                raise SparringError(f"evaluate: {name} is an option of engine=ray; give that too, or leave {name} out")
            return None
        if address is not None and (not address.strip() or "://" in address):
            raise SparringError(
                f"address={address!r} is no cluster: write auto or HOST:PORT, on a machine of the cluster (the run folder is written from here)"
            )
        default = 1.0 if (device or "").startswith("cuda") else 0.0
        gpus = convert("evaluate", "gpus_per_worker", Positive | None, gpus_per_worker) or default
        if gpus > 1 and gpus != int(gpus):
            raise SparringError(f"gpus_per_worker={gpus:g}: a part of one GPU, or a whole number of them")
        return cls(address, gpus, {} if runtime_env is None else _ships(runtime_env))

    @contextmanager
    def connected(self, workers: int | Literal["auto"] | None) -> Iterator[Cluster]:
        """The cluster, with as many workers as are asked for, or as it has room for. One that was begun here ends with the block.

        Raises SparringError where none answers, and where one of our own has not what a worker needs.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray = need("ray", "scale")
        asked = workers if isinstance(workers, int) else None
        joined = ray.is_initialized()
        if joined and self.ships:
            raise SparringError("runtime_env: this process is connected to Ray already; give it to that ray.init")
        if not joined:
            self._begin(ray, asked)
        try:
            room = _room(ray.cluster_resources(), self.gpus)
            if not room and self.address is None:
                raise SparringError(
                    f"engine=ray: each worker asks 1 CPU and {self.gpus:g} GPU, which no machine here has; give --address, or less"
                )
            yield Cluster(ray, asked or max(1, room))
        finally:
            if not joined:
                ray.shutdown()

    def _begin(self, ray: ModuleType, workers: int | None) -> None:
        """Join the cluster, or begin one of our own."""
        own = {"num_cpus": max(workers or 1, os.cpu_count() or 1), "object_store_memory": STORE}
        about = {"include_dashboard": False, **own} if self.address is None else {}
        main = threading.current_thread() is threading.main_thread()
        before, ended = (
            signal.getsignal(signal.SIGTERM),
            False,
        )  # Ray puts its own in its place, which exits without a word
        try:
            ray.init(
                address=self.address or "local",
                runtime_env=self.ships or None,
                log_to_driver=False,
                logging_level=logging.ERROR,
                **about,
            )
        except SystemExit:  # that of Ray's own handler
            ended = True
        except Exception as error:  # whatever Ray says of an address, a version or a file to bring
            where = f"no cluster of this Ray answers at {self.address}" if self.address else "Ray does not start here"
            raise SparringError(
                f"engine=ray: {where} ({one_line(error)}); ray status says what runs, without --address one of its own is begun"
            ) from None
        finally:
            if main:
                signal.signal(signal.SIGTERM, before)
        if ended:
            signal.raise_signal(signal.SIGTERM)


def _ships(file: str | Path) -> Json:
    """What a file says of a runtime environment. Raises SparringError."""
    try:
        content = json.loads(Path(file).read_text())
    except (OSError, ValueError) as error:
        raise SparringError(f"runtime environment {file} cannot be read ({error})") from None
    if not isinstance(content, dict) or not content or set(content) - set(SHIPS):
        raise SparringError(f"runtime environment {file}: a JSON object of {', '.join(SHIPS)} is asked for")
    return content


def _room(resources: Json, gpus: float) -> int:
    """How many workers of one CPU and so many GPUs there is room for."""
    cpus = int(resources.get("CPU", 0))
    return min(cpus, int(resources.get("GPU", 0) / gpus)) if gpus else cpus
