"""The format of a recipe: what stands in PAPER/ITEM.toml, checked field by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sparring.core.errors import SparringError

Value = str | int | float | bool
Settings = dict[str, Value | list[str] | None]
Label = str | dict[str, str] | Literal[False]
Published = dict[tuple[str, ...], float | Literal["lost"]]
ScaleName = Literal["small", "paper"]
SCALES: tuple[ScaleName, ...] = ("small", "paper")
RESERVED = ("DATA", "OUT", "seed", "trained")  # names that texts have anyway
UNITS = {"%": 100.0, "": 1.0, "1": 1.0}  # what a share is multiplied with


class Strict(BaseModel):
    """A table of the file; a key that is none of its fields is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class Scale(Strict):
    """How large: ``seeds``, minutes measured on two cores, ``texts`` that ``${name}`` stands for, and what replaces or (false) drops labels of the axes."""

    about: str
    texts: dict[str, str] = {}
    seeds: list[int] = Field(default=[0], min_length=1)
    minutes: float | None = None
    axes: dict[str, dict[str, Label]] = {}


class TrainStep(Strict):
    """A ``sparring train`` for each combination of the labels of the axes in ``for``; ``${trained.ID}`` is what it writes, ``${trained.ID.LABEL}`` that
    for a label of its one axis: by its ``suffix`` a weights file, a TOML file, or ("") a folder. ``scales``: at which it is run. ``without``: labels
    by axis for which it is not. ``twin``: added to the seed, for a network of another start.
    """

    id: str
    axes: list[str] = Field(default=[], alias="for")
    task: str
    data: str
    limit: int | None = None
    options: dict[str, Value] = {}
    suffix: Literal[".safetensors", ".toml", ""] = ".safetensors"
    scales: list[ScaleName] = list(SCALES)
    without: dict[str, list[str]] = {}
    twin: int = 0

    @property
    def settings(self) -> Settings:
        """The keyword arguments of ``train``."""
        return {"data": self.data, "limit": self.limit, **self.options}


class EvaluateStep(Strict):
    """A ``sparring evaluate`` likewise, by fields of ``EvaluationSpec``. An entry of a list that names an axis outside ``for``
    stands for all its labels. ``scales``: at which it is run.
    """

    id: str
    axes: list[str] = Field(default=[], alias="for")
    model: str
    data: str
    defenses: list[str] = []
    threats: list[str] = []
    attacks: list[str] = []
    sources: list[str] = []
    limit: int | None = None
    tier: str = ""
    draws: int | None = None
    survivors: bool | None = None
    scales: list[ScaleName] = list(SCALES)

    @property
    def settings(self) -> Settings:
        """The fields of ``EvaluationSpec``."""
        names = ("model", "data", "defenses", "threats", "attacks", "sources", "limit", "tier", "draws", "survivors")
        return {name: value for name, value in dict(self).items() if name in names and value not in ([], "", None)}


class AnalyzeStep(Strict):
    """A ``sparring analyze`` likewise; an entry of a list among its options, too, stands for all labels. ``png``: its pictures are drawn, too.
    ``scales``: at which it is run.
    """

    id: str
    axes: list[str] = Field(default=[], alias="for")
    name: str
    model: list[str]
    data: str = ""
    limit: int | None = None
    options: dict[str, Value | list[str]] = {}
    png: bool = False
    scales: list[ScaleName] = list(SCALES)

    @property
    def settings(self) -> Settings:
        """The keyword arguments of ``analyze``."""
        return {"model": self.model, "data": self.data, "limit": self.limit, **self.options}


class AttackStep(Strict):
    """A ``sparring attack`` likewise: it leaves a folder of adversarial pictures. ``to_end``: it does not stop at the first point that fools."""

    id: str
    axes: list[str] = Field(default=[], alias="for")
    model: str
    data: str
    attack: str
    defense: str = "none"
    limit: int | None = None
    to_end: bool = False

    @property
    def settings(self) -> Settings:
        """What is attacked, by which attack."""
        said = {name: value for name, value in dict(self).items() if name not in ("id", "axes", "to_end")}
        return said | ({"to_end": True} if self.to_end else {})


