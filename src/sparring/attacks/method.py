"""``Method``: what an attack declares. The engine, the planner and the dry run read these declarations, nothing else."""

from __future__ import annotations

import difflib
import inspect
import math
from dataclasses import fields, is_dataclass, replace
from typing import ClassVar, Literal, Self

from torch import Tensor

from sparring.attacks.query import Query
from sparring.core.geometry import Norm
from sparring.core.rows import Rows
from sparring.core.spec import check_ranges, registered_name
from sparring.core.victim import Access, Goal

Kind = Literal["iterative", "single step", "query", "transfer", "blind"]


class Method:
    """An attack: a frozen dataclass with two pure functions over rows, ``init`` and ``advance``. The engine owns the loop.

    Its dataclass fields are the user's options and mean nothing to the engine: only what is declared here does. A class attribute or
    ClassVar that is not declared here is a TypeError, so that a misspelt declaration cannot pass in silence.
    """

    spec_name: ClassVar[str] = ""
    """The registered name."""
    needs: ClassVar[Access] = Access.GRADIENT
    """What it asks of the victim."""
    goal: ClassVar[Goal] = Goal.BUDGET
    """The best point inside a ball, or the nearest adversarial point."""
    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    """Norms it supports, the default first."""
    settled: ClassVar[bool] = False
    """Every point of note has been asked: the last iterate needs no look."""
    reparametrizes: ClassVar[bool] = True
    """Can it search in other variables than pixels, where a surrogate has such?"""
    attack_kind: ClassVar[type | None] = None
    """What runs it, where that is not the engine: a cascade or a peer's library."""

    steps: int = 0
    """Iterations of one job; most attacks make it a field."""

    def __post_init__(self) -> None:
        """Its fields are within their ranges. A method with a check of its own calls this one first."""
        if is_dataclass(self):
            check_ranges(registered_name(type(self)) or type(self).__name__, self)

    @property
    def kind(self) -> Kind:
        """What sort of attack it is: checks that compare sorts of attacks read this."""
        if self.needs is Access.NONE:
            return "blind"
        if self.needs < Access.GRADIENT:
            return "query"
        return "single step" if self.iterations == 1 else "iterative"

    @property
    def starts_at(self) -> str:
        """Where it begins: clean, random, nearest, ..."""
        return "clean"

    @property
    def travel(self) -> float:
        """How far its steps lead together at most, in radii of the ball: below 2 they cannot cross it. Infinite where steps follow the search."""
        return math.inf

    @property
    def iterations(self) -> int:
        """How often the engine calls ``advance``, at most."""
        return self.steps

    def iterations_of(self, values: int) -> int:
        """The same for an image of so many ``values``, where the image limits them."""
        return self.iterations

    @property
    def opening(self) -> tuple[int, int]:
        """(forwards, backwards) that ``init`` and the search for a start cost."""
        return 0, 0

    @property
    def asks(self) -> int:
        """Answers (scores or labels) of a step."""
        return 1

    def gradients(self, targeted: bool) -> int:
        """Gradients of a step of an attack that uses gradients."""
        return 1

    @property
    def query_cap(self) -> int | None:
        """Forwards that a job may spend by its own setting, or None."""
        return None

    @property
    def confidence(self) -> float:
        """The margin from which on a point counts as a success."""
        return 0.0

    @property
    def own_eps(self) -> float | None:
        """A budget that its own fields imply (one pixel), or None."""
        return None

    @property
    def boundless(self) -> bool:
        """Does it need no ball? A minimum-norm attack, or noise with a deviation of its own."""
        return self.goal is Goal.MINIMAL

    def init(self, q: Query) -> Rows:
        """The state of new rows; a leaf ``x`` (B,C,H,W) is required."""
        raise NotImplementedError

    def advance(self, q: Query, s: Rows) -> Rows:
        """One iteration."""
        raise NotImplementedError

    def done(self, q: Query, s: Rows) -> Tensor | None:
        """(B,) bool: rows that have nothing left to do; None: every row runs for all its iterations."""
        return None

    def brief(self, steps: int) -> Self:
        """The same attack with at most so many steps and one search: for checks that ask whether it runs at all."""
        assert is_dataclass(self), "an attack is a frozen dataclass"
        most = {"steps": steps, "searches": 1}
        own = {f.name: vars(self)[f.name] for f in fields(self) if f.name in most}
        return replace(self, **{k: min(v, most[k]) for k, v in own.items()})

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        annotated = inspect.get_annotations(cls)
        for name in {*cls.__dict__, *annotated}:
            is_field = name in annotated and not str(annotated[name]).startswith(("ClassVar", "typing.ClassVar"))
            value = cls.__dict__.get(name)
            if (
                name.startswith("_")
                or is_field
                or callable(value)
                or isinstance(value, property | classmethod | staticmethod)
            ):
                continue
            if not hasattr(Method, name):
                near = difflib.get_close_matches(name, [n for n in dir(Method) if not n.startswith("_")], 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise TypeError(
                    f"{cls.__name__}.{name} is declared by no attack{hint} (an option is an annotated field)"
                )
