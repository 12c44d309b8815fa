"""What goes into the engine (``Batch``, ``RunOptions``) and what comes out (``Outcome``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

import torch
from annotated_types import Ge, Le
from torch import Tensor

from sparring.attacks.query import Reparametrisation
from sparring.core.columns import OUTCOME
from sparring.core.ranges import Count
from sparring.core.rows import Rows
from sparring.core.shown import many, shown
from sparring.core.spec import check_ranges

Stop = Literal["success", "never"]
DTYPES = {"int": torch.int64, "float": torch.float32, "bool": torch.bool}


@dataclass(frozen=True)
class Batch:
    """Images to attack: clean (N,C,H,W) in [0,1], label (N,), keys (N,) int64 noise keys; eps (N,) in the norm of the attack, None: the
    attack's own budget. mask: (N,1|C,H,W) pixels that may change. start: (N,C,H,W) points to begin at, for attacks that use them.
    queries: (N,) forwards an image may spend; what it cannot pay for does not count.
    """

    clean: Tensor
    label: Tensor
    keys: Tensor
    eps: Tensor | None = None
    mask: Tensor | None = None
    start: Tensor | None = None
    queries: Tensor | None = None

    def __len__(self) -> int:
        return len(self.clean)

    def at(self, rows: Tensor) -> Batch:
        """Some of the images."""
        optional = {k: vars(self)[k] for k in ("eps", "mask", "start", "queries")}
        chosen = {k: None if v is None else v[rows] for k, v in optional.items()}
        return Batch(self.clean[rows], self.label[rows], self.keys[rows], **chosen)

    def masked(self, pixels: Tensor) -> Batch:
        """The same images, of which of those pixels that might change before only ``pixels`` (H,W), 0 or 1, may."""
        mask = pixels.expand(len(self), 1, -1, -1)
        return replace(self, mask=mask if self.mask is None else mask * self.mask)

    def capped(self, queries: int | None) -> Batch:
        """The same images, each with at most so many forwards."""
        return self if queries is None else replace(self, queries=torch.full_like(self.label, queries))


@dataclass(frozen=True)
class RunOptions:
    """How a batch is attacked. ``stop``: "success" ends an image at its first success (deterministic targets); "never" spends the whole
    budget and keeps the highest margin (transfer, oblivious and random seats). ``slots``: live rows, changes speed and memory, never
    answers. ``progress(n)``: n more images are settled.
    """

    stop: Stop = "success"
    slots: Count = 64
    seed: Annotated[int, Ge(0), Le(2**63 - 1)] = 0  # repeats of an evaluation add to its own
    reparam: Reparametrisation | None = None
    progress: Callable[[int], None] | None = None

    def __post_init__(self) -> None:
        check_ranges("attack", self)


class Outcome(Rows):
    """Per image: ``x`` (N,C,H,W), the chosen point, and a leaf (N,) for each column of ``core.columns.OUTCOME``. ``success`` is the attack's
    own view of its *source*; the judge decides what counts.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return shown(self, many(len(self), "image"), f"{int(self.success.sum())} fooled")

    @classmethod
    def unseen(cls, clean: Tensor) -> Self:
        """What is known of images nobody has looked at yet: the clean image, and every column's fill."""
        full = {c.name: torch.full((len(clean),), c.fill, dtype=DTYPES[c.kind], device=clean.device) for c in OUTCOME}
        return cls(x=clean.clone(), **full)

    def merged(self, other: Rows, better: Tensor) -> Self:
        """Costs of both; everything else of ``other`` in the rows where it is ``better`` (N,)."""
        mine, theirs = dict(self.items()), dict(other.items())
        sums = {c.name: mine[c.name] + theirs[c.name] for c in OUTCOME if c.merge == "sum"}
        return self.where(better, other).put(**sums)
