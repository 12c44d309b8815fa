"""``Queue``: blocks that several workers are to do, the longest first, and what came of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

TRIES = 3  # of a block, each by a worker that is new to it or was made anew
IN_VAIN = (
    5  # blocks that fail one after the other, none done in between: what they have in common is to be put right first
)


class Queue:
    """``costs``: of each block, in any unit. ``failed``: why a block was given up, by block; ``retries``: how often one was tried again; ``waiting``:
    what nobody has begun, and never will once so many failed in a row."""

    def __init__(self, costs: Mapping[str, float]) -> None:
        self.waiting = sorted(costs, key=lambda block: -costs[block])
        self.done: set[str] = set()
        self.failed: dict[str, str] = {}
        self.retries = 0
        self._tries: Counter[str] = Counter()
        self._in_vain = 0

    @property
    def hopeless(self) -> bool:
        """Did so many blocks fail in a row that the others are not begun?"""
        return self._in_vain >= IN_VAIN

    def take(self) -> str | None:
        """The next block, or None where none waits or no other should be begun."""
        return self.waiting.pop(0) if self.waiting and not self.hopeless else None

    def finish(self, block: str) -> None:
        """A block is done."""
        self.done.add(block)
        self._in_vain = 0

    def fault(self, block: str, why: str) -> bool:
        """A worker died of a block, or said why it cannot be done: it is tried again after the others, or given up. Was it given up?"""
        self._tries[block] += 1
        if self._tries[block] < TRIES:
            self.retries += 1
            self.waiting.append(block)
            return False
        self.failed[block] = why
        self._in_vain += 1
        return True
