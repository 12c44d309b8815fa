"""Experiment trackers, Accelerate's, by a name and a place: ``tensorboard``, ``tensorboard:FOLDER``, ``wandb:PROJECT``, ``mlflow:EXPERIMENT``."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Protocol

from sparring.core.errors import SparringError, one_line
from sparring.core.extras import need
from sparring.core.registry import suggest
from sparring.core.spec import parse

Value = bool | int | float | str


class Tracker(Protocol):
    """What we ask of a tracker of Accelerate's."""

    def start(self) -> None: ...
    def store_init_configuration(self, values: dict[str, Value]) -> None: ...
    def log(self, values: dict[str, Value], step: int | None = None) -> None: ...
    def finish(self) -> None: ...


@dataclass(frozen=True)
class Kind:
    """A tracker's library. ``place``: where it writes if nothing is said. ``begin`` (Accelerate's module, place, the run's name) -> tracker. ``texts``:
    does it take texts beside numbers. ``folder``: is its place a folder. ``refused``: characters that a name may not have.
    """

    place: str
    begin: Callable[[ModuleType, str, str], Tracker]
    texts: bool = True
    folder: bool = False
    refused: str = ""  # a regular expression of one


# by the name of the library, which is what pip installs
KINDS: Mapping[str, Kind] = {
    "tensorboard": Kind("logs", lambda module, folder, run: module.TensorBoardTracker(run, folder), folder=True),
    "wandb": Kind("sparring", lambda module, project, run: module.WandBTracker(project, name=run)),
    "mlflow": Kind(
        "sparring",
        lambda module, name, run: module.MLflowTracker(experiment_name=name, run_name=run),
        texts=False,
        refused=r"[^\w\-. :/]",
    ),
}


@dataclass(frozen=True)
class Log:
    """Where to log: a tracker's library and a folder, project or experiment of it."""

    library: str
    place: str

    @classmethod
    def of(cls, text: str) -> Log:
        """From a text such as "tensorboard:logs". Raises SparringError for another library, one that is not installed, and a folder that cannot be made: before
        there is anything to log.
        """
        spec = parse(text)
        if spec.name not in KINDS:
            raise SparringError(
                f"log={text}: unknown tracker {spec.name!r}{suggest(spec.name, KINDS)}; a folder is tensorboard:FOLDER"
            )
        if set(spec.values) - {""}:
            raise SparringError(f"log={text}: a tracker takes one place; write {spec.name}:{KINDS[spec.name].place}")
        if find_spec(spec.name) is None:
            raise SparringError(f"log={text}: {spec.name} is not installed; run: pip install {spec.name}")
        need("accelerate", "train")
        place = spec.values.get("", KINDS[spec.name].place)
        if KINDS[spec.name].folder:
            place = os.path.expanduser(place)
            there = next(p for p in (Path(place), *Path(place).absolute().parents) if p.exists())
            if not there.is_dir() or not os.access(there, os.W_OK):
                raise SparringError(
                    f"log={text}: the folder cannot be made, as {there} is no folder that can be written"
                )
        return cls(spec.name, place)

    def begin(self, run: str, config: Mapping[str, object]) -> Tracker:
        """A tracker that has begun the run called so, with the configuration written down. Raises SparringError for what the library refuses."""
        need("accelerate", "train").PartialState()  # without it Accelerate's trackers write nothing
        tracker = KINDS[self.library].begin(need("accelerate.tracking", "train"), self.place, run)
        try:
            tracker.start()
            tracker.store_init_configuration({self._name(name): plain(value) for name, value in config.items()})
        except Exception as error:
            raise SparringError(f"log={self.library}:{self.place}: {one_line(error)}") from None
        return tracker

    def values(self, values: Mapping[str, float | str]) -> dict[str, Value]:
        """Of some values those that the library can keep, by names that it takes: finite numbers, and texts where it takes them."""
        texts = KINDS[self.library].texts
        return {self._name(k): v for k, v in values.items() if (texts if isinstance(v, str) else math.isfinite(v))}

    def _name(self, name: str) -> str:
        refused = KINDS[self.library].refused
        return re.sub(refused, "_", name) if refused else name


def plain(value: object) -> Value:
    """A value of a configuration as trackers keep them."""
    return value if isinstance(value, bool | int | float | str) else json.dumps(value, default=str)
