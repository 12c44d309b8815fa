"""The closed pool of a number as checks of rows read it: which images each sort of attack broke."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sparring.checks.base import Answer
from sparring.evaluation.results.cells import cell_keys
from sparring.evaluation.results.closed import pool_mask
from sparring.evaluation.results.table import RowTable

LOST, SURE = 0.5, 0.7  # shares of selection draws: an image is lost below the one, and safe from the other on


@dataclass(frozen=True)
class Pool:
    """One number (defense, threat, ball) and its rows: mask of the pool; white: those of the threat's own iterative gradient attacks.
    images: those right when clean; survivors: of them those that the whole pool leaves.
    """

    rows: RowTable
    defense: str
    threat: str
    norm: str
    eps: float
    mask: np.ndarray
    white: np.ndarray
    images: tuple[str, ...]
    survivors: tuple[str, ...]

    @property
    def subject(self) -> str:
        return f"{self.defense} / {self.threat}"

    def least(self, mask: np.ndarray) -> dict[str, float]:
        """Of every image with rows in ``mask`` its smallest share right in the selection draws."""
        image = self.rows.texts["image"]
        least = np.full(len(image.names), np.inf)
        np.minimum.at(least, image.numbers[mask], self.rows["p_select"][mask])
        there = np.isfinite(least)
        return dict(zip(image.names[there].tolist(), least[there].tolist(), strict=True))

    @property
    def missed(self) -> list[str]:
        """Images that the threat's own gradient attacks left and who knows or does less broke; none where there were no gradients."""
        own, less = self.least(self.white), self.least(self.mask & ~self.white)
        missed = [i for i in self.images if own.get(i, 1.0) >= SURE and less.get(i, 1.0) < LOST]
        return missed if self.white.any() else []

    @property
    def aimed(self) -> np.ndarray:
        """Rows of the threat's own attacks that went for this ball or for the nearest error, wherever their points ended."""
        rows, ball = self.rows, (self.rows["eps"] == self.eps) | np.isinf(self.rows["eps"])
        return rows.where(defense=self.defense, threat=self.threat, norm=self.norm) & ball

    def answer(
        self, ok: bool, value: float, threshold: float, message: str, images: tuple[str, ...] = (), warn: bool = False
    ) -> Answer:
        """About this number."""
        severity = "WARN" if warn else None
        about = self.defense, self.threat, self.norm, self.eps
        return Answer(ok, value, threshold, message, self.subject, severity, *about, images)


@lru_cache(maxsize=2)
def pools(rows: RowTable) -> tuple[Pool, ...]:
    """Every number of a finite ball whose points are pooled; kept for the checks of the same rows."""
    return tuple(_pools(rows))


def _pools(rows: RowTable) -> Iterator[Pool]:
    numbers = dict.fromkeys((d, t, n, e) for d, t, _, n, e in cell_keys(rows))
    for defense, threat, norm, eps in numbers:
        own = rows.where(defense=defense, threat=threat, norm=norm, eps=eps)
        at = int(np.flatnonzero(own)[0])
        if not np.isfinite(eps) or not rows["pooled"][at] or rows["averaged"][at]:
            continue
        mask = pool_mask(rows, defense, threat, norm, eps) & ~rows.clean(defense)
        white = mask & rows.where(threat=threat, kind="iterative")
        picked = rows.pick(mask | rows.clean(defense))
        clean = rows.pick(rows.clean(defense))
        right = {i for i, p in zip(clean.images, clean.p_select, strict=True) if p > LOST}
        survivors = tuple(i for i, p in zip(picked.images, picked.p_select, strict=True) if p > LOST and i in right)
        yield Pool(
            rows, defense, threat, norm, eps, mask, white, tuple(i for i in clean.images if i in right), survivors
        )