class CellAt(Strict):
    """Where a cell of the table is read: of an evaluation its defense, threat ("clean": no attack) and attacks, whose mean counts where there are
    several; of an analysis the ``path`` of names into its panel's data, to a number, to counts (right, n), or to values by image
    (see ``per_image``). ``alike``: only cells with the same label on these axes are there. ``exact``: a number without chance, such as a count.
    ``adaptive``: what is another for whoever knows the defense. ``divisor``: what is another of the cell that this one is divided by; ``complement``:
    one minus the quotient. ``unit``: "%" or "1", where a cell's is not the table's.
    """

    step: str
    defense: str = "none"
    threat: str = ""
    attack: str = ""
    metric: str = ""
    unit: str = ""
    path: list[str] = []
    alike: list[str] = []
    exact: bool = False
    adaptive: dict[str, str] = {}
    divisor: dict[str, str] = {}
    complement: bool = False


class PublishedTable(Strict):
    """The paper's numbers: nested by the labels of ``axes``, along the last a list in the order of its labels. "lost": our copy of the paper lacks it; "":
    the paper has none. ``n``: images behind a share. ``margin``: how near is near, in the unit.
    """

    axes: list[str]
    unit: Literal["%", ""] = "%"
    n: int | None = None
    margin: float = 5.0
    values: object = "lost"


class Needs(Strict):
    """What must hold before a claim is judged: the mean of the cells so labelled is at least so much."""

    cells: dict[str, str]
    at_least: float


class PaperClaim(Strict):
    """A sentence of the paper (or ours) as a predicate over cells, in the unit of the table.

    above: a > factor * b + margin. within: |a - b| <= margin, or |a - value|. at_least, at_most: a against ``value``. order: each of ``labels`` along the axis
    ``along`` is above the next. monotone: along the axis ``direction``. argmax: the largest along the axis is one of ``labels``. a, b: labels by
    axis; an axis that neither names is gone through, or averaged ``over``; ``among``: of which labels; ``unlike``: without cells alike on these
    axes. ``seat``: adaptive, where it is about who knows the defense alone.
    """

    id: str
    text: str
    where: str = ""
    test: Literal["above", "within", "at_least", "at_most", "order", "monotone", "argmax"]
    a: dict[str, str] = {}
    b: dict[str, str] = {}
    value: float | Literal["lost"] | None = None
    margin: float = 0.0
    factor: float = 1.0
    along: str = ""
    labels: list[str] = []
    direction: Literal["up", "down"] = "up"
    over: list[str] = []
    among: dict[str, list[str]] = {}
    unlike: list[str] = []
    paired: bool = True
    family: str = ""
    needs: Needs | None = None
    ours: bool = False
    seat: Literal["", "adaptive"] = ""
    missing: str = ""


