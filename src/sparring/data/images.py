"""``ImageSet``: what every evaluation runs on."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from sparring.core.errors import SparringError
from sparring.core.shown import many, shown
from sparring.data.boundary import some, whole
from sparring.data.labels import as_labels
from sparring.data.pictures import require_alike
from sparring.data.pixels import as_pixels, check_pixels, check_scale
from sparring.data.stream import (
    HELD,
    Held,
    Pixels,
    Rows,
    Source,
    Streamed,
    as_floats,
    as_tensor,
    digest_of,
    in_range,
    on_lattice,
)

OFTEN = 100  # images that are read between two words about it


@dataclass(frozen=True)
class ImageSet:
    """stored: the pixels, in memory or read when they are asked for; y (N,) int64, ids (N) stable names, class names if known.

    ``lattice``: all pixels are k/255, so that 8-bit scores exist. ``left_out``: names of images that could not be read and were skipped on
    request. Made by ``ImageSet.of`` or of an ``Unread``, which refuse bad pixels and labels.
    """

    stored: Pixels = field(repr=False)
    y: Tensor
    ids: tuple[str, ...]
    name: str
    classes: tuple[str, ...] = ()
    lattice: bool = True
    left_out: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return shown(
            self,
            self.name,
            many(len(self), "image"),
            "x".join(map(str, self.shape)),
            "8-bit" if self.lattice else "float",
        )

    @classmethod
    def of(
        cls,
        x: object,
        y: object,
        *,
        ids: Sequence[str] | None = None,
        name: str = "images",
        classes: Sequence[str] = (),
        left_out: Sequence[str] = (),
    ) -> ImageSet:
        """Check and normalise images and labels, as ``as_pixels`` and ``as_labels`` say: tensors, arrays or lists.

        Raises SparringError for NaN, values outside [0,1] (normalised or 0-255 floats), wrong shapes and types, labels that are no class
        numbers, duplicate ids.
        """
        pixels = as_pixels(x, name)
        check_scale(float(as_floats(pixels.amax())), name)
        return cls.stored_as(Held(pixels), as_labels(y, len(pixels), name), ids, name, classes, left_out)

    @classmethod
    def stored_as(
        cls,
        stored: Pixels,
        y: Tensor,
        ids: Sequence[str] | None,
        name: str,
        classes: Sequence[str],
        left_out: Sequence[str],
    ) -> ImageSet:
        """Of checked pixels and labels."""
        ids = tuple(ids) if ids is not None else tuple(str(i) for i in range(len(stored)))
        if len(ids) != len(stored):
            raise SparringError(f"{name}: {len(stored)} images and {len(ids)} ids; one id per image is needed")
        if len(set(ids)) != len(ids):
            twice = next(i for i, count in Counter(ids).items() if count > 1)
            raise SparringError(
                f"{name}: image ids are not unique: {twice} stands there twice; give each image a name of its own"
            )
        if classes and int(y.max()) >= len(classes):
            raise SparringError(
                f"{name}: label {int(y.max())} has no name among {len(classes)} classes; pass all names"
            )
        return cls(stored, y, ids, name, tuple(classes), bool(stored.on_lattice.all()), tuple(left_out))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C,H,W) of each image."""
        return self.stored.shape

    @property
    def values(self) -> int:
        """Numbers in an image."""
        channels, height, width = self.shape
        return channels * height * width

    def pixels(self, rows: Rows) -> Tensor:
        """Some of the images (n,C,H,W) float32 in [0,1]: what is asked of a set that may be larger than memory."""
        return self.stored.of(rows)

    @property
    def x(self) -> Tensor:
        """All images (N,C,H,W) float32 in [0,1], made anew each time."""
        return self.pixels(slice(None))

    @property
    def digests(self) -> tuple[str, ...]:
        """Per image, the sha256 of its pixels."""
        return self.stored.digests

    @cached_property
    def identities(self) -> tuple[str, ...]:
        """Per image, the sha256 of all that can change an answer about it: pixels, label, the id that keys its noise, and whether 8-bit scores exist."""
        kind = "" if self.lattice else "|float"
        return tuple(
            hashlib.sha256(f"{name}|{label}|{digest}{kind}".encode()).hexdigest()
            for digest, label, name in zip(self.digests, numbers_of(self.y), self.ids, strict=True)
        )

    @property
    def hash(self) -> str:
        """The sha256 of all images, labels and ids, in their order."""
        return hashlib.sha256("".join(self.identities).encode()).hexdigest()

    def at(self, index: Sequence[int]) -> ImageSet:
        """Some of the images, ids kept."""
        ids, y = [self.ids[i] for i in index], self.y[torch.as_tensor(list(index))]
        part = self.stored_as(self.stored.picked(index), y, ids, self.name, self.classes, self.left_out)
        return replace(part, lattice=self.lattice)

    def draw(self, limit: int | None = None, seed: int | None = None, keep: Sequence[int] | None = None) -> ImageSet:
        """The first ``limit`` images, or with ``seed`` a drawn subset in id order; ``keep``: only these labels."""
        index = drawn(len(self), numbers_of(self.y), self.name, limit, seed, keep)
        return self if len(index) == len(self) else self.at(index)


