"""``Estimate``: what a dry run says of a plan, as json_safe data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from sparring.core.columns import Json
from sparring.evaluation.records.files import json_safe


@dataclass(frozen=True)
class PlannedCell:
    """One (defense, threat, attack) of a plan: the ids of its runs, and the most that they cost an image, in network calls."""

    defense: str
    threat: str
    attack: str
    norm: str
    eps: float
    runs: tuple[str, ...]
    forwards: int
    backwards: int


@dataclass(frozen=True)
class Estimate:
    """``skipped``: cells that an access rules out, and why. ``cost_per_image``: network calls of an image that survives everything, shared
    runs counted once. ``seconds``: of all images, at most.
    """

    cells: tuple[PlannedCell, ...]
    skipped: tuple[Mapping[str, str], ...]
    cost_per_image: Mapping[str, float]
    seconds: float

    @property
    def runs(self) -> set[str]:
        """The distinct runs."""
        return {run for cell in self.cells for run in cell.runs}

    def json(self) -> Json:
        """Plain values."""
        return json_safe(asdict(self))
