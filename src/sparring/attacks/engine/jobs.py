"""Which jobs of an image run, and when. A job is (image, number of the restart and target)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from sparring.core.rows import Rows

Job = tuple[int, int]


class Turns:
    """The queue of jobs. An image ``in_turn`` wants its first success only: its next job begins when the last one failed, so that no job is begun
    for nothing and every call that was made is counted.
    """

    def __init__(self, images: int, jobs: int, in_turn: Sequence[bool]) -> None:
        self.jobs = jobs
        self.queue: deque[Job] = deque((i, j) for j in range(jobs) for i in range(images) if not (j and in_turn[i]))

    def __len__(self) -> int:
        return len(self.queue)

    def take(self, room: int) -> list[Job]:
        """The next jobs, at most ``room``."""
        return [self.queue.popleft() for _ in range(min(room, len(self.queue)))]

    def failed(self, image: int, job: int) -> None:
        """A job of an image in turn has ended without a success: the next one follows."""
        if job + 1 < self.jobs:
            self.queue.append((image, job + 1))


def waves(done: Rows) -> list[Rows]:
    """Finished rows (leaves ``image`` and ``job``) in groups without an image twice, in order of their jobs."""
    count = torch.bincount(done.image)
    if len(done) == 0 or int(count.max()) == 1:
        return [done] if len(done) else []
    order = (done.image * (done.job.max() + 1) + done.job).argsort()
    image = done.image[order]
    nth = torch.arange(len(order), device=image.device) - _first(image)[image]
    return [done.keep(order[nth == n]) for n in range(int(nth.max()) + 1)]


def _first(image: Tensor) -> Tensor:
    """Where each image begins in a sorted list of images."""
    count = torch.bincount(image)
    return count.cumsum(0) - count
