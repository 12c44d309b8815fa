"""``Inventory``: what one process has seen of a large image set, so that others need not read all of it to know it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch

from sparring.data.images import ImageSet, Unread, numbers_of
from sparring.data.stream import Source, Streamed


@dataclass(frozen=True)
class Inventory:
    """Of an image set whose pixels are read again whenever they are asked for: per image its number in the source, its id, its label, the digest of its pixels and
    whether they are on the lattice; beside these the form (C,H,W) of all, the names of those that were left out, and the sha256 of all that
    the source lists.
    """

    numbers: tuple[int, ...]
    ids: tuple[str, ...]
    labels: tuple[int, ...]
    digests: tuple[str, ...]
    lattice: tuple[bool, ...]
    shape: tuple[int, int, int]
    left_out: tuple[str, ...]
    listing: str

    @classmethod
    def of(cls, images: ImageSet) -> Inventory | None:
        """None of a set that is held in memory: to read it again is soon done."""
        stored = images.stored
        if not isinstance(stored, Streamed):
            return None
        lattice = tuple(bool(on) for on in stored.on_lattice)
        about = images.ids, tuple(numbers_of(images.y)), stored.digests, lattice, stored.shape, images.left_out
        return cls(tuple(stored.numbers), *about, _listing(stored.source))

    def is_of(self, unread: Unread) -> bool:
        """Does the source list what it listed then?"""
        return _listing(unread.source) == self.listing

    def images_of(self, unread: Unread) -> ImageSet:
        """The same set, none of it read: each image is compared with its digest when it is."""
        lattice = torch.as_tensor(np.asarray(self.lattice, bool))
        stored = Streamed(unread.source, self.numbers, self.digests, lattice, self.shape)
        labels = torch.as_tensor(np.asarray(self.labels, np.int64))
        return ImageSet.stored_as(stored, labels, self.ids, unread.name, unread.classes, self.left_out)


def _listing(source: Source) -> str:
    """The sha256 of the ids that a source lists, and of the labels that it knows without reading."""
    digest = hashlib.sha256("\n".join(source.ids).encode())
    digest.update("\n".join(map(str, source.labels or ())).encode())
    return digest.hexdigest()
