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


@dataclass(frozen=True)
class ImageSet:
    """x (N,C,H,W) float32 in [0,1], y (N,) int64, ids (N) stable names, class names if known.

    ``lattice``: all pixels are k/255, so that 8-bit scores exist. Made by ``ImageSet.of``, which refuses bad
    pixels.
    """

    x: Tensor
    y: Tensor
    ids: tuple[str, ...]
    name: str
    classes: tuple[str, ...] = ()
    lattice: bool = True
    hash: str = field(default="", repr=False)

    @classmethod
    def of(
        cls,
        x: Tensor | np.ndarray,
        y: Tensor | np.ndarray | Sequence[int],
        *,
        ids: Sequence[str] | None = None,
        name: str = "images",
        classes: Sequence[str] = (),
    ) -> ImageSet:
        """Check and normalise: uint8 becomes k/255, float must be in [0,1].

        Raises SparringError for NaN, values outside [0,1] (normalised or 0-255 floats), wrong shapes, duplicate
        ids.
        """
        x, y = torch.as_tensor(x), torch.as_tensor(y).long()
        if x.dim() == 3:
            x = x[:, None]
        if x.dim() != 4 or x.shape[1] not in (1, 3):
            raise SparringError(f"{name}: images must have shape (N,C,H,W) with 1 or 3 channels, got {tuple(x.shape)}")
        if len(x) == 0 or len(x) != len(y) or y.dim() != 1:
            raise SparringError(f"{name}: {len(x)} images and {tuple(y.shape)} labels; one label per image is needed")
        x = x.float() / 255 if x.dtype == torch.uint8 else check_pixels(x.float(), name)
        ids = tuple(ids) if ids is not None else tuple(str(i) for i in range(len(x)))
        if len(set(ids)) != len(ids):
            raise SparringError(f"{name}: image ids are not unique")
        steps = x * 255
        lattice = bool(((steps - steps.round()).abs() < 1e-3).all())
        digest = hashlib.sha256(repr((tuple(x.shape), ids)).encode())
        digest.update(x.contiguous().numpy().tobytes())
        digest.update(y.contiguous().numpy().tobytes())
        return cls(x, y, ids, name, tuple(classes), lattice, digest.hexdigest())

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

    def block_id(self, rows: slice) -> str:
        """What names a block of images, wherever it stands and whatever stands beside it."""
        return hashlib.sha256("".join(self.identities[rows]).encode()).hexdigest()[:20]

    def at(self, index: Sequence[int]) -> ImageSet:
        """Some of the images, ids kept."""
        picked = torch.as_tensor(list(index))
        part = ImageSet.of(
            self.x[picked],
            self.y[picked],
            ids=[self.ids[i] for i in index],
            name=self.name,
            classes=self.classes,
        )
        return replace(part, lattice=self.lattice)

    def draw(self, limit: int | None = None, seed: int | None = None, keep: Sequence[int] | None = None) -> ImageSet:
        """The first ``limit`` images, or with ``seed`` a drawn subset in id order; ``keep``: only these labels."""
        index = np.arange(len(self))
        if keep is not None:
            index = index[np.isin(self.y.numpy(), list(keep))]
        if limit is not None and limit < 1:
            raise SparringError(f"limit={limit}: at least one image is needed")
        if limit is not None and limit < len(index):
            index = (
                np.sort(np.random.default_rng(seed).choice(index, limit, replace=False))
                if seed is not None
                else index[:limit]
            )
        if not len(index):
            raise SparringError(f"{self.name}: no images left after classes={list(keep or ())}")
        return self if len(index) == len(self) else self.at(index.tolist())


def check_pixels(x: Tensor, name: str) -> Tensor:
    """Float pixels must lie in [0,1] up to round-off (1e-6); they are clamped, or refused with the likely cause."""
    if bool(torch.isnan(x).any()):
        bad = int(torch.isnan(x).flatten(1).any(1).sum())
        raise SparringError(f"{name}: {bad} images contain NaN pixels; remove or repair them")
    low, high = float(x.min()), float(x.max())
    if low >= -1e-6 and high <= 1 + 1e-6:
        return x.clamp(0, 1)
    if low >= 0 and high <= 255:
        cause = "they look like 0-255; pass uint8 or divide by 255"
    elif abs(float(x.mean())) < 1 and float(x.std()) > 0.4:
        cause = "they look normalised; undo mean/std and put them into the model (mean=, std=)"
    else:
        cause = "scale them to [0,1]"
    raise SparringError(f"{name}: inputs are not pixels in [0,1] (min {low:.3g}, max {high:.3g}): {cause}")