def numbers_of(labels: Tensor) -> list[int]:
    """Labels as plain numbers."""
    return [int(label) for label in labels]


def drawn(
    count: int,
    labels: Sequence[int] | None,
    name: str,
    limit: int | None,
    seed: int | None,
    keep: Sequence[int] | None,
) -> list[int]:
    """Which of ``count`` images are meant, see ``ImageSet.draw``. ``labels`` are asked for ``keep`` alone. Raises SparringError where none is left."""
    limit = None if limit is None else whole("limit", limit, 1)
    seed = None if seed is None else whole("seed", seed, 0)
    index = np.arange(count)
    if keep is not None:
        assert labels is not None
        if not len(keep):
            raise SparringError(f"{name}: no images left after classes=; name at least one class")
        missing = sorted({int(c) for c in keep} - set(labels))
        if missing:
            raise SparringError(f"{name}: no images of classes={'+'.join(map(str, missing))}; leave them out")
        index = index[np.isin(np.asarray(labels), list(keep))]
    if limit is not None and limit < len(index):
        if seed is not None:
            return np.sort(np.random.default_rng(seed).choice(index, limit, replace=False)).tolist()
        if labels is not None:
            _warn_of_one_sided(np.asarray(labels)[index], limit, name)
        index = index[:limit]
    return index.tolist()


def _warn_of_one_sided(labels: np.ndarray, limit: int, name: str) -> None:
    """Of a set that is sorted by class, as folders are, the first images speak for its first classes alone."""
    of, classes = len(np.unique(labels[:limit])), len(np.unique(labels))
    if of < classes and bool((np.diff(labels) >= 0).all()):
        warnings.warn(
            f"{name}: its images are sorted by class, so the first {limit} are of {of} of {classes} classes; write seed=0 to draw them from all",
            stacklevel=3,
        )


@dataclass(frozen=True)
class Unread:
    """An image set that is listed and not yet read."""

    source: Source
    name: str
    classes: tuple[str, ...] = ()

    def draw(
        self,
        limit: int | None = None,
        seed: int | None = None,
        keep: Sequence[int] | None = None,
        skip_bad: bool = False,
        say: Callable[[str], None] = lambda _: None,
    ) -> ImageSet:
        """Read once what is meant (see ``ImageSet.draw``), and check it. A small set is held in memory; of a larger one only digests are, and its
        pixels are read again when they are asked for. ``skip_bad``: what cannot be read is left out. Raises SparringError for it otherwise, and for
        images that differ in form.
        """
        count, labels = len(self.source.ids), self.source.labels
        if skip_bad or (keep is not None and labels is None):  # only what was read is known well enough
            return self._read(range(count), skip_bad, say).draw(limit, seed, keep)
        return self._read(drawn(count, labels, self.name, limit, seed, keep), skip_bad, say)

    def _read(self, index: Sequence[int], skip_bad: bool, say: Callable[[str], None]) -> ImageSet:
        reading, ids = _Reading(self.source, self.name, len(index)), self.source.ids
        bad: dict[str, str] = {}
        for done, number in enumerate(index, 1):
            if done % OFTEN == 0:
                say(f"reading image {done} of {len(index)}")
            try:
                picture, label = self.source.read(number)
            except SparringError as error:
                bad[ids[number]] = str(error).removeprefix(ids[number]).lstrip(": ")
            else:
                reading.add(number, picture, label)
        if bad and (not skip_bad or not reading.numbers):
            name, fault = next(iter(bad.items()))
            raise SparringError(
                f"{self.name}: {len(bad)} unreadable image(s), the first is {name}: {fault}; or pass --skip-bad"
            )
        if not reading.numbers:
            raise SparringError(f"{self.name}: no images; at least one is needed")
        if bad:
            warnings.warn(f"{self.name}: {len(bad)} of {len(index)} images left out: {some(list(bad))}", stacklevel=2)
        reading.require_steady()
        check_scale(reading.high, self.name)
        y = as_labels(reading.labels, len(reading.labels), self.name)
        named = [ids[number] for number in reading.numbers]
        return ImageSet.stored_as(reading.stored(), y, named, self.name, self.classes, list(bad))


