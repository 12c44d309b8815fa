"""The one table of result columns: what each is called, its type, what it holds before anything is known, how the jobs of an image merge,
and what it means. The engine's outcome, cascades, peers, the rows on disk and the docs are all read off it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

Json = dict[str, Any]  # a table of plain values, as JSON holds it
Kind = Literal["text", "int", "float", "bool"]
STOPS = (
    "steps",
    "success",
    "method",
    "queries",
    "wrong when clean",
    "broken before",
    "outside the ball",
)  # why an image's chosen job ended; stored as its position


@dataclass(frozen=True)
class Column:
    """``fill``: the value before anything is known. ``merge``: "sum" over an image's jobs, or "better": the value of the job whose point is
    kept. ``row``: its name in the rows on disk, "" where it is not stored. ``codes``: texts that stand for the numbers 0, 1, ...
    """

    name: str
    kind: Kind
    meaning: str
    fill: int | float | bool = 0
    merge: Literal["sum", "better"] = "better"
    row: str | None = None
    codes: tuple[str, ...] = ()

    @property
    def stored(self) -> str:
        """Its name in the rows, or ""."""
        return self.name if self.row is None else self.row


# what an attack writes down for an image, beside the point itself
OUTCOME = (
    Column(
        "success", "bool", "did the point fool the attack's own source, inside the ball", False, row="source_fooled"
    ),
    Column("margin", "float", "the source's success margin at the point", -math.inf, row=""),
    Column("distance", "float", "distance of the point in the attack's norm", math.inf, row=""),
    Column("forwards", "int", "network forwards that the image cost", 0, "sum"),
    Column("backwards", "int", "network backwards that the image cost", 0, "sum"),
    Column("job", "int", "number of the (restart, target) pair whose point it is", -1),
    Column("first_hit", "int", "step at which that job first succeeded; -1: never", -1),
    Column("best_hit", "int", "step at which that job saw the point; -1: no success", -1),
    Column("nonfinite_gradients", "int", "gradients that were not finite", 0, "sum"),
    Column("zero_gradients", "int", "gradients that were zero everywhere", 0, "sum"),
    Column("stopped", "int", "why that job ended", 0, codes=STOPS),
    Column("margin_start", "float", "success margin at the first point that was looked at", math.nan),
    Column("margin_middle", "float", "the same at the last point in the first half of the steps", math.nan),
    Column("margin_end", "float", "the same at the last point", math.nan),
    Column("gradient_end", "float", "l1 length of the last gradient", math.nan),
)

# what stands in every row: first whose row it is, then what the judge says of the point, then what the attack wrote down
ROW = (
    Column("defense", "text", "spec of the defense"),
    Column("threat", "text", "spec of the threat, or clean"),
    Column("attack", "text", "spec of the attack"),
    Column("view", "text", "which view of its source the attacker had"),
    Column("run", "text", "identity of the run that made the point"),
    Column("norm", "text", "norm of the attack's ball"),
    Column("eps", "float", "its radius in pixel units, inf: unbounded"),
    Column("image", "text", "id of the image"),
    Column("y", "int", "true label"),
    Column("random", "bool", "is the judged system random"),
    Column("pooled", "bool", "does the point join the closed pool"),
    Column("averaged", "bool", "is the mean over draws reported, not the worst"),
    Column("source_fooled", "bool", "did the point fool the attack's own source"),
    Column("feasible", "bool", "does the float point lie in ball and box, in float64"),
    Column("correct", "bool", "is the label right in the first judge draw"),
    Column("p_select", "float", "share right in the selection draws"),
    Column("margin", "float", "mean margin in the selection draws, positive: label lost"),
    Column("k", "int", "judge draws in which the label is right"),
    Column("draws", "int", "judge draws"),
    Column("label", "int", "label in the first judge draw"),
    Column("lattice", "bool", "are the images on the 8-bit lattice"),
    Column("k_8bit", "int", "k of the point stored as uint8"),
    Column("label_8bit", "int", "label of the point stored as uint8"),
    Column("k_truncated", "int", "k of the plainly truncated point"),
    Column("linf", "float", "distance to the clean image, linf"),
    Column("l2", "float", "distance to the clean image, l2"),
    Column("l1", "float", "distance to the clean image, l1"),
    Column("l0", "float", "changed pixels"),
    *(c for c in OUTCOME if c.stored not in ("", "source_fooled")),
    Column("kind", "text", "kind of the attack: iterative, single step, query, transfer or blind"),
    Column("start", "text", "where the attack begins"),
    Column("draw", "int", "number of the draw that an averaged threat repeats", 0),
    Column("judge", "text", "identity of the system that judged the point"),
    Column("source_clean", "bool", "is the attack's own source right on the clean image"),
    Column("clean_l2", "float", "l2 length of the clean image"),
    Column("size", "int", "numbers in an image, C*H*W"),
    Column("access", "text", "what the attack asks of its victim: none, label, scores or gradient"),
    Column("check", "text", "the check that asked for this attack, on survivors alone; empty: the user or the tier"),
)
