"""``Estimate``: what a dry run says of a plan, as json_safe data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from sparring.core.columns import Json
from sparring.core.shown import many, shown
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
    runs counted once. ``seconds``: of all images, at most, without what checks ask. ``asked``: network calls of active checks, and of the attacks
    that follow where they fail, per image that is left then; at most, and nothing where no image is left.
    """

    cells: tuple[PlannedCell, ...]
    skipped: tuple[Mapping[str, str], ...]
    cost_per_image: Mapping[str, float]
    seconds: float
    asked: Mapping[str, float] = field(default_factory=dict[str, float])

    def __repr__(self) -> str:
        return shown(
            self,
            many(len(self.cells), "cell"),
            many(len(self.skipped), "cell") + " skipped",
            f"at most {self.seconds:.0f} s",
        )

    @property
    def runs(self) -> set[str]:
        """The distinct runs."""
        return {run for cell in self.cells for run in cell.runs}

    def json(self) -> Json:
        """Plain values."""
        return json_safe(asdict(self))
