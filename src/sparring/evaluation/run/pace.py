"""How much of a plan is still to do, in network calls, learned while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping

FLOOR = 0.02  # the least share of its worst case that a run is taken to cost before it was seen
Progress = Callable[[int, int, str], None]


class Spent(Exception):
    """The time or the network calls that an evaluation was given are used up."""


def limited(progress: Progress | None, seconds: float | None, calls: int | None) -> Progress:
    """``progress`` that raises ``Spent`` once so many seconds have gone by, counted from now, or so many network calls were made."""
    start = time.monotonic()

    def told(done: int, total: int, text: str) -> None:
        if progress:
            progress(done, total, text)
        if seconds is not None and time.monotonic() - start > seconds:
            raise Spent(f"stopped after {seconds:g} s, as asked")
        if calls is not None and done > calls:
            raise Spent(f"stopped after {calls:,} network calls, as asked")

    return told


class Pace:
    """Calls spent, and calls that are expected to be left, which a plan's worst case is far from: an image that falls early costs little.

    A run that was seen in another block costs an image what it cost there. Before that it costs as much of its worst case as runs alike
    have (``alike``: what they have in common, by run). Where there are none it costs its worst case, or, if an image's attack ends once
    it has fallen (``ends_early``), as much of that as images have survived such runs until now. What is on disk costs nothing and is no
    part of the total.
    """

    def __init__(
        self,
        images: int,
        worst: Mapping[str, float],
        ends_early: Mapping[str, bool],
        judged: float,
        progress: Progress | None,
        alike: Mapping[str, Hashable] | None = None,
    ) -> None:
        self.alike: Mapping[str, Hashable] = alike or {run: run for run in worst}
        self.shares: dict[Hashable, list[float]] = {}  # calls of finished blocks of runs alike, and their worst case
        self.worst, self.ends_early, self.progress = worst, ends_early, progress
        self.left = dict.fromkeys(worst, images)  # images that a run has still to attack
        self.judged = judged  # the judge's calls that are left
        self.judge_share = judged / max(1, images)  # of them, an image
        self.seen = {run: [0.0, 0] for run in worst}  # calls and images of a run's finished blocks
        self.survived = [0, 0]  # images that survived a run which ends early, and all that went through one
        self.spent = 0.0
        self.block: dict[str, tuple[float, int]] = {}  # calls and survivors of runs, for who clears it before a block
        self.elsewhere = 0.0  # calls of others at blocks that they have not ended
        self.done: set[Hashable] = set()  # (run, block) that is attacked, (cell, run, block) that is judged
        self.going = 0.0  # of spent: what the run that is at work is taken to have cost until now

    def expected(self, run: str) -> float:
        """Calls of an image in a run."""
        calls, images = self.seen[run]
        if images:
            return calls / images
        if self.alike[run] in self.shares:
            calls, worst = self.shares[self.alike[run]]
            return self.worst[run] * calls / worst
        survived, all_images = self.survived
        share = max(FLOOR, survived / all_images) if all_images and self.ends_early[run] else 1.0
        return self.worst[run] * share

    def total(self) -> float:
        """Calls spent and expected."""
        return self.spent + self.judged + sum(n * self.expected(run) for run, n in self.left.items())

    def on_disk(self, run: str, rows: slice) -> None:
        """These images need no attack of a run; said again, it changes nothing."""
        if (run, rows.start) not in self.done:
            self.done.add((run, rows.start))
            self.left[run] = max(0, self.left[run] - (rows.stop - rows.start))

    def settled(self, run: str, images: int, text: str) -> None:
        """The run at work is done with so many more images."""
        cost = images * self.expected(run)
        self.left[run] = max(0, self.left[run] - images)
        self.spent, self.going = self.spent + cost, self.going + cost
        self.say(text)

    def finished(self, run: str, rows: slice, rest: int, calls: float, survivors: int, text: str) -> None:
        """A run is done with a block, ``rest`` of whose images were not settled one by one; its calls and survivors, counted."""
        images = rows.stop - rows.start
        self.done.add((run, rows.start))
        self.left[run] = max(0, self.left[run] - rest)
        self.spent, self.going = self.spent - self.going + calls, 0.0
        self.block[run] = calls, survivors
        self.seen[run] = [self.seen[run][0] + calls, self.seen[run][1] + images]
        share = self.shares.setdefault(self.alike[run], [0.0, 0.0])
        share[0], share[1] = share[0] + calls, share[1] + images * self.worst[run]
        if self.ends_early[run]:
            self.survived = [self.survived[0] + survivors, self.survived[1] + images]
        self.say(text)

    def judge(self, what: Hashable, calls: float, text: str, made: bool = True) -> None:
        """The judge has made so many calls for a block of a cell's run, or need not."""
        if what not in self.done:
            self.done.add(what)
            self.judged = max(0.0, self.judged - calls)
            self.spent += calls if made else 0
        self.say(text)

    def beside(self, rows: slice, calls: float, runs: Mapping[str, tuple[float, int]], text: str) -> None:
        """Another process is done with a block: its calls in all, and the calls and survivors of each run that it attacked."""
        for run in self.worst:
            if run in runs:
                self.finished(run, rows, rows.stop - rows.start, *runs[run], text)
            else:
                self.on_disk(run, rows)
        self.spent += max(0.0, calls - sum(attacked for attacked, _ in runs.values()))
        self.judged = max(0.0, self.judged - self.judge_share * (rows.stop - rows.start))

    def say(self, text: str) -> None:
        """Tell who listens."""
        if self.progress:
            total = max(1, round(self.total()))
            self.progress(min(round(self.spent + self.elsewhere), total), total, text)
