"""The kind ``training task``: what can be trained, its options and its scales; ``train`` starts one by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from sparring.core.errors import SparringError
from sparring.core.ranges import Count, Limit, Rate, Seed, Step
from sparring.core.registry import TASKS
from sparring.core.shown import shown
from sparring.core.spec import Fields, check_fields, check_ranges, convert, option, registered_name, signature
from sparring.data.images import ImageSet
from sparring.data.sources import Images, load_data
from sparring.models.classifier import Classifier
from sparring.models.weights import Card, read_card
from sparring.training.loop import LoopConfig, Progress, Task, scaled
from sparring.training.loop import train as run_loop

Scales = Mapping[str, LoopConfig]


@dataclass(frozen=True)
class Schedule:
    """Which of a task's scales is run, and what is changed of it; None: the scale's own value."""

    scale: str = option("small", help="small: 2 cores, minutes; paper: the paper's network and schedule")
    epochs: Count | None = option(None, help="default: the scale's")
    batch: Count | None = option(None, help="default: the scale's")
    lr: Step | None = option(None, help="learning rate; default: the scale's")
    ema: Rate | None = option(None, help="decay of a moving average of the weights; 0: off")
    precision: Literal["no", "bf16", "fp16"] = option("no", help="Accelerate's mixed precision")
    seed: Seed = option(0, help="seed of all randomness")

    def __post_init__(self) -> None:
        check_ranges("schedule", self)

    def config(self, scales: Scales, **given: float | None) -> LoopConfig:
        """The loop's settings: the scale's, then what is not None here, then what is not None in ``given``. Raises SparringError for
        an unknown scale or a value out of range.
        """
        if self.scale not in scales:
            raise SparringError(f"scale={self.scale} is not one of {', '.join(scales)}")
        mine = {k: v for k, v in vars(self).items() if k != "scale"}
        return scaled(scaled(scales[self.scale], **mine), **given)


@dataclass(frozen=True)
class Trained:
    """What a task leaves: its card (plain values) and the lines that say so."""

    card: Card
    text: str

    def __repr__(self) -> str:
        return shown(self, self.text)

    @classmethod
    def of(cls, out: Path, spec: str) -> Trained:
        """Of a weights file with its card; ``spec``: how it is named in an evaluation."""
        card = read_card(out)
        last = card["selected_by"] == "last epoch"
        kept = card["curve"][-1] if last else min(card["curve"], key=lambda c: c["validation_loss"])
        text = f"{out}: validation loss {kept['validation_loss']:.4g}"
        if "validation_accuracy" in kept:
            text += f", accuracy {100 * kept['validation_accuracy']:.1f} %"
        text += f" (epoch {kept['epoch']} of {len(card['curve'])}, {card['selected_by']}), {card['seconds']} s"
        return cls(card, f"{text}\nevaluate it as: {spec}")


@dataclass(frozen=True)
class TrainingSpec:
    """What a task is given: the images, the schedule, the file or folder it writes, who hears of its progress, a tracker ("tensorboard:logs")."""

    images: ImageSet
    schedule: Schedule
    out: Path
    progress: Progress | None = None
    log: str | None = None

    def fit(self, task: Task, config: LoopConfig, out: Path | None = None) -> Card:
        """The loop on ``task``, into ``out`` (default: the spec's own file); the card of the weights."""
        return run_loop(task, config, out or self.out, self.progress, self.log)


@dataclass(frozen=True, kw_only=True)
class Training:
    """Something that can be trained, its options as fields. Subclasses write ``train``.

    ``scales``: settings of the loop by name, small first; empty for a task without a loop, which then has a
    seed and no other schedule. ``example``: words after ``sparring train``.
    """

    scales: ClassVar[Scales]
    example: ClassVar[str]

    def __post_init__(self) -> None:
        """Its options are within their ranges. A task with a check of its own calls this one first."""
        check_ranges(registered_name(type(self)) or type(self).__name__, self)

    def train(self, spec: TrainingSpec) -> Trained:
        """Train on the images of ``spec`` and write its ``out``. Resumes what was interrupted."""
        raise NotImplementedError


def fitting(model: Classifier, images: ImageSet) -> Classifier:
    """The same model once it has taken two of the images. Raises SparringError where it takes others."""
    shape = images.shape
    if model.size is not None and shape[1:] != (model.size, model.size):
        raise SparringError(
            f"{images.name}: images are {shape[1]}x{shape[2]}, {model.name} takes {model.size}x{model.size}; resize them first"
        )
    try:
        with torch.no_grad():
            model(images.pixels(slice(2)))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise SparringError(f"{model.name} cannot take images of shape {shape}: {reason}") from None
    return model


def schedule_fields(entry: type[Training]) -> Fields:
    """The fields of ``Schedule`` that a task has, as ``signature`` gives them."""
    known = signature(Schedule)
    return known if entry.scales else {"seed": known["seed"]}


def train(
    name: str,
    *,
    data: Images,
    out: str | Path,
    limit: int | None = None,
    log: str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Trained:
    """Train by name: ``train("classifier", data="mnist5k:split=train", out="small.safetensors", epochs=2)``.

    ``data``: what ``load_data`` takes; a share is held out for choosing the epoch. ``out``: weights file (of ``attacked``: folder).
    ``limit``: draw so many of the images, by the seed. ``options``: the task's fields and those of ``Schedule``, typed or as spec texts.
    Raises SparringError for unknown options, values out of range, and an ``out`` that exists.
    """
    entry = TASKS[name]
    limit = convert(name, "limit", Limit, limit)
    schedule_names = schedule_fields(entry)
    given = check_fields(name, options, {**signature(entry), **schedule_names})
    schedule = Schedule(**{k: given.pop(k) for k in schedule_names if k in given})
    task: Training = entry(**given)
    if entry.scales:
        schedule.config(entry.scales)  # refuse a bad setting before anything is loaded
    images = load_data(data, limit=limit, seed=schedule.seed)
    return task.train(TrainingSpec(images, schedule, Path(out), progress, log))
