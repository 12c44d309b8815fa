"""Which jobs of an image run, and when. A job is (image, number of the restart and target)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from sparring.core.rows import Rows

Job = tuple[int, int]


class Turns:
    """The queue of jobs. An image ``in_turn`` wants its first success only: its next job begins when the last one failed.

    ``ahead``: jobs may also begin before their turn, in slots that would stay empty. Their results wait; one that turns
    out not to have been needed is thrown away, its costs too, as if it had never run. So answers are those of strict turns.
    """

    def __init__(self, images: int, jobs: int, in_turn: Sequence[bool], ahead: bool) -> None:
        self.jobs, self.in_turn, self.ahead = jobs, in_turn, ahead
        self.queue: deque[Job] = deque((i, j) for j in range(jobs) for i in range(images) if not (j and in_turn[i]))
        self.turn = [0] * images  # the job whose end an image waits for; ``jobs``: settled
        self.begun = [1] * images
        self.early: dict[Job, Rows] = {}
        self.ready: list[int] = []  # images whose turn has come to a job that is finished already

    def __len__(self) -> int:
        return len(self.queue)

    def take(self, room: int) -> list[Job]:
        """The next jobs, at most ``room``."""
        return [self.queue.popleft() for _ in range(min(room, len(self.queue)))]

    def look_ahead(self, running: Sequence[Job], room: int) -> None:
        """Queue up to ``room`` more jobs of images whose present job is among ``running``, evenly."""
        images = [i for i, j in running if self.in_turn[i] and j == self.turn[i]]
        for _ in range(self.jobs):
            for image in images:
                if room > 0 and self.begun[image] < self.jobs:
                    self.queue.append((image, self.begun[image]))
                    self.begun[image] += 1
                    room -= 1

    def waves(self, done: Rows) -> list[Rows]:
        """Finished rows (leaves ``image`` and ``job``) that now count, in groups without an image twice, in order of their jobs.

        After each group ``passed`` must be told how it went, as that decides on the next: ask again, with no rows, until none come.
        """
        images, groups = done.image.tolist(), []
        for k, job in enumerate(zip(images, done.job.tolist(), strict=True)):
            self.early[job] = done.keep(done.image.new_tensor([k]))
        images, self.ready = dict.fromkeys([*images, *self.ready]), []
        for image in images:
            jobs = [self.turn[image]] if self.in_turn[image] else range(self.jobs)
            mine = [self.early.pop((image, j)) for j in jobs if (image, j) in self.early]
            for number, row in enumerate(mine):
                groups += [[]] * (number == len(groups))
                groups[number] = [*groups[number], row]
        return [Rows.cat(group) for group in groups]

    def passed(self, image: int, job: int, settled: bool) -> None:
        """A job of an image in turn has ended: it settled the image, or the next one follows."""
        if settled:
            self.turn[image] = self.jobs
            if self.ahead:
                self.queue = deque(j for j in self.queue if j[0] != image)
                self.early = {j: row for j, row in self.early.items() if j[0] != image}
            return
        self.turn[image] = job + 1
        if (image, job + 1) in self.early:
            self.ready.append(image)
        if self.begun[image] == job + 1:
            self.queue.append((image, job + 1))
            self.begun[image] += 1

    def is_settled(self, image: int) -> bool:
        return self.turn[image] == self.jobs