class _Reading:
    """The one pass over ``count`` images of a source: they are alike, in range, and held as long as they are small."""

    def __init__(self, source: Source, name: str, count: int) -> None:
        self.source, self.name, self.count = source, name, count
        self.numbers: list[int] = []
        self.labels: list[object] = []
        self.seen: list[tuple[str, bool]] = []  # digests, and whether they are of 8-bit pixels
        self.held: Tensor | None = None
        self.form, self.high = (0, 0, 0), 0.0

    def add(self, number: int, picture: np.ndarray, label: object) -> None:
        """The next image (H,W,C)."""
        image, name = as_tensor(picture), self.source.ids[number]
        height, width, channels = picture.shape
        if not self.numbers:
            self.form = (height, width, channels)
            self.held = self._room(image.dtype)
        require_alike(
            (height, width, channels), self.form, name, self.source.ids[(self.numbers or [number])[0]], self.name
        )
        if image.dtype != torch.uint8:
            image = check_pixels(image.float(), f"{self.name}: {name}")
            if self.held is not None and self.held.dtype == torch.uint8:
                before, self.held = self.held[: len(self.numbers)], self._room(torch.float32)
                if self.held is not None:
                    self.held[: len(before)] = as_floats(before)
                else:
                    self.seen = [(digest_of(x, True), True) for x in before]
        if self.held is not None:
            self.held[len(self.numbers)] = as_floats(image) if self.held.is_floating_point() else image
        else:
            lattice = bool(on_lattice(image[None]))
            self.seen.append((digest_of(image, lattice), lattice))
        self.numbers.append(number)
        self.labels.append(label)
        self.high = max(self.high, float(as_floats(image.amax())))

    def require_steady(self) -> None:
        """Raise SparringError where an image, read once more, is another: a random transform, whose numbers nobody could make again."""
        for row in {0, len(self.numbers) // 2, len(self.numbers) - 1}:
            again = in_range(as_tensor(self.source.read(self.numbers[row])[0]))
            if self.held is not None:
                same = torch.equal(as_floats(again), as_floats(self.held[row]))
            else:
                digest, lattice = self.seen[row]
                same = digest_of(again, lattice) == digest
            if not same:
                name = self.source.ids[self.numbers[row]]
                raise SparringError(
                    f"{self.name}: image {name} is another each time that it is read; leave random transforms out"
                )

    def stored(self) -> Pixels:
        """What was read."""
        if self.held is not None:
            return Held(self.held[: len(self.numbers)])
        height, width, channels = self.form
        digests, lattice = tuple(digest for digest, _ in self.seen), torch.tensor([on for _, on in self.seen])
        return Streamed(self.source, self.numbers, digests, lattice, (channels, height, width))

    def _room(self, dtype: torch.dtype) -> Tensor | None:
        """Memory for all images, or None where they are too many to be held."""
        height, width, channels = self.form
        values = self.count * channels * height * width
        return (
            torch.empty((self.count, channels, height, width), dtype=dtype) if values * dtype.itemsize <= HELD else None
        )
