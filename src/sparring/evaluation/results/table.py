"""``RowTable``: the judged rows as columns, and the worst candidate of each image.

A row is one judged candidate of one image. The clean image is always a candidate, so robust <= clean by construction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from sparring.core.columns import STOPS, Json
from sparring.core.errors import SparringError
from sparring.evaluation.records.rows import StoredRows

CLEAN = "clean"
Column = TypeVar("Column")


@dataclass(frozen=True)
class ThreatFacts:
    """What results need to know of a threat, as its run remembers it: its registered name, the names of those whose points it inherits
    (itself included), whether it shares points with the same threat of other fields, whether examples of it are worth a look, whether its
    source is the deployed system, what its seat grants (the name of an ``Access``), whether its attacker knows the defense, how
    many queries it allows an image (None: it does not count them).
    """

    name: str
    dominated: frozenset[str]
    merges: bool = False
    pictured: bool = False
    deployed: bool = False
    shows: str = ""
    grants: str = ""
    adaptive: bool = False
    queries: int | None = None

    @classmethod
    def of(cls, facts: Json) -> ThreatFacts:
        return cls(**{**facts, "dominated": frozenset(facts["dominated"])})


@dataclass(frozen=True)
class Picked:
    """Per image (n,), in image order: the worst candidate's accuracy in the judge draws, and what else is known of
    it.
    """

    images: list[str]
    p: np.ndarray
    first: np.ndarray
    k: np.ndarray
    draws: int
    p_8bit: np.ndarray  # nan where the image is not on the lattice
    p_truncated: np.ndarray  # the same without refinement
    p_select: np.ndarray
    rows: np.ndarray  # the number of the chosen row


@dataclass(frozen=True)
class Texts:
    """A column of texts: each as its number (n,) among the sorted ``names``, so that it is compared and sorted as an integer."""

    numbers: np.ndarray
    names: np.ndarray

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> Texts:
        """Of a column of a table; what is missing (in older editions) is an empty text."""
        chunks = (column if pa.types.is_dictionary(column.type) else column.dictionary_encode()).chunks
        there = [[*chunk.dictionary.to_pylist(), *([""] if chunk.null_count else [])] for chunk in chunks]
        names = np.array(sorted({name for texts in there for name in texts}), object)
        rank = {name: number for number, name in enumerate(names)}
        numbers, end = np.empty(len(column), _codes(names)), 0
        for chunk, texts in zip(chunks, there, strict=True):
            ranks = np.array([rank[name] for name in texts], numbers.dtype)
            at = chunk.indices.fill_null(len(texts) - 1).to_numpy(zero_copy_only=False)
            numbers[end : end + len(chunk)] = ranks[at]
            end += len(chunk)
        return cls(numbers, names)

    @property
    def values(self) -> np.ndarray:
        """The texts themselves."""
        return self.names[self.numbers]

    def at(self, rows: np.ndarray) -> Texts:
        """Those of some rows."""
        return Texts(self.numbers[rows], self.names)

    def equal(self, text: str) -> np.ndarray:
        """(n,) bool: is it this text?"""
        at = np.searchsorted(self.names, text) if len(self.names) else 0
        known = at < len(self.names) and self.names[at] == text
        return self.numbers == at if known else np.zeros(len(self.numbers), bool)

    def among(self, texts: Iterable[str]) -> np.ndarray:
        """(n,) bool: is a text one of these?"""
        wanted = set(texts)
        return np.array([name in wanted for name in self.names], bool)[self.numbers]

    def joined(self, other: Texts) -> Texts:
        """The texts of both, one after the other."""
        names, numbers = np.unique(np.concatenate([self.names, other.names]).astype(object), return_inverse=True)
        mine, theirs = np.split(numbers.astype(_codes(names)), [len(self.names)])
        return Texts(np.concatenate([mine[self.numbers], theirs[other.numbers]]), names)


class Lazy(dict[str, Column]):
    """Columns by name, each made when it is asked for: most questions need few of many."""

    def __init__(self, names: Iterable[str], make: Callable[[str], Column]) -> None:
        super().__init__()
        self.names, self.make = tuple(names), make

    def __missing__(self, name: str) -> Column:
        if name not in self.names:
            raise KeyError(name)
        self[name] = self.make(name)
        return self[name]


class RowTable:
    """The judged rows as numpy columns, with the selections that results need.

    ``order``: texts of defenses, threats and attacks as the user gave them; results come out in that order. ``threats``: facts by the text
    of a threat; one without facts dominates nothing.
    """

    def __init__(self, table: pa.Table | StoredRows, order: Sequence[str] = (), threats: Json | None = None) -> None:
        self.threats = {text: ThreatFacts.of(facts) for text, facts in (threats or {}).items()}
        self.rank = {text: i for i, text in enumerate(order)}
        texts = [name for name in table.column_names if pa.types.is_string(table.schema.field(name).type)]
        others = [name for name in table.column_names if name not in texts]
        self.texts: Lazy[Texts] = Lazy(texts, lambda name: Texts.of(table[name]))
        self.columns: Lazy[np.ndarray] = Lazy(others, lambda name: _numbers(table[name]))
        self.size = table.num_rows
        self._masks: dict[tuple[str, str], np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        return self.texts[name].values if name in self.texts.names else self.columns[name]

    def at(self, name: str, mask: np.ndarray | int) -> np.ndarray:
        """The texts of a column in a mask, or in one row."""
        return self.texts[name].names[self.texts[name].numbers[mask]]

    def among(self, name: str, texts: Iterable[str]) -> np.ndarray:
        """Mask of rows whose text in a column is one of these."""
        return self.texts[name].among(texts)

    def of_images(self, mask: np.ndarray) -> np.ndarray:
        """Mask of all rows of those images that have a row in a mask."""
        image = self.texts["image"]
        return _there(image.numbers[mask], len(image.names))[image.numbers]

    def distinct(self, name: str, mask: np.ndarray) -> np.ndarray:
        """The texts of a column in a mask, sorted, each once."""
        column = self.texts[name]
        return column.names[_there(column.numbers[mask], len(column.names))]

    def balls(self) -> np.ndarray:
        """The few different radii, in order; all of them need not be sorted for that."""
        return np.sort(pa.array(self["eps"]).unique().to_numpy(zero_copy_only=False))

    def only(self, mask: np.ndarray) -> RowTable:
        """The rows in a mask."""
        part, at = copy(self), np.flatnonzero(mask)
        part.columns = Lazy(self.columns.names, lambda name: self.columns[name][at])
        part.texts = Lazy(self.texts.names, lambda name: self.texts[name].at(at))
        part.size, part._masks = len(at), {}
        return part

    def joined(self, other: RowTable) -> RowTable:
        """The rows of both, each once; the facts and the order are this one's."""
        both = copy(self)
        both.columns = Lazy(self.columns.names, lambda name: np.concatenate([self.columns[name], other.columns[name]]))
        both.texts = Lazy(self.texts.names, lambda name: self.texts[name].joined(other.texts[name]))
        both.size, both._masks = self.size + other.size, {}
        clean = both.where(threat=CLEAN)
        return both.only(~clean | (np.arange(len(clean)) < self.size))  # the clean images stand in both

    def where(self, **equal: Any) -> np.ndarray:
        """Bool mask of rows whose columns equal the given values."""
        mask = np.ones(self.size, bool)
        for name, value in equal.items():
            mask &= self._equal(name, value) if name in self.texts.names else self.columns[name] == value
        return mask

    def _equal(self, name: str, text: str) -> np.ndarray:
        """Mask of rows with a text in a column, kept: results ask for the same few again and again."""
        if (name, text) not in self._masks:
            self._masks[name, text] = self.texts[name].equal(text)
        return self._masks[name, text]

    def facts(self, threat: str) -> ThreatFacts:
        """The facts of a threat by its text."""
        # a threat without facts would inherit nothing: a smaller pool, too high a number
        if self.threats and threat != CLEAN and threat not in self.threats:
            raise SparringError(f"the run's record says nothing of its threat {threat}: its run.json is damaged")
        return self.threats.get(threat) or ThreatFacts(threat, frozenset({threat}))

    @property
    def spared(self) -> np.ndarray:
        """Rows of images that an attack on survivors alone left as they were, because attacks before it had broken them."""
        return self["stopped"] == STOPS.index("broken before")

    def clean(self, defense: str) -> np.ndarray:
        """The clean images on the deployed system."""
        return self.where(defense=defense, threat=CLEAN, pooled=True)

    def pick(self, mask: np.ndarray, average: bool = False) -> Picked:
        """The worst candidate per image among the rows in ``mask``: least accurate in the *selection* draws, then
        least margin; or, with ``average``, the mean over an image's rows.
        """
        return self._mean(np.flatnonzero(mask)) if average else self._worst(np.flatnonzero(mask))

    def _worst(self, index: np.ndarray) -> Picked:
        numbers, names = self.texts["image"].numbers[index], self.texts["image"].names
        there = _there(numbers, len(names))
        number, of = np.flatnonzero(there), (np.cumsum(there) - 1)[numbers]
        chosen = index[_first_least(of, len(number), self["p_select"][index], -self["margin"][index])]
        draws = self["draws"][chosen]
        lattice, plain = (self._stored(c, chosen) for c in ("k_8bit", "k_truncated"))
        if len(index) and int(self["draws"][index].max()) == 1:
            # a witness is a witness: for a deterministic system any lattice point that fools counts on the lattice
            lattice, plain = (_least(of, len(number), self._stored(c, index)) for c in ("k_8bit", "k_truncated"))
        return Picked(
            list(names[number]),
            self["k"][chosen] / draws,
            self["correct"][chosen],
            self["k"][chosen],
            int(draws[0]),
            lattice,
            plain,
            self["p_select"][chosen],
            chosen,
        )

    def _mean(self, index: np.ndarray) -> Picked:
        """Within a draw the worst view counts, then draws are averaged."""
        image = self.texts["image"]
        # averaged draws stay in the order they were drawn, so that the first is a fair one
        index = index[np.lexsort((self.texts["view"].numbers[index], self["draw"][index], image.numbers[index]))]
        k, shares = self["k"][index], self["k"][index] / self["draws"][index]
        first = int(self["draws"][index[0]])
        of, draw = image.numbers[index], self["draw"][index]
        group = np.flatnonzero(np.concatenate([[True], (draw[1:] != draw[:-1]) | (of[1:] != of[:-1])]))
        share, k8, plain8 = (
            np.minimum.reduceat(v, group)
            for v in (shares, *(self._stored(c, index) for c in ("k_8bit", "k_truncated")))
        )
        index = index[group]
        number, start = np.unique(image.numbers[index], return_index=True)
        mean = lambda v: np.add.reduceat(v, start) / np.diff(np.append(start, len(index)))  # noqa: E731
        return Picked(
            list(image.names[number]),
            mean(share),
            self["correct"][index][start],
            k[group][start],
            first,
            mean(k8),
            mean(plain8),
            mean(self["p_select"][index]),
            index[start],
        )

    def _stored(self, column: str, at: np.ndarray) -> np.ndarray:
        """The share of draws in which 8-bit images are right, nan for rows whose images are not on the lattice."""
        return np.where(self["lattice"][at], self[column][at] / self["draws"][at], np.nan)


