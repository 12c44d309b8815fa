"""What the searches for the nearest point by labels alone share."""

from __future__ import annotations

from dataclasses import dataclass

from sparring.attacks.method import Method
from sparring.core.ranges import Count
from sparring.core.victim import Access, Goal


@dataclass(frozen=True, kw_only=True)
class LabelSearch(Method):
    """A search for the nearest point that asks for labels alone. ``queries`` an image may spend, one a step at least."""

    needs = Access.LABEL
    goal = Goal.MINIMAL
    settled = True
    queries: Count = 5000

    @property
    def iterations(self) -> int:
        return self.queries

    @property
    def query_cap(self) -> int:
        return self.queries

    @property
    def starts_at(self) -> str:
        return "search"
