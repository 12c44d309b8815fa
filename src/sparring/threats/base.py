"""Threat models: (defended system, pool of other models) -> a seat. Exact meanings: docs/protocol.md 1.4, docs/threats.md.

A threat knows no attack; an attack knows no threat. The evaluation is their product, minus what the access rules out. What a threat
dominates, grants, needs and shows stands in its own declaration and nowhere else.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sparring.core.errors import SparringError
from sparring.core.ranges import Draws
from sparring.core.registry import THREATS
from sparring.core.shown import shown
from sparring.core.spec import Fields, check_fields, check_ranges, check_value, parse, signature
from sparring.core.system import Reparametrisation, System
from sparring.core.victim import Access, Victim
from sparring.defenses.base import Defended

CONTEXT = ("defended", "others", "options")  # arguments that every threat gets; the rest are the user's fields


@dataclass(frozen=True)
class View:
    """One way the attacker in a seat looks at its source; each view is a separate run, the pool keeps the best."""

    name: str
    victim: Victim
    reparam: Reparametrisation | None = None
    judge: System | None = None  # only where this view's points are judged on another system than the seat's
    draw: int = 0  # which draw of an averaged threat it is

    @property
    def id(self) -> str:
        """Everything about the source that can change an answer."""
        v = self.victim
        members = [(s.id, s.frozen, s.random, *([True] if s.exhaustive else [])) for s in v.systems]
        draws = v.draws if v.random else 1
        combine = v.combine if v.random or len(v.systems) > 1 else ""
        answers = v.answers if v.random else 1
        return repr((members, int(v.access), draws, combine, v.amp, answers, repr(self.reparam)))


@dataclass(frozen=True)
class Seat:
    """Where an attacker sits: the views it may use, when it stops, which system judges, and how results count.

    ``pooled``: its points join the closed pool of stronger threats. ``averaged``: the *mean* accuracy over its draws (a
    view's ``draw``) is reported, worst view within a draw; ``repeats``: how often an attack is drawn
    anew. ``judge``: the deployed system unless the threat says otherwise. ``queries``: what an image may cost. ``warm``: name
    of the threat whose points decision attacks begin at.
    """

    threat: str
    views: tuple[View, ...]
    access: Access
    stop: Literal["success", "never"]
    judge: System
    source: str
    pooled: bool = True
    averaged: bool = False
    repeats: int = 1
    queries: int | None = None
    warm: str = ""

    @property
    def judged_elsewhere(self) -> bool:
        """Is its judge another system than the deployed one? Then its cells hold clean rows of their own."""
        return not self.pooled and not self.averaged


@dataclass(frozen=True)
class Options:
    """What all seats share: EOT draws per gradient for adaptive seats, bfloat16 gradients."""

    draws: Draws = 8
    amp: bool = False

    def __post_init__(self) -> None:
        check_ranges("options", self)


@dataclass(frozen=True)
class ThreatKind:
    """A threat as declared. ``make(defended, others, options, **fields) -> Seat``.

    over: names of the threats whose points it inherits (PROTOCOL 1.5), transitively. grants: the access of its seat. needs: what --sources
    must hold, in words, or "". shows: what its numbers mean, in one clause. merges: points of the same threat with other fields are its own too.
    pictured: examples of it are worth a look. deployed: its source is the deployed system itself. adaptive: its attacker knows the defense and
    inherits every point of who knows less, so that a number under it may be said to hold.
    """

    name: str
    make: Callable[..., Seat]
    grants: Access
    shows: str
    over: tuple[str, ...] = ()
    needs: str = ""
    merges: bool = False
    pictured: bool = False
    deployed: bool = False
    adaptive: bool = False

    def __repr__(self) -> str:
        return shown(self, self.name, f"grants {self.grants.name}", self.shows)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "__doc__", inspect.getdoc(self.make) or ""
        )  # what a threat means stands at its function
        object.__setattr__(self, "__module__", self.make.__module__)

    @property
    def fields(self) -> Fields:
        """The user's fields: name -> (type, default)."""
        return signature(self.make, CONTEXT)

    @property
    def dominated(self) -> set[str]:
        """The names of all threats whose points it inherits, itself included."""
        return {self.name}.union(*(THREATS[name].dominated for name in self.over))


def threat_kind(
    name: str,
    *,
    grants: Access,
    shows: str,
    over: Sequence[str] = (),
    needs: str = "",
    merges: bool = False,
    pictured: bool = False,
    deployed: bool = False,
    adaptive: bool = False,
) -> Callable[[Callable[..., Seat]], Callable[..., Seat]]:
    """Decorator: enrol a function (defended, others, options, **fields) -> Seat as a threat; see ``ThreatKind``."""

    def enrol(make: Callable[..., Seat]) -> Callable[..., Seat]:
        THREATS(name)(ThreatKind(name, make, grants, shows, tuple(over), needs, merges, pictured, deployed, adaptive))
        return make

    return enrol


@dataclass(frozen=True)
class Threat:
    """A named threat with its fields filled. ``seat`` makes the seat; ``str()`` is its spec text."""

    kind: ThreatKind
    arguments: tuple[tuple[str, object], ...]
    text: str

    def __repr__(self) -> str:
        return shown(self, self.text, f"grants {self.kind.grants.name}")

    def __post_init__(self) -> None:
        known = self.kind.fields
        for field, value in self.arguments:
            if field in known:
                check_value(self.kind.name, field, known[field][0], value)

    @property
    def name(self) -> str:
        return self.kind.name

    @property
    def filled(self) -> tuple[tuple[str, object], ...]:
        """All its fields with their values: two texts that say the same are one threat."""
        defaults = {k: default for k, (_, default) in self.kind.fields.items()}
        return tuple(sorted({**defaults, **dict(self.arguments)}.items()))

    def __str__(self) -> str:
        return self.text

    def seat(self, defended: Defended, others: Sequence[Defended] = (), options: Options | None = None) -> Seat:
        """The seat against ``defended``; ``others``: models that share no weights with it."""
        if self.kind.needs and not others:
            raise SparringError(f"threat {self.name} needs {self.kind.needs}: pass --sources SPEC[,SPEC...]")
        seat = self.kind.make(defended, others, options or Options(), **dict(self.arguments))
        return replace(seat, threat=self.text)

    def facts(self) -> dict[str, object]:
        """What a run folder remembers of it, so that results are counted without this room."""
        kind = self.kind
        return {
            "name": kind.name,
            "dominated": sorted(kind.dominated),
            "merges": kind.merges,
            "pictured": kind.pictured,
            "deployed": kind.deployed,
            "shows": kind.shows,
            "grants": kind.grants.name,
            "adaptive": kind.adaptive,
            "queries": dict(self.filled).get("queries"),
        }


def threat(text: str) -> Threat:
    """A ``Threat`` from spec text: ``oblivious``, ``transfer:mode=probs``, ``noise:draws=20``."""
    spec = parse(text)
    kind: ThreatKind = THREATS[spec.name]
    return Threat(kind, tuple(sorted(check_fields(spec.name, spec.values, kind.fields).items())), str(spec))
