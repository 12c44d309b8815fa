"""A recipe's own numbers as rows: per-image values of each cell, so that a claim can be judged from them again, and a file of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparring.core.columns import Json
from sparring.core.errors import SparringError
from sparring.evaluation.records.seal import write_text
from sparring.evaluation.results.stats import rate_interval
from sparring.recipes.expand import Seat
from sparring.recipes.recipe import SCALES, Recipe, ScaleName

EDITION = 1
PLAIN = (
    "seat",
    "seed",
    "threat",
    "attack",
    "images",
    "scale",
    "exact",
)  # fields of a number that JSON holds as they are


@dataclass(frozen=True)
class PerImage:
    """Per image (n,): a metric's ``top`` over its ``over``, joined as ``kind`` says (see ``Quantity``). ``first``: bool, a share's top in the first judge
    draw. ``random``: was the system random?
    """

    top: np.ndarray
    over: np.ndarray
    first: np.ndarray
    kind: str
    random: bool

    @property
    def is_binary(self) -> bool:
        """A share of all images of a deterministic system: k of n."""
        return self.kind == "share" and bool(self.over.all()) and bool(np.isin(self.top, (0, 1)).all())

    def value(self, at: np.ndarray | None = None) -> float:
        """The number over the images at some places; nan where the denominator is empty."""
        top, over = (self.top, self.over) if at is None else (self.top[at], self.over[at])
        inside = over > 0
        if not inside.any():
            return math.nan
        if self.kind == "ratio":
            return float(top.sum() / over.sum())
        return float(np.median(top[inside]) if self.kind == "median" else top[inside].mean())

    def json(self) -> Json:
        """Plain values: what says nothing is left out."""
        content: Json = {"kind": self.kind, "random": self.random, "top": _short(self.top)}
        if not (self.over == 1).all():
            content["over"] = _short(self.over)
        if self.random:
            content["first"] = _short(self.first)
        return content

    @classmethod
    def of(cls, content: Json) -> PerImage:
        """From plain values."""
        top = np.array(content["top"], float)
        over = np.array(content["over"], float) if "over" in content else np.ones(len(top))
        first = np.array(content["first"], bool) if "first" in content else top > 0.5
        return cls(top, over, first, content["kind"], content["random"])


def _short(values: np.ndarray) -> list[float | int]:
    return [int(v) if v == int(v) else float(f"{v:.6g}") for v in values.astype(float)]


@dataclass(frozen=True)
class Number:
    """One number of ours, in the unit of the table. ``columns``: what it is the mean of, or () where only the ``value`` is known; ``images``: hash of their
    ids, in order. ``exact``: it has no chance in it. ``scale``: what a share is multiplied with.
    """

    labels: tuple[str, ...]
    seat: Seat
    seed: int
    threat: str
    attack: str
    images: str
    columns: tuple[PerImage, ...]
    scale: float
    value: float
    exact: bool = False

    @property
    def n(self) -> int:
        """How many images it is of, 0 where nobody knows."""
        return len(self.columns[0].top) if self.columns else 0

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 %, of a single share; else None."""
        if len(self.columns) != 1 or self.columns[0].kind != "share" or not self.columns[0].over.any():
            return None
        column = self.columns[0]
        inside = column.over > 0
        low, high, _ = rate_interval(column.top[inside], column.first[inside], column.random)
        return self.scale * low, self.scale * high

    def json(self) -> Json:
        """Plain values."""
        low, high = self.interval or (None, None)
        return {
            **{name: vars(self)[name] for name in PLAIN},
            "labels": list(self.labels),
            "value": None if math.isnan(self.value) else float(f"{self.value:.6g}"),
            "ci_low": low,
            "ci_high": high,
            "n": self.n,
            "columns": [c.json() for c in self.columns],
        }

    @classmethod
    def of(cls, content: Json) -> Number:
        """From plain values."""
        value = math.nan if content["value"] is None else float(content["value"])
        columns = tuple(PerImage.of(c) for c in content["columns"])
        return cls(
            labels=tuple(content["labels"]), value=value, columns=columns, **{name: content[name] for name in PLAIN}
        )


def mean_number(columns: Sequence[PerImage], scale: float) -> float:
    """The mean of some columns' numbers, in the unit of the table."""
    return scale * float(np.mean([c.value() for c in columns]))


@dataclass(frozen=True)
class Replay:
    """What a recipe's run left: its numbers, and what made them. ``absent``: why a cell has no number, by its labels."""

    recipe: str
    scale: ScaleName
    provenance: Json
    numbers: tuple[Number, ...]
    absent: Mapping[str, str]

    @property
    def doubts(self) -> list[str]:
        """What failed checks say of its evaluations, a line each."""
        return [line for step in self.provenance["steps"] for line in step.get("doubts", ())]

    @property
    def trained_once(self) -> bool:
        """Did it train networks, each of one seed? Then the chance of training is in no bound."""
        return len(self.provenance["seeds"]) == 1 and any(s["kind"] == "train" for s in self.provenance["steps"])

    @property
    def pictures(self) -> list[str]:
        """The files in its ``picture_folder``."""
        return [name for step in self.provenance["steps"] for name in step.get("pictures", ())]

    def save(self, file: Path, verdicts: Sequence[Json]) -> None:
        """Write it whole, as JSON with a number a line."""
        head = {"edition": EDITION, "recipe": self.recipe, "scale": self.scale, "provenance": self.provenance}
        head |= {"absent": dict(self.absent), "claims": list(verdicts)}
        lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in head.items()]
        numbers = ",\n".join(json.dumps(n.json()) for n in self.numbers)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, "{\n" + ",\n".join(lines) + f',\n"numbers": [\n{numbers}\n]\n}}\n')

    @classmethod
    def read(cls, file: Path) -> Replay:
        """From its file. Raises SparringError for one that is none."""
        try:
            content = json.loads(file.read_text())
            if content["edition"] != EDITION:
                raise SparringError(f"{file} is of edition {content['edition']}, this reads {EDITION}; run it again")
            numbers = tuple(Number.of(n) for n in content["numbers"])
            return cls(content["recipe"], content["scale"], content["provenance"], numbers, content["absent"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, SparringError):
                raise
            raise SparringError(f"{file} is no result of sparring recipe run ({error})") from None


def replay_file(recipe: Recipe, scale: ScaleName, folder: Path) -> Path:
    """Where the rows of a recipe at a scale stand."""
    return folder / recipe.paper / f"{recipe.item}.{scale}.json"


def picture_folder(recipe: Recipe, scale: ScaleName, folder: Path) -> Path:
    """Where its pictures stand."""
    return replay_file(recipe, scale, folder).with_suffix("")


def replays_of(recipe: Recipe, folder: Path) -> list[Replay]:
    """What is there of a recipe, a scale each."""
    files = [replay_file(recipe, scale, folder) for scale in SCALES]
    return [Replay.read(file) for file in files if file.exists()]