SMALL = 2**24  # below it four bytes hold a whole number, and what few of them add up to


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A column of numbers, in four bytes each where these are whole and small."""
    values = column.to_numpy(zero_copy_only=False)
    if values.dtype == np.int64 and len(values) and values.min() > -SMALL and values.max() < SMALL:
        return values.astype(np.int32)
    return values


def _codes(names: np.ndarray) -> np.dtype:
    """The smallest type for numbers of so many names, and for -1."""
    return np.min_scalar_type(-len(names) - 1)


def _there(numbers: np.ndarray, count: int) -> np.ndarray:
    """(count,) bool: which of the numbers below ``count`` are there."""
    there = np.zeros(count, bool)
    there[numbers] = True
    return there


def _least(of: np.ndarray, groups: int, values: np.ndarray) -> np.ndarray:
    """(groups,) the least of the values of each group; nan where one is."""
    least = np.full(groups, np.inf)
    with np.errstate(invalid="ignore"):  # nan is an answer here
        np.minimum.at(least, of, values)
    return least


def _first_least(of: np.ndarray, groups: int, *keys: np.ndarray) -> np.ndarray:
    """(groups,) which member of each group comes first in the order of the keys, the first key first; no number comes last, equal ones as they stand."""
    at = np.arange(len(of))
    for key in keys:
        key = np.where(np.isnan(key), np.inf, key)
        at = at[key[at] == _least(of[at], groups, key[at])[of[at]]]
    first = np.empty(groups, np.int64)
    first[of[at][::-1]] = at[::-1]
    return first


def plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf"
    return value
