"""One training for each of several seeds, each with a file of its own: one after the other here, or as jobs of a Ray cluster."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from sparring.conduct.engine import Cluster, Engine
from sparring.conduct.helper import answered
from sparring.core.columns import Json
from sparring.core.errors import SparringError
from sparring.core.ranges import Seed
from sparring.core.registry import PLUGINS, load_plugin
from sparring.core.spec import convert
from sparring.evaluation.records.seal import write_text
from sparring.models.weights import read_card
from sparring.training.base import Trained, train

TRIES = 3  # of a training whose worker died; it goes on where it was
LOOK = 1.0  # seconds between two looks at what is done
Say = Callable[[int, int, str], None]  # how many of how many are done, and in words


@dataclass(frozen=True)
class Job:
    """A training by its texts. ``options``: the task's and the schedule's fields, the seed among them."""

    task: str
    data: str
    out: str
    limit: int | None
    options: Json
    plugins: Sequence[str]
    place: str

    def text(self) -> str:
        return json.dumps(vars(self), sort_keys=True)

    @property
    def record(self) -> Path:
        """Where it is written down, before it begins, what the file is going to be of."""
        out = Path(self.out)
        return out.with_name(f"{out.name}.job")

    def trained(self) -> Trained:
        """Do it, or say again what is there. Raises SparringError, also for a file that is there and of another job, or of nobody knows what."""
        out = Path(self.out)
        if out.is_file() and self.record.is_file():  # weights are written last
            if self.record.read_text() != self.text():
                raise SparringError(f"{out} is of another training; delete it or choose another --out")
            return Trained(read_card(out), f"{out}: trained before")
        if not out.exists():
            write_text(self.record, self.text())
        return train(self.task, data=self.data, out=out, limit=self.limit, **self.options)


def train_seeds(
    task: str,
    seeds: str,
    *,
    data: str,
    out: Path,
    limit: int | None = None,
    engine: Engine | None = None,
    say: Say = lambda *_: None,
    **options: object,
) -> list[Trained]:
    """``task`` once for each of ``seeds`` ("0,1,2"), into OUT.seedN: on the cluster of ``engine``, or here. The same call makes what is missing; what
    is interrupted goes on where it was. Raises SparringError for bad input before anything is trained, and, once all others are done, for trainings
    that failed.
    """
    if "seed" in options:
        raise SparringError(f"train {task}: give seed or seeds, not both")
    numbers = [convert(f"train {task}", "seeds", Seed, text) for text in seeds.split(",")]
    if len(set(numbers)) < len(numbers):
        raise SparringError(f"train {task}: seeds={seeds} names one twice")
    jobs = [
        Job(
            task,
            data,
            str(out.with_name(f"{out.stem}.seed{seed}{out.suffix}").absolute()),
            limit,
            {**options, "seed": str(seed)},
            list(PLUGINS),
            str(Path.cwd()),
        )
        for seed in numbers
    ]
    if engine is None:
        trained: list[Trained] = []
        for job, seed in zip(jobs, numbers, strict=True):
            say(len(trained), len(jobs), f"seed {seed}")
            trained.append(job.trained())
        return trained
    with engine.connected(None) as cluster:
        return _on(cluster, jobs, engine.gpus, say)


def _on(cluster: Cluster, jobs: Sequence[Job], gpus: float, say: Say) -> list[Trained]:
    """The jobs on a cluster; of those that failed the first is said, once no other is at work."""
    remote = cluster.ray.remote(work).options(num_cpus=1, num_gpus=gpus, max_retries=TRIES)
    waiting = {remote.remote(job.text()): job for job in jobs}
    answers: dict[str, Json] = {}
    while waiting:
        say(len(answers), len(jobs), f"{len(waiting)} trainings waiting or at work on the cluster")
        ready, _ = cluster.ray.wait(list(waiting), num_returns=1, timeout=LOOK)
        for reference in ready:
            job = waiting.pop(reference)
            try:
                answers[job.out] = json.loads(cluster.ray.get(reference))
            except cluster.ray.exceptions.RayError as error:  # it died as often as it was tried
                answers[job.out] = {"fault": f"its worker died ({str(error).splitlines()[0][:200]})"}
    failed = {out: answer["fault"] for out, answer in answers.items() if "fault" in answer}
    for out, why in failed.items():
        raise SparringError(
            f"{len(failed)} of {len(jobs)} trainings failed, the first is {out}: {why}; the same command makes what is missing"
        )
    return [Trained(answers[job.out]["card"], answers[job.out]["text"]) for job in jobs]


def work(text: str) -> str:
    """What a worker does of a job's text; the card as JSON, or a fault."""

    def trained() -> Json:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        job = Job(**json.loads(text))
        if Path(job.place).is_dir():
            os.chdir(job.place)
        for file in job.plugins:
            load_plugin(file)
        weights = job.trained()
        return {"card": weights.card, "text": weights.text}

    return answered(trained)
