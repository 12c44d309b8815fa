"""``RowTable``: the judged rows as columns, and the worst candidate of each image.

A row is one judged candidate of one image. The clean image is always a candidate, so robust <= clean by construction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from sparring.core.columns import STOPS, Json
from sparring.core.errors import SparringError

CLEAN = "clean"


@dataclass(frozen=True)
class ThreatFacts:
    """What results need to know of a threat, as its run remembers it: its registered name, the names of those whose points it inherits
    (itself included), whether it shares points with the same threat of other fields, whether examples of it are worth a look, whether its
    source is the deployed system, what its seat grants (the name of an ``Access``), whether its attacker knows the defense.
    """

    name: str
    dominated: frozenset[str]
    merges: bool = False
    pictured: bool = False
    deployed: bool = False
    shows: str = ""
    grants: str = ""
    adaptive: bool = False

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


class RowTable:
    """The judged rows as numpy columns, with the selections that results need.

    ``order``: texts of defenses, threats and attacks as the user gave them; results come out in that order. ``threats``: facts by the text
    of a threat; one without facts dominates nothing.
    """

    def __init__(self, table: pa.Table, order: Sequence[str] = (), threats: Json | None = None) -> None:
        self.threats = {text: ThreatFacts.of(facts) for text, facts in (threats or {}).items()}
        self.rank = {text: i for i, text in enumerate(order)}
        self.columns = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
        for name in ("check", "access"):  # older rows do not have them
            self.columns[name] = np.where(self.columns[name] == None, "", self.columns[name])  # noqa: E711
        self.size = table.num_rows

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def only(self, mask: np.ndarray) -> RowTable:
        """The rows in a mask."""
        part = copy(self)
        part.columns = {k: v[mask] for k, v in self.columns.items()}
        part.size = int(mask.sum())
        return part

    def joined(self, other: RowTable) -> RowTable:
        """The rows of both, each once; the facts and the order are this one's."""
        both = copy(self)
        both.columns = {k: np.concatenate([v, other.columns[k]]) for k, v in self.columns.items()}
        clean = both.columns["threat"] == CLEAN
        return both.only(~clean | (np.arange(len(clean)) < self.size))  # the clean images stand in both

    def where(self, **equal: Any) -> np.ndarray:
        """Bool mask of rows whose columns equal the given values."""
        mask = np.ones(self.size, bool)
        for name, value in equal.items():
            mask &= self[name] == value
        return mask

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
        index = np.flatnonzero(mask)
        # averaged draws stay in the order they were drawn, so that the first is a fair one
        quality = (
            (self["view"][index], self["draw"][index]) if average else (-self["margin"][index], self["p_select"][index])
        )
        order = np.lexsort((*quality, self["image"][index]))
        index = index[order]
        images, start = np.unique(self["image"][index], return_index=True)
        k, draws = self["k"][index], self["draws"][index]
        k8, plain8 = (
            np.where(self["lattice"][index], self[c][index] / draws, np.nan) for c in ("k_8bit", "k_truncated")
        )
        share = k / draws
        if average:
            # within a draw the worst view counts, then draws are averaged
            draw = self["draw"][index]
            change = (draw[1:] != draw[:-1]) | (self["image"][index][1:] != self["image"][index][:-1])
            group = np.flatnonzero(np.concatenate([[True], change]))
            share, k8, plain8 = (np.minimum.reduceat(v, group) for v in (share, k8, plain8))
            index = index[group]
            k, start = self["k"][index], np.unique(self["image"][index], return_index=True)[1]
            mean = lambda v: np.add.reduceat(v, start) / np.diff(np.append(start, len(index)))  # noqa: E731
            return Picked(
                list(images),
                mean(share),
                self["correct"][index][start],
                k[start],
                int(draws[0]),
                mean(k8),
                mean(plain8),
                mean(self["p_select"][index]),
                index[start],
            )
        # a witness is a witness: for a deterministic system any lattice point that fools counts on the lattice
        lattice, plain = (np.minimum.reduceat(k, start) if int(draws.max()) == 1 else k[start] for k in (k8, plain8))
        return Picked(
            list(images),
            share[start],
            self["correct"][index][start],
            k[start],
            int(draws[0]),
            lattice,
            plain,
            self["p_select"][index][start],
            index[start],
        )


def plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf"
    return value
