"""What a recipe expands to at a scale: its steps, as texts, and where each cell is read. Nothing is run, nothing is looked up."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from string import Template
from typing import Literal

from sparring.core.errors import SparringError
from sparring.core.spec import PYTHON, split
from sparring.evaluation.results.table import CLEAN
from sparring.recipes.recipe import (
    UNITS,
    AnalyzeStep,
    AttackStep,
    CellAt,
    EvaluateStep,
    Label,
    Recipe,
    Scale,
    ScaleName,
    Settings,
    TrainStep,
)

DATA, OUT = "${DATA}", "${OUT}"  # stay in texts until a step is run: what is asked does not depend on where files lie
DEEPEST = 20
WEIGHTS = "trained"  # ${trained.ID}, or ${trained.ID.LABEL} of a step for one axis
Seat = Literal["paper", "adaptive"]
Kind = Literal["train", "evaluate", "analyze", "attack"]
AnyStep = TrainStep | EvaluateStep | AnalyzeStep | AttackStep


class Placeholders(Template):
    """``${name}`` and ``${name.part}``."""

    idpattern = r"(?a:[_a-zA-Z][\w.\-]*)"


class Unbound(Exception):
    """A text names an axis of which no label is chosen."""

    def __init__(self, axis: str) -> None:
        super().__init__(axis)
        self.axis = axis


@dataclass(frozen=True)
class Step:
    """One command: ``name`` is a task or an analysis ("" of an evaluation or attack), ``asked`` its fields as texts, ``place`` what it writes below the out folder."""

    kind: Kind
    id: str
    name: str
    place: str
    seed: int
    asked: Settings


@dataclass(frozen=True)
class Address:
    """Where one number is read: a step's place, and there a defense, threat and attacks, or the path into a panel's data. ``divisor``: where the number
    is read that it is divided by; ``complement``: one minus that. ``unit``: the table's, where "".
    """

    labels: tuple[str, ...]
    seat: Seat
    seed: int
    place: str
    defense: str
    threat: str
    attacks: tuple[str, ...]
    metric: str
    path: tuple[str, ...]
    exact: bool
    divisor: Address | None = None
    complement: bool = False
    unit: str = ""


@dataclass(frozen=True)
class Expanded:
    """A recipe at a scale."""

    recipe: Recipe
    scale_name: ScaleName
    scale: Scale
    axes: dict[str, dict[str, dict[str, str]]]

    @classmethod
    def of(cls, recipe: Recipe, scale_name: ScaleName) -> Expanded:
        """Raises SparringError where the recipe has no such scale."""
        if scale_name not in recipe.scale:
            raise SparringError(f"{recipe.id} has no scale {scale_name} (it has {', '.join(recipe.scale) or 'none'})")
        scale = recipe.scale[scale_name]
        axes = {axis: _replaced(labels, scale.axes.get(axis, {})) for axis, labels in recipe.axes.items()}
        return cls(recipe, scale_name, scale, axes)

    @property
    def steps(self) -> list[Step]:
        """All steps, in the order in which they are run, each once."""
        steps: dict[str, Step] = {}
        for seed in self.scale.seeds:
            scaled = [*self.recipe.train, *self.recipe.evaluate, *self.recipe.analyze]
            for step in (*(s for s in scaled if self.scale_name in s.scales), *self.recipe.attack):
                left_out = step.without if isinstance(step, TrainStep) else {}
                for bound in self._bindings(step.axes):
                    if any(bound[axis] in labels for axis, labels in left_out.items()):
                        continue
                    expanded = self._step(step, bound, seed)
                    steps.setdefault(expanded.place, expanded)
        return list(steps.values())

    @property
    def addresses(self) -> list[Address]:
        """Where each cell is read, of each seed, and its adaptive twin."""
        cell, axes = self.recipe.cell, self.recipe.published.axes
        addresses: list[Address] = []
        for bound in self._bindings(axes) if cell else ():
            if cell and len({bound[axis] for axis in cell.alike}) <= 1:
                for seed in self.scale.seeds:
                    addresses.append(self._address("paper", {}, bound, seed))
                    if cell.adaptive:
                        addresses.append(self._address("adaptive", cell.adaptive, bound, seed))
        return addresses

    def _bindings(self, axes: Sequence[str]) -> Iterator[dict[str, str]]:
        for labels in itertools.product(*(self.axes[axis] for axis in axes)):
            yield dict(zip(axes, labels, strict=True))

    def _address(self, seat: Seat, changes: Mapping[str, str], bound: Mapping[str, str], seed: int) -> Address:
        assert self.recipe.cell is not None
        cell = self.recipe.cell
        address = self._at(cell.model_copy(update=dict(changes)), seat, bound, seed)
        if not cell.divisor:
            return address
        divisor = self._at(cell.model_copy(update=cell.divisor), seat, bound, seed)
        return replace(address, divisor=divisor, complement=cell.complement)

    def _at(self, cell: CellAt, seat: Seat, bound: Mapping[str, str], seed: int) -> Address:
        filled = {
            name: self._one(text, f"cell.{name}", bound, seed)
            for name, text in cell.model_dump().items()
            if isinstance(text, str)
        }
        step = next((s for s in (*self.recipe.evaluate, *self.recipe.analyze) if s.id == filled["step"]), None)
        if step is None or not set(step.axes) <= set(bound):
            raise self._wrong(f"cell.step: {filled['step']} is no evaluation or analysis whose axes are the table's")
        if filled["unit"] not in UNITS:
            raise self._wrong(f"cell.unit: {filled['unit']} is none of %, 1")
        return Address(
            tuple(bound[axis] for axis in self.recipe.published.axes),
            seat,
            seed,
            self.place(step, bound, seed),
            filled["defense"],
            filled["threat"],
            tuple(_split(filled["attack"])),
            filled["metric"] or self.recipe.metric,
            tuple(self._one(text, "cell.path", bound, seed) for text in cell.path),
            cell.exact,
            unit=filled["unit"],
        )

    def _step(self, step: AnyStep, bound: Mapping[str, str], seed: int) -> Step:
        if isinstance(step, EvaluateStep):
            kind, name, given = "evaluate", "", step.settings
        elif isinstance(step, TrainStep):
            kind, name, given = "train", step.task, step.settings
        elif isinstance(step, AttackStep):
            kind, name, given = "attack", "", step.settings
        else:
            kind, name, given = "analyze", step.name, step.settings
        asked: Settings = {}
        for field, value in given.items():
            where = f"{step.id}.{field}"
            if isinstance(value, list):
                asked[field] = self._list(value, where, bound, seed)
            elif value not in ("", None):
                asked[field] = self._one(value, where, bound, seed) if isinstance(value, str) else value
        if isinstance(step, AnalyzeStep) and step.png:
            asked["png"] = f"{OUT}/{self.place(step, bound, seed)}.png"
        own = seed + step.twin if isinstance(step, TrainStep) else seed
        return Step(kind, step.id, name, self.place(step, bound, seed), own, asked)

    def _list(self, texts: Sequence[str], where: str, bound: Mapping[str, str], seed: int) -> list[str]:
        """The entries of a list; those that name an axis without a label once for each; what comes out empty or as no attack is left out."""
        entries = [part for text in texts for filled in self._each(text, where, bound, seed) for part in _split(filled)]
        return list(dict.fromkeys(entry for entry in entries if entry != CLEAN))

    def _each(self, text: str, where: str, bound: Mapping[str, str], seed: int) -> Iterator[str]:
        try:
            yield self._fill(text, where, bound, seed)
        except Unbound as missing:
            for label in self.axes[missing.axis]:
                yield from self._each(text, where, {**bound, missing.axis: label}, seed)

    def _fill(self, text: str, where: str, bound: Mapping[str, str], seed: int) -> str:
        """A text with its names replaced. Raises SparringError for an unknown one, or one that names itself."""
        try:
            filled = Placeholders(text).substitute(_Names(self, bound, seed))
        except KeyError as error:
            known = sorted({*self.axes, *self.scale.texts, "seed", "DATA", "OUT"})
            raise self._wrong(f"{where}: {text!r}: {error.args[0]} is none of {', '.join(known)}") from None
        except ValueError:
            raise self._wrong(f"{where}: {text!r} holds a $ that is no ${{name}}; write $$") from None
        if f"{PYTHON}:" in filled:
            raise self._wrong(f"{where}: {filled} names code to import, which no recipe does")
        return filled

    def _one(self, text: str, where: str, bound: Mapping[str, str], seed: int) -> str:
        """The same where only one text can stand."""
        try:
            return self._fill(text, where, bound, seed)
        except Unbound as missing:
            raise self._wrong(f"{where}: {text!r} names the axis {missing.axis}, of which no label is chosen") from None

    def _wrong(self, text: str) -> SparringError:
        return SparringError(f"recipe {self.recipe.id}, scale {self.scale_name}: {text}")

    def place(self, step: AnyStep, bound: Mapping[str, str], seed: int) -> str:
        """What a step writes, below the out folder. What a paper trains is shared by its recipes."""
        for axis in step.axes:
            if axis not in bound:
                raise Unbound(axis)
        name = "-".join([step.id, *(bound[axis] for axis in step.axes), f"s{seed}"])
        room, suffix = ("trained", step.suffix) if isinstance(step, TrainStep) else (self.recipe.item, "")
        folder = f"{self.recipe.paper}.{self.scale_name}/{room}"
        return f"{folder}/{re.sub(r'[^0-9A-Za-z.=-]+', '_', name)}{suffix}"


class _Names(dict[str, str]):
    """What each name in a text stands for, looked up when it is asked for."""

    def __init__(self, expanded: Expanded, bound: Mapping[str, str], seed: int, depth: int = 0) -> None:
        super().__init__()
        self.expanded, self.bound, self.seed, self.depth = expanded, bound, seed, depth

    def __missing__(self, name: str) -> str:
        head, _, part = name.partition(".")
        if name in ("DATA", "OUT"):
            return f"${{{name}}}"
        if name == "seed":
            return str(self.seed)
        if head == WEIGHTS:
            trained, _, label = part.partition(".")
            step = next((s for s in self.expanded.recipe.train if s.id == trained), None)
            if step is None:
                raise KeyError(name)
            bound = self._labeled(step, label) if label else self.bound
            return f"{OUT}/{self.expanded.place(step, bound, self.seed)}"
        if head in self.expanded.axes:
            if head not in self.bound:
                raise Unbound(head)
            label = self.bound[head]
            texts = {"label": label, **self.expanded.axes[head][label]}
            if part not in texts:
                raise KeyError(f"{name} of {label}")
            return self._inner(texts[part])
        return self._inner(self.expanded.scale.texts[name])

    def _labeled(self, step: TrainStep, label: str) -> dict[str, str]:
        if len(step.axes) != 1 or label not in self.expanded.axes[step.axes[0]]:
            raise KeyError(f"{WEIGHTS}.{step.id}.{label}")
        return {step.axes[0]: label}

    def _inner(self, text: str) -> str:
        if self.depth > DEEPEST:
            raise KeyError(text)
        return Placeholders(text).substitute(_Names(self.expanded, self.bound, self.seed, self.depth + 1))


def _split(text: str) -> list[str]:
    return split(text) if text else []


def _replaced(labels: Mapping[str, Label], changes: Mapping[str, Label]) -> dict[str, dict[str, str]]:
    """Labels with what a scale says of them; a text stands under ""."""
    texts: dict[str, dict[str, str]] = {}
    for label, text in {**labels, **changes}.items():
        if isinstance(text, str):
            texts[label] = {"": text}
        elif isinstance(text, dict):
            before = labels[label]
            texts[label] = {**before, **text} if isinstance(before, dict) else text
    return texts
