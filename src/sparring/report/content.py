"""What a page holds, as data: sections of text, tables, figures and pictures. Terminal and page draw the same; as JSON it is the page's contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Literal

from sparring.core.columns import Json
from sparring.core.registry import SECTIONS
from sparring.core.shown import shown
from sparring.evaluation.results.load import Evaluation, whole_rows
from sparring.evaluation.results.table import RowTable

Tone = Literal["plain", "soft", "headline", "alarm", "good", "bad", "strong"]


@dataclass(frozen=True)
class Text:
    """A paragraph. link: where it leads on a page."""

    text: str
    tone: Tone = "plain"
    link: str = ""
    kind: Literal["text"] = "text"


@dataclass(frozen=True)
class Entry:
    """One entry of a table. bar: (value, low, high) as shares in [0,1], drawn beside it on a page. flags: warnings under it. link: where a page's entry
    leads.
    """

    text: str
    tone: Tone = "plain"
    bar: tuple[float, float, float] | None = None
    flags: tuple[str, ...] = ()
    link: str = ""


@dataclass(frozen=True)
class Table:
    """``columns``: headings, those of numbers in ``numbers``. A row that begins with another first entry than the one before it begins a
    group. ``spare``: columns that a narrow terminal may leave out, the first of them first."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    numbers: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()
    kind: Literal["table"] = "table"


@dataclass(frozen=True)
class Figure:
    """A drawing as SVG text."""

    title: str
    svg: str
    kind: Literal["figure"] = "figure"


@dataclass(frozen=True)
class Panels:
    """Small drawings of one scale side by side, each (caption, SVG text); ``about`` says what the marks are."""

    title: str
    about: str
    drawings: tuple[tuple[str, str], ...]
    kind: Literal["panels"] = "panels"


@dataclass(frozen=True)
class Shot:
    """One picture as a data URI, with its caption. ``alt``: what is seen on it, in words."""

    image: str
    caption: str
    alt: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class PicturedImage:
    """The pictures of one image at every stage. ``anchor``: its name for links; ``labels``: (stage, the class that is said there)."""

    title: str
    anchor: str
    shots: tuple[Shot, ...]
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Strip:
    """Pictures of several images under one heading."""

    title: str
    images: tuple[PicturedImage, ...]
    kind: Literal["strip"] = "strip"


@dataclass(frozen=True)
class Card:
    """A verdict. ``line``: all of it in a line; ``about``: system, threat and ball; ``number``: (value, low, high) as shares in [0,1], ``parts``: (trusted,
    suspect), which add up to the value; None where there is no number. ``n``: images, with what is to be known of the number; ``next``: a command.
    """

    line: str
    word: str
    about: str
    tone: Tone
    number: tuple[float, float, float] | None
    parts: tuple[float, float] | None
    n: str
    sentence: str
    next: str
    evidence: Table
    kind: Literal["card"] = "card"


@dataclass(frozen=True)
class Fold:
    """Long text that a reader may unfold."""

    title: str
    text: str
    kind: Literal["fold"] = "fold"


Item = Text | Card | Table | Figure | Panels | Strip | Fold


@dataclass(frozen=True)
class Section:
    """A part of a page; without a title it stands under the one before it. ``anchor``: its name for links."""

    title: str
    items: tuple[Item, ...]
    anchor: str = ""

    def json(self) -> Json:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Evaluated:
    """What a section is made from: a run folder's name, its record (run.json) and what came out."""

    folder: str
    record: Json
    evaluation: Evaluation

    @cached_property
    def rows(self) -> RowTable:
        """The judged rows, read once for all sections."""
        return whole_rows(self.folder, self.record)[0]


Maker = Callable[[Evaluated], Section | None]


@dataclass(frozen=True)
class SectionKind:
    """An enrolled section: ``make(run)`` gives it, or None where there is nothing to say. Sections stand in order of ``place``."""

    name: str
    place: int
    make: Maker

    def __repr__(self) -> str:
        return shown(self, self.name, f"at {self.place}")

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", self.make.__doc__ or "")


def section(name: str, place: int) -> Callable[[Maker], Maker]:
    """Decorator: enrol a function Evaluated -> Section | None. The built-in ones stand at 10, 20, ... so that others fit between."""

    def enrol(make: Maker) -> Maker:
        SECTIONS(name)(SectionKind(name, place, make))
        return make

    return enrol


def sections_of(run: Evaluated) -> list[Section]:
    """All registered sections that have something to say of a run, in order."""
    kinds = sorted((kind for _, kind in SECTIONS.items()), key=lambda k: (k.place, k.name))
    return [s for kind in kinds if (s := kind.make(run)) is not None]


def row(*entries: str | Entry) -> tuple[Entry, ...]:
    """A table's row; texts become plain cells."""
    return tuple(e if isinstance(e, Entry) else Entry(e) for e in entries)
