"""``Partition``: the images of a run in the groups that are attacked, judged and stored together."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

from sparring.data.images import ImageSet
from sparring.evaluation.records.files import block_id

LETTERS = 20  # of an image's identity in a run's record
VALUES = 2**23  # numbers in the images of a block, at most: several copies of them are in memory at once


@dataclass(frozen=True)
class Partition:
    """``images``: a set whose blocks follow each other; ``ends``: where each ends.

    A block is named by its images alone, so that what was made of it stays valid whatever is added to the set, and in whichever order.
    """

    images: ImageSet
    ends: tuple[int, ...]

    @classmethod
    def of(
        cls,
        images: ImageSet,
        size: int,
        before: Sequence[Sequence[str]] = (),
        known: Collection[str] = (),
    ) -> Partition:
        """The set in blocks of ``size`` images, or fewer of large ones. The blocks that a run had ``before`` stay as they are where all
        their images are still there; they come first, and the new images follow in their order, those first that another run ``known`` has.
        """
        size = min(size, max(1, VALUES // images.values))
        number = {name: i for i, name in enumerate(_names(images))}
        kept = [block for block in before if all(name in number for name in block)]
        taken = {name for block in kept for name in block}
        rest = [name for name in number if name not in taken]
        parts = [name for name in rest if name in known], [name for name in rest if name not in known]
        groups = [*kept, *(part[i : i + size] for part in parts for i in range(0, len(part), size))]
        order = [number[name] for group in groups for name in group]
        ends = [0]
        for group in groups:
            ends.append(ends[-1] + len(group))
        return cls(images if order == list(range(len(images))) else images.at(order), tuple(ends[1:]))

    def __len__(self) -> int:
        return len(self.ends)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Where each block stands among the images."""
        return tuple(slice(start, end) for start, end in zip((0, *self.ends), self.ends, strict=False))

    @cached_property
    def names(self) -> list[list[str]]:
        """Of each block the names of its images, for the run's record."""
        names = _names(self.images)
        return [names[rows] for rows in self.slices]

    def around(self, image: int) -> slice:
        """The block that holds the image of this number."""
        return self.slices[bisect_right(self.ends, image)]

    def id(self, rows: slice) -> str:
        """What a block is called."""
        return self._ids[rows.start]

    @cached_property
    def _ids(self) -> dict[int, str]:
        """What each block is called, by the number of its first image."""
        return {rows.start: block_id(names) for rows, names in zip(self.slices, self.names, strict=True)}


def _names(images: ImageSet) -> list[str]:
    return [identity[:LETTERS] for identity in images.identities]