class Recipe(Strict):
    """A table or figure: what is run for it at which scale, where its cells are read, what is published, what is claimed.

    ``source``: "channels.txt:315-338", the lines with the published numbers. ``status``: A, one command gives it; B, its parts are there; C, something is
    missing; D, at no honest scale on a CPU. ``missing``: why it cannot run, or "".
    """

    id: str
    title: str
    source: str = ""
    kind: Literal["table", "series", "picture", "description"] = "table"
    metric: str = "accuracy"
    status: Literal["A", "B", "C", "D"]
    about: str = ""
    missing: str = ""
    axes: dict[str, dict[str, Label]] = {}
    scale: dict[ScaleName, Scale] = {}
    train: list[TrainStep] = []
    evaluate: list[EvaluateStep] = []
    analyze: list[AnalyzeStep] = []
    attack: list[AttackStep] = []
    cell: CellAt | None = None
    published: PublishedTable = PublishedTable(axes=[])
    claim: list[PaperClaim] = []

    @property
    def paper(self) -> str:
        """The paper's name."""
        return self.id.split("/")[0]

    @property
    def item(self) -> str:
        """The table's or figure's name."""
        return self.id.split("/")[-1]

    @property
    def numbers(self) -> Published:
        """The published numbers by their labels. Raises SparringError where they do not fit the axes."""
        return dict(_numbers(self.published.values, self.published.axes, self.axes, ()))

    @property
    def all_lost(self) -> bool:
        """Does our copy of the paper lack all of it?"""
        return self.published.values == "lost"

    @property
    def draws(self) -> bool:
        """Does a step of it leave pictures?"""
        return bool(self.attack) or any(step.png for step in self.analyze)

    def check(self) -> None:
        """Raise SparringError, by field, for what is named and is not there."""
        steps = (*self.train, *self.evaluate, *self.analyze, *self.attack)
        ids = [s.id for s in steps]
        _known("a step's id", [i for i in ids if ids.count(i) > 1], [])
        for step in steps:
            _known(f"{step.id}.for", step.axes, self.axes)
        for step in self.train:
            _known(f"{step.id}.without", step.without, step.axes)
            for axis, labels in step.without.items():
                _known(f"{step.id}.without.{axis}", labels, self.axes[axis])
        _known("published.axes", self.published.axes, self.axes)
        if self.published.values != "lost":
            _ = self.numbers
        if self.cell:
            _known("cell.alike", self.cell.alike, self.axes)
            fields = [name for name, field in CellAt.model_fields.items() if field.annotation is str]
            _known("cell.adaptive", self.cell.adaptive, fields)
            _known("cell.divisor", self.cell.divisor, fields)
            if self.cell.complement and not self.cell.divisor:
                raise SparringError("cell.complement is one minus a quotient; write [cell.divisor], or leave it out")
        elif not self.missing and not self.draws:
            raise SparringError("cell is not given; write [cell], a step that draws, or missing = what is missing")
        if not self.scale and not self.missing:
            raise SparringError("no scale is given; write [scale.small], or missing = what is missing")
        for name, scale in self.scale.items():
            for text in scale.texts:
                if text in self.axes or text in RESERVED:
                    raise SparringError(f"scale.{name}.texts.{text} is the name of an axis or reserved; choose another")
            for axis, labels in scale.axes.items():
                _known(f"scale.{name}.axes", [axis], self.axes)
                _known(f"scale.{name}.axes.{axis}", labels, self.axes[axis])
        names = [c.id for c in self.claim]
        _known("a claim's id", [i for i in names if names.count(i) > 1], [])
        for claim in self.claim:
            self._check_claim(claim)

    def _check_claim(self, claim: PaperClaim) -> None:
        where, axes = f"claim {claim.id}", self.published.axes
        selections = [claim.a, claim.b, *([claim.needs.cells] if claim.needs else [])]
        for selection in selections:
            _known(where, selection, axes)
            for axis, label in selection.items():
                _known(f"{where}: {axis}", [label], self.axes[axis])
        for axis, labels in claim.among.items():
            _known(f"{where}.among", [axis], axes)
            _known(f"{where}.among.{axis}", labels, self.axes[axis])
        _known(f"{where}.over", [*claim.over, *claim.unlike], axes)
        if claim.test in ("order", "monotone", "argmax"):
            _known(f"{where}.along", [claim.along], axes)
            _known(f"{where}.labels", claim.labels, self.axes[claim.along])
        if claim.test in ("order", "argmax") and not claim.labels:
            raise SparringError(f"{where}: {claim.test} needs labels")
        if claim.value is not None and claim.value != "lost" and (claim.test == "above" or claim.b):
            raise SparringError(f"{where}: value is beside b, or of a test that compares none with it; leave one out")
        if claim.test in ("at_least", "at_most") and claim.value is None:
            raise SparringError(f"{where}: {claim.test} needs a value")


def _known(
    field: str, names: Sequence[str] | Mapping[str, object], known: Sequence[str] | Mapping[str, object]
) -> None:
    for name in names:
        if name not in known:
            if not known:
                raise SparringError(
                    f"{field} {name} is given twice" if "id" in field else f"{field}: {name} is not there"
                )
            raise SparringError(f"{field}: {name} is none of {', '.join(known)}")


def _numbers(
    values: object, axes: Sequence[str], known: Mapping[str, Mapping[str, Label]], labels: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], float | Literal["lost"]]]:
    where = "/".join(("published.values", *labels))
    if not axes:
        if values == "lost":
            yield labels, "lost"
        elif isinstance(values, int | float) and not isinstance(values, bool):
            yield labels, float(values)
        elif values != "":
            raise SparringError(f'{where}: {values!r} is no number, "lost" or ""')
        return
    names = list(known[axes[0]])
    if values == "lost":
        values = dict.fromkeys(names, "lost")
    if isinstance(values, list) and len(values) == len(names):
        values = dict(zip(names, values, strict=True))
    if not isinstance(values, dict):
        raise SparringError(f"{where}: write the {len(names)} numbers of {axes[0]} ({', '.join(names)})")
    for label, inner in values.items():
        _known(where, [str(label)], names)
        yield from _numbers(inner, axes[1:], known, (*labels, str(label)))
