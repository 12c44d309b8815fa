"""Rows: a small immutable record of tensors, all with the same leading dimension, one row per live job."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator
from typing import Never, Self

import torch
from torch import Tensor

from sparring.core.geometry import per_row
from sparring.core.shown import many, shown


class Rows:
    """An attack's state. ``Rows(x=..., speed=...)``; read as attributes; ``put`` returns a changed copy.

    Every leaf is a tensor with leading dimension B. ``x`` (B,C,H,W) is the present candidate.
    """

    __slots__ = ("_leaves",)
    _leaves: dict[str, Tensor]

    def __init__(self, **leaves: Tensor) -> None:
        sizes = {v.shape[0] for v in leaves.values()}
        if len(sizes) > 1:
            raise ValueError(f"rows of different length: { {k: v.shape[0] for k, v in leaves.items()} }")
        object.__setattr__(self, "_leaves", leaves)

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self._leaves[name]
        except KeyError:
            raise AttributeError(f"no leaf {name!r}; there are {', '.join(self._leaves)}") from None

    def __setattr__(self, name: str, value: object) -> Never:
        raise AttributeError("rows are immutable: use put()")

    def __len__(self) -> int:
        return next(iter(self._leaves.values())).shape[0] if self._leaves else 0

    def __iter__(self) -> Iterator[str]:
        return iter(self._leaves)

    def __repr__(self) -> str:
        return shown(self, many(len(self), "row"), *self._leaves)

    def put(self, **leaves: Tensor) -> Self:
        """A copy with some leaves replaced or added."""
        return type(self)(**{**self._leaves, **leaves})

    def items(self) -> ItemsView[str, Tensor]:
        """Names and leaves."""
        return self._leaves.items()

    def keep(self, index: Tensor) -> Self:
        """The rows in ``index`` (bool mask or positions)."""
        return type(self)(**{k: v[index] for k, v in self._leaves.items()})

    def where(self, mask: Tensor, other: Rows) -> Self:
        """``other``'s row where ``mask`` (B,) is true, else this one's, over the leaves of ``other``."""
        return self.put(
            **{k: torch.where(per_row(mask, other._leaves[k]), other._leaves[k], self._leaves[k]) for k in other}
        )

    def paste(self, index: Tensor, rows: Rows) -> Self:
        """A copy whose rows at the positions ``index`` are those of ``rows``, over the leaves that this one has."""
        return self.put(**{k: v.index_copy(0, index, rows._leaves[k]) for k, v in self.items()})

    @staticmethod
    def cat(parts: list[Rows]) -> Rows:
        """Rows one after another; all parts have the same leaves."""
        return Rows(**{k: torch.cat([p._leaves[k] for p in parts]) for k in parts[0]})
