"""``ImageSet``: what every evaluation runs on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from sparring.core.errors import SparringError
from sparring.data.boundary import whole
from sparring.data.labels import as_labels
from sparring.data.pixels import as_pixels, check_pixels, check_scale


@dataclass(frozen=True)
class ImageSet:
    """x (N,C,H,W) float32 in [0,1], y (N,) int64, ids (N) stable names, class names if known.

    ``lattice``: all pixels are k/255, so that 8-bit scores exist. ``left_out``: names of images that could not be read and were skipped on
    request. Made by ``ImageSet.of``, which refuses bad pixels and labels.
    """

    x: Tensor
    y: Tensor
    ids: tuple[str, ...]
    name: str
    classes: tuple[str, ...] = ()
    lattice: bool = True
    hash: str = field(default="", repr=False)
    left_out: tuple[str, ...] = ()

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
        check_scale(pixels, name)
        return cls._of(pixels, as_labels(y, len(pixels), name), ids, name, classes, left_out)

    @classmethod
    def _of(
        cls,
        x: Tensor,
        y: Tensor,
        ids: Sequence[str] | None,
        name: str,
        classes: Sequence[str],
        left_out: Sequence[str],
    ) -> ImageSet:
        """Of checked pixels and labels."""
        ids = tuple(ids) if ids is not None else tuple(str(i) for i in range(len(x)))
        if len(ids) != len(x):
            raise SparringError(f"{name}: {len(x)} images and {len(ids)} ids; one id per image is needed")
        if len(set(ids)) != len(ids):
            raise SparringError(f"{name}: image ids are not unique")
        if classes and int(y.max()) >= len(classes):
            raise SparringError(
                f"{name}: label {int(y.max())} has no name among {len(classes)} classes; pass all names"
            )
        steps = x * 255
        lattice = bool(((steps - steps.round()).abs() < 1e-3).all())
        digest = hashlib.sha256(repr((tuple(x.shape), ids)).encode())
        digest.update(x.contiguous().numpy().tobytes())
        digest.update(y.contiguous().numpy().tobytes())
        return cls(x, y, ids, name, tuple(classes), lattice, digest.hexdigest(), tuple(left_out))

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def identities(self) -> tuple[str, ...]:
        """Per image, the sha256 of all that can change an answer about it: pixels, label, and the id that keys its noise."""
        x = (self.x * 255).round().to(torch.uint8) if self.lattice else self.x
        about = f"{tuple(x.shape[1:])}{x.dtype}"
        return tuple(
            hashlib.sha256(f"{name}|{int(label)}|{about}|".encode() + image.numpy().tobytes()).hexdigest()
            for image, label, name in zip(x.contiguous(), self.y, self.ids, strict=True)
        )

    def at(self, index: Sequence[int]) -> ImageSet:
        """Some of the images, ids kept."""
        picked = torch.as_tensor(list(index))
        ids = [self.ids[i] for i in index]
        part = self._of(
            check_pixels(self.x[picked], self.name), self.y[picked], ids, self.name, self.classes, self.left_out
        )
        return replace(part, lattice=self.lattice)

    def draw(self, limit: int | None = None, seed: int | None = None, keep: Sequence[int] | None = None) -> ImageSet:
        """The first ``limit`` images, or with ``seed`` a drawn subset in id order; ``keep``: only these labels."""
        limit = None if limit is None else whole("limit", limit, 1)
        seed = None if seed is None else whole("seed", seed, 0)
        index = np.arange(len(self))
        if keep is not None:
            if not len(keep):
                raise SparringError(f"{self.name}: no images left after classes=; name at least one class")
            missing = sorted({int(c) for c in keep} - set(map(int, self.y)))
            if missing:
                raise SparringError(f"{self.name}: no images of classes={'+'.join(map(str, missing))}; leave them out")
            index = index[np.isin(self.y.numpy(), list(keep))]
        if limit is not None and limit < len(index):
            index = (
                np.sort(np.random.default_rng(seed).choice(index, limit, replace=False))
                if seed is not None
                else index[:limit]
            )
        return self if len(index) == len(self) else self.at(index.tolist())
