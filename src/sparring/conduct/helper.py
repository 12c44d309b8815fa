"""``Helper``: a worker on any machine, which rebuilds an evaluation from texts and does the blocks whose names it is told."""

from __future__ import annotations

import json
import os
import socket
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import torch

from sparring.conduct.planned import Keep, Planned, Running, planned_of
from sparring.core.columns import Json
from sparring.core.errors import SparringError, one_line
from sparring.core.registry import load_plugin
from sparring.evaluation.plan.spec import EvaluationSpec
from sparring.evaluation.records.files import parse_run, to_json
from sparring.evaluation.records.place import Place, place_of
from sparring.evaluation.records.seal import Damaged
from sparring.evaluation.run.ring import Ring

LOOK = 0.5  # seconds between two looks for the first process's record


@dataclass(frozen=True)
class Order:
    """What a helper is told before it is told a block. spec: as ``EvaluationSpec.of`` takes it. session: what the first process has written into
    run.json. place: the folder that relative names count from, "": where Ray has put it. patience: seconds until a record that is not seen counts
    as not there.
    """

    spec: Json
    folder: str
    session: str
    place: str
    plugins: list[str]
    device: str | None
    slots: int
    keep: Keep
    processes: int
    patience: float

    @classmethod
    def read(cls, text: str) -> Order:
        return cls(**json.loads(text))

    def text(self) -> str:
        return json.dumps({f.name: vars(self)[f.name] for f in fields(self)})


def as_texts(spec: EvaluationSpec) -> Json:
    """A specification as texts, from which any machine makes it again. Raises SparringError where something is an object."""
    passed = spec.passed()
    for name in passed.pop("objects"):
        raise SparringError(
            f"engine=ray: {name} is an object of yours, and workers are given spec texts: name it (python:module:factory), or leave the engine out"
        )
    return passed


def precision() -> Json:
    """How float32 is multiplied in this process: with other settings the same point may have another answer."""
    return {
        "float32_matmul": torch.get_float32_matmul_precision(),
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
        "tf32_cudnn": torch.backends.cudnn.allow_tf32,
    }


def require_precision(record: Json, folder: Place) -> None:
    """Raise SparringError where the shard that began a run multiplies float32 otherwise than this process."""
    before = record.get("running", {}).get("precision")
    if before not in (None, precision()):
        said = ", ".join(f"{name} {value}, here {precision().get(name)}" for name, value in before.items())
        raise SparringError(
            f"another shard of {folder} multiplies float32 otherwise ({said}); set the same on all machines"
        )


def device_name(device: str | None) -> str:
    """What a device is called by its maker; "cpu"."""
    return torch.cuda.get_device_name(device) if device and device.startswith("cuda") else "cpu"


class Helper:
    """Every answer is a JSON text, and what fails is said in it: ``fault`` with its reason, ``refused`` where it is the user's to put right."""

    def __init__(self, order: str) -> None:
        self.order = Order.read(order)
        self.before = 0.0  # network calls until the block that is at work

    def prepare(self) -> str:
        """Load and plan; who it is, and all that decides its answers. Nothing is written."""
        return answered(self._prepare)

    def join(self) -> str:
        """Compare the run folder and each system's answers with the first process's."""
        return answered(self._join)

    def work(self, block: str) -> str:
        """Attack and judge a block; the network calls that it took, and of each run those and its survivors."""
        return answered(lambda: self._work(block))

    def calls(self) -> str:
        """Network calls of the block at work until now."""
        ring = vars(self).get("ring")  # not before it is made
        return json.dumps({"calls": ring.pace.spent - self.before if ring else 0.0})

    @cached_property
    def planned(self) -> Planned:
        for file in self.order.plugins:
            load_plugin(file)
        spec, folder = EvaluationSpec.of(**self.order.spec), place_of(self.order.folder)
        return planned_of(spec, folder, self.order.device, lambda _: None, joining=True).cut(
            folder, self.order.processes
        )

    @cached_property
    def ring(self) -> Ring:
        folder = place_of(self.order.folder)
        store = self.planned.store(folder)
        if not store.begun:
            raise SparringError(f"the run.json that it sees in {folder} is of other blocks; start the command again")
        return self.planned.ring(store, Running(self.order.slots, None, 1, None, None, self.order.keep))

    def _prepare(self) -> Json:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")  # the first process says them
        if self.order.place and Path(self.order.place).is_dir():
            os.chdir(self.order.place)
        about = {"host": socket.gethostname(), "seen": self._sees(), "precision": precision()}
        if not about["seen"]:
            return about
        return about | {"identity": self.planned.identity, "device": device_name(self.order.device)}

    def _sees(self) -> bool:
        """Is the first process's own record in the folder? Another one at the same path on another disk has not its session."""
        file, end = place_of(self.order.folder) / "run.json", time.monotonic() + self.order.patience
        while True:
            try:
                record = parse_run(file)
            except Damaged:
                record = None
            if record and record.get("running", {}).get("session") == self.order.session:
                return True
            if time.monotonic() > end:
                return False
            time.sleep(LOOK)

    def _join(self) -> Json:
        return {"blocks": len(self.ring.blocks)}

    def _work(self, block: str) -> Json:
        torch.set_num_threads(1)  # of this thread: Ray need not call from the same one
        ring, pace = self.ring, self.ring.pace
        rows = next(rows for rows in ring.blocks.slices if ring.blocks.id(rows) == block)
        self.before = pace.spent
        pace.block.clear()
        ring.attend(rows, ring.claims())
        return {"calls": pace.spent - self.before, "runs": pace.block}


def answered(job: Callable[[], Json]) -> str:
    """What a job gives as JSON, or its fault: whatever is raised in a worker is said, not thrown."""
    try:
        return to_json(job())
    except SparringError as error:
        return json.dumps({"fault": str(error), "refused": True})
    except Exception as error:  # whatever a user's model or the system says
        return json.dumps({"fault": one_line(error), "refused": False})
