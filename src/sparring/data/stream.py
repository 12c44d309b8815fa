"""Pixels of an image set: held in memory as they came, or read again from where they lie whenever a block of them is asked for."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sparring.core.errors import SparringError

HELD = 2**28  # bytes of pixels, as they came, up to which a set is held in memory
CACHED = 2**26  # bytes of pixels that were read and are kept for the next question
FEW = 8  # images: who asks for fewer at once goes through no set from front to back
CHUNK = 2**24  # values that are looked at together

Rows = slice | Sequence[int] | Tensor


class Source(Protocol):
    """Images that lie somewhere, listed but not read. ``labels``: where they are known before an image is read."""

    @property
    def ids(self) -> Sequence[str]: ...

    @property
    def labels(self) -> Sequence[int] | None: ...

    def read(self, number: int) -> tuple[np.ndarray, object]:
        """(H,W,C) uint8, or float32 in [0,1], and the label. Raises SparringError for what cannot be read whole."""
        ...


def as_floats(x: Tensor) -> Tensor:
    """Pixels in [0,1] as float32: of uint8 k/255, floats as they are."""
    return x.float() / 255 if x.dtype == torch.uint8 else x


def as_tensor(picture: np.ndarray) -> Tensor:
    """(C,H,W) of a picture (H,W,C)."""
    return torch.from_numpy(np.array(picture.transpose(2, 0, 1), order="C"))


def in_range(image: Tensor) -> Tensor:
    """The pixels of an image that was found good: round-off beyond [0,1] is cut, whenever it is read."""
    return image if image.dtype == torch.uint8 else image.float().clamp(0, 1)


def on_lattice(x: Tensor) -> Tensor:
    """(N,) bool: are all pixels of an image k/255, up to a thousandth of a step?"""
    if x.dtype == torch.uint8:
        return torch.ones(len(x), dtype=torch.bool)
    steps = x.flatten(1) * 255
    return ((steps - steps.round()).abs() < 1e-3).all(1)


def digest_of(image: Tensor, lattice: bool) -> str:
    """sha256 of an image's shape and pixels (C,H,W), as 8-bit ones where it is on the lattice."""
    image = (image * 255).round().to(torch.uint8) if lattice and image.dtype != torch.uint8 else image
    about = f"{tuple(image.shape)}{image.dtype}|".encode()
    return hashlib.sha256(about + image.contiguous().numpy().tobytes()).hexdigest()


class Held:
    """Pixels in memory: x (N,C,H,W) uint8 or float32 in [0,1]."""

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self.shape = (x.shape[1], x.shape[2], x.shape[3])

    def __len__(self) -> int:
        return len(self.x)

    def of(self, rows: Rows) -> Tensor:
        """Some of them (n,C,H,W) float32."""
        return as_floats(self.x[rows if isinstance(rows, slice | Tensor) else torch.as_tensor(list(rows))])

    def picked(self, index: Sequence[int]) -> Held:
        """Some of them, in that order."""
        return Held(self.x[torch.as_tensor(list(index))])

    @cached_property
    def on_lattice(self) -> Tensor:
        """(N,) bool: see ``on_lattice``."""
        size = max(1, CHUNK // self.x[0].numel())
        return torch.cat([on_lattice(self.x[i : i + size]) for i in range(0, len(self), size)])

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """See ``digest_of``."""
        return tuple(digest_of(x, bool(on)) for x, on in zip(self.x, self.on_lattice, strict=True))


class Streamed:
    """Pixels that a source reads again, one thread ahead of who goes through them. ``numbers``: which of the source's; ``digests``: what was seen
    when the set was read for the first time, which they must still be. Few are kept: the block that is asked for and the next.
    """

    def __init__(
        self,
        source: Source,
        numbers: Sequence[int],
        digests: tuple[str, ...],
        lattice: Tensor,
        shape: tuple[int, int, int],
    ) -> None:
        self.source, self.numbers, self.digests = source, numbers, digests
        self.on_lattice, self.shape = lattice, shape
        self._cache: OrderedDict[int, Future[Tensor]] = OrderedDict()
        self._reader: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_cache": OrderedDict(), "_reader": None}  # of another process's threads nothing is left

    def of(self, rows: Rows) -> Tensor:
        """Some of them (n,C,H,W) float32. Raises SparringError where one is not what it was."""
        asked = self._asked(rows)
        started = [self._start(i) for i in asked]
        images = torch.empty((len(asked), *self.shape))
        for i, future in enumerate(started):
            images[i] = as_floats(future.result())
        if isinstance(rows, slice) and len(asked) >= FEW:
            for i in range(asked[-1] + 1, min(asked[-1] + 1 + len(asked), len(self))):
                self._start(i)
        return images

    def picked(self, index: Sequence[int]) -> Streamed:
        """Some of them, in that order."""
        numbers, digests = [self.numbers[i] for i in index], tuple(self.digests[i] for i in index)
        return Streamed(self.source, numbers, digests, self.on_lattice[list(index)], self.shape)

    def _asked(self, rows: Rows) -> Sequence[int]:
        if isinstance(rows, slice):
            return range(*rows.indices(len(self)))
        if isinstance(rows, Tensor):
            rows = rows.nonzero()[:, 0] if rows.dtype == torch.bool else rows
            return [int(i) for i in rows.tolist()]
        return rows

    def _start(self, row: int) -> Future[Tensor]:
        """What reads an image, or has read it; the oldest that nobody asked for again are forgotten."""
        if row in self._cache:
            self._cache.move_to_end(row)
            return self._cache[row]
        if self._reader is None:
            self._reader = ThreadPoolExecutor(1, "images")
        channels, height, width = self.shape
        while len(self._cache) > max(2 * FEW, CACHED // (channels * height * width)):
            self._cache.popitem(last=False)
        self._cache[row] = self._reader.submit(self._read, row)
        return self._cache[row]

    def _read(self, row: int) -> Tensor:
        number = self.numbers[row]
        image = in_range(as_tensor(self.source.read(number)[0]))
        if digest_of(image, bool(self.on_lattice[row])) != self.digests[row]:
            raise SparringError(
                f"{self.source.ids[number]} is not what it was when the images were first read; put it back, or start anew with another --out"
            )
        return image


Pixels = Held | Streamed
