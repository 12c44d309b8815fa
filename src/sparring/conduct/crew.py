"""``Crew``: the helpers on a Ray cluster. The first process keeps the queue, compares who they are with itself, and makes those anew that die."""

from __future__ import annotations

import json
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sparring.conduct.engine import Cluster
from sparring.conduct.helper import Helper, Order, as_texts, device_name, precision
from sparring.conduct.planned import Planned, Running
from sparring.conduct.queue import Queue
from sparring.core.columns import Json
from sparring.core.errors import SparringError
from sparring.core.registry import PLUGINS
from sparring.evaluation.run.ring import Ring

LOOK = 1.0  # seconds between two looks at what the helpers have spent
CROWD = 100  # helpers that are looked at in that time; of more each is looked at less often
PATIENCE = 60.0  # seconds that a helper looks for run.json: a network's file system may be late
UNBORN = 3  # helpers that die one after the other before any began to work: none will


class Question(Protocol):
    """A method of an actor."""

    def remote(self, *texts: str) -> object: ...


class Actor(Protocol):
    """A ``Helper`` elsewhere."""

    prepare: Question
    join: Question
    work: Question
    calls: Question


@dataclass(eq=False)
class Hand:
    """One helper as the first process sees it. block: what it is at, "" before it works; calls: what it has spent on that until ``looked``."""

    actor: Actor
    host: str = "a machine"
    device: str = ""
    block: str = ""
    calls: float = 0.0
    looked: float = 0.0


Then = Callable[[Hand, Json], None]


class Crew:
    """Helpers, ``cluster.workers`` at most, that do the blocks of ``queue``. ``own``: what this process says of itself, as ``Helper.prepare`` does."""

    def __init__(self, cluster: Cluster, order: Order, gpus: float, queue: Queue, own: Json) -> None:
        self.queue, self.size = queue, cluster.workers
        self._ray, self._order, self._own = cluster.ray, order, own
        resources = {"num_cpus": 1, "num_gpus": gpus, "max_restarts": 0, "max_task_retries": 0, "max_concurrency": 2}
        self._kind = self._ray.remote(Helper).options(**resources)
        self._hands: list[Hand] = []
        self._idle: list[Hand] = []
        self._asked: dict[object, tuple[Hand, Then]] = {}
        self._hosts: Counter[str] = Counter()  # of all that began to work, by the machine
        self._devices: Counter[str] = Counter()
        self._unborn = 0

    def drive(
        self, finished: Callable[[str, Json], None], failed: Callable[[], None], tell: Callable[[], None]
    ) -> None:
        """Until each block is done or given up. ``finished`` (block, its network calls) and ``failed`` are told as it happens, ``tell`` again and
        again. Raises SparringError for a helper whose model, data, code or arithmetic is
        another, or that does not see the run folder, before it does anything.
        """
        self._finished, self._failed = finished, failed
        try:
            while self._enlist():
                ready, _ = self._ray.wait(list(self._asked), num_returns=1, timeout=LOOK)
                if ready:  # all that are
                    ready, _ = self._ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)
                for reference in ready:
                    self._hear(reference)
                self._look()
                tell()
        except SystemError as error:  # what a signal's handler raises inside Ray's C code comes out as its cause
            raise error.__cause__ or error from None
        finally:
            for hand in self._hands:
                self._ray.kill(hand.actor)

    def facts(self) -> Json:
        """For the run's record: who has worked, and how often a block was tried again."""
        about = {"workers": self.size, "nodes": dict(self._hosts), "devices": dict(self._devices)}
        return {**about, "retries": self.queue.retries}

    @property
    def calls(self) -> float:
        """Network calls in blocks that are at work."""
        return sum(hand.calls for hand in self._hands)

    @property
    def text(self) -> str:
        """How far it is and who is at work, in words."""
        hosts = [hand.host for hand in self._hands if hand.block]
        total = len(self.queue.done) + len(self.queue.failed) + len(self.queue.waiting) + len(hosts)
        said = [f"{len(self.queue.done)} of {total} blocks", f"{len(hosts)} at work on {len(set(hosts))} machine(s)"]
        said += [f"{n} starting"] if (n := len(self._hands) - len(hosts) - len(self._idle)) else []
        said += [f"{self.queue.retries} tried again"] if self.queue.retries else []
        said += [f"{len(self.queue.failed)} failed"] if self.queue.failed else []
        return ", ".join(said)

    def _enlist(self) -> bool:
        """Give work to who has none, and see that there are enough; is there something to wait for?"""
        while self._idle and (block := self.queue.take()) is not None:
            self._give(self._idle.pop(), block)
        working = sum(bool(hand.block) for hand in self._hands)
        lacking = 0 if self.queue.hopeless else min(self.size - working, len(self.queue.waiting))
        for _ in range(lacking - (len(self._hands) - working)):
            hand = Hand(self._kind.remote(self._order.text()))
            self._hands.append(hand)
            self._ask(hand, hand.actor.prepare.remote(), self._prepared)
        return working + max(0, lacking) > 0

    def _ask(self, hand: Hand, reference: object, then: Then) -> None:
        self._asked[reference] = hand, then

    def _hear(self, reference: object) -> None:
        hand, then = self._asked.pop(reference)
        try:
            answer = json.loads(self._ray.get(reference))
        except self._ray.exceptions.RayError as error:  # its process, its machine or the way to it is gone
            if hand in self._hands:
                self._dismiss(hand, f"its worker on {hand.host} died ({_first(error)})")
            return
        if hand in self._hands:
            then(hand, answer)

    def _prepared(self, hand: Hand, answer: Json) -> None:
        hand.host = answer.get("host", hand.host)
        if self._faulty(hand, answer):
            return
        hand.device = answer.get("device", "")
        self._compare(hand.host, answer)
        self._ask(hand, hand.actor.join.remote(), self._joined)

    def _compare(self, host: str, answer: Json) -> None:
        """Raise SparringError for a helper that would write other rows, or the same elsewhere."""
        who, fix = f"engine=ray: the worker on {host}", "before it did anything"
        if not answer["seen"]:
            raise SparringError(
                f"{who} does not see this run's {self._order.folder}/run.json; give an --out that all machines have at the same path ({fix})"
            )
        if differs := _differing(self._own["precision"], answer["precision"]):
            said = ", ".join(f"{k} {answer['precision'].get(k)}, here {self._own['precision'][k]}" for k in differs)
            raise SparringError(f"{who} multiplies float32 otherwise ({said}); set the same on all machines ({fix})")
        if differs := _differing(self._own["identity"], answer["identity"]):
            raise SparringError(
                f"{who} has other {', '.join(differs)} than this process; bring all machines to the same sparring, files and modules ({fix})"
            )

    def _joined(self, hand: Hand, answer: Json) -> None:
        if self._faulty(hand, answer):
            return
        self._unborn = 0
        self._hosts[hand.host] += 1
        self._devices[hand.device] += 1
        if self._devices[hand.device] == 1 and (others := {self._own["device"], *self._devices} - {hand.device}):
            names = ", ".join(sorted(others))
            warnings.warn(
                f"the worker on {hand.host} works on {hand.device}, others or this process on {names}: answers may differ by rounding",
                stacklevel=2,
            )
        self._idle.append(hand)

    def _faulty(self, hand: Hand, answer: Json) -> bool:
        """Did a helper say, before it began, that it cannot? What a user must put right is raised."""
        if "fault" not in answer:
            return False
        if answer["refused"]:
            raise SparringError(f"engine=ray: the worker on {hand.host}: {answer['fault']}")
        self._dismiss(hand, answer["fault"])
        return True

    def _give(self, hand: Hand, block: str) -> None:
        hand.block, hand.calls = block, 0.0
        self._ask(hand, hand.actor.work.remote(block), self._worked)

    def _worked(self, hand: Hand, answer: Json) -> None:
        if "fault" in answer:  # what it keeps of a block that it did not end is no ground for another
            self._dismiss(hand, answer["fault"])
            return
        block, hand.block, hand.calls = hand.block, "", 0.0
        self.queue.finish(block)
        self._idle.append(hand)
        self._finished(block, answer)

    def _dismiss(self, hand: Hand, why: str) -> None:
        """End a helper. What it was at is tried again, or given up."""
        self._hands.remove(hand)
        self._ray.kill(hand.actor)
        if hand.block:
            if self.queue.fault(hand.block, why):
                self._failed()
        elif hand in self._idle:
            self._idle.remove(hand)
        else:
            self._unborn += 1
            if self._unborn >= UNBORN:
                raise SparringError(f"engine=ray: no worker begins: {why}; the same command resumes")

    def _look(self) -> None:
        """Ask those at work what they have spent, each now and then."""
        now, pause = time.monotonic(), LOOK * max(1.0, len(self._hands) / CROWD)
        for hand in self._hands:
            if hand.block and now - hand.looked > pause:
                hand.looked = now
                self._ask(hand, hand.actor.calls.remote(), self._seen)

    def _seen(self, hand: Hand, answer: Json) -> None:
        if hand.block:
            hand.calls = answer["calls"]


def attack_on(cluster: Cluster, planned: Planned, ring: Ring, facts: Json, running: Running) -> set[str]:
    """Have the blocks of a plan attacked and judged; those that are done. What failed is written into the run's record as it happens, and who has
    worked into ``facts``. ``facts``: what that record holds beside. Raises SparringError.
    """
    spec, store, blocks = planned.spec, ring.store, ring.blocks
    slices = {blocks.id(rows): rows for rows in blocks.slices}
    queue = Queue({name: rows.stop - rows.start for name, rows in slices.items()})
    gpus, ships = (running.engine.gpus, running.engine.ships) if running.engine else (0.0, {})
    order = Order(
        spec=as_texts(spec),
        folder=str(store.folder.absolute() if isinstance(store.folder, Path) else store.folder),
        session=facts["running"]["session"],
        place="" if "working_dir" in ships else str(Path.cwd()),
        plugins=list(PLUGINS),
        device="cuda" if gpus else running.device,
        slots=running.slots,
        keep=running.keep,
        processes=cluster.workers,
        patience=PATIENCE,
    )
    own = {"identity": store.identity, "precision": precision(), "device": device_name(running.device)}
    crew = Crew(cluster, order, gpus, queue, own)

    def finished(block: str, answer: Json) -> None:
        ring.pace.elsewhere = crew.calls
        ring.pace.beside(slices[block], answer["calls"], answer["runs"], crew.text)

    def record() -> None:
        facts["running"] |= crew.facts()
        store.write_run(**facts, passed=spec.passed(), complete=False, failed=queue.failed)

    def tell() -> None:
        ring.pace.elsewhere = crew.calls
        ring.pace.say(crew.text)

    crew.drive(finished, record, tell)
    ring.pace.elsewhere = 0.0
    record()
    if queue.failed and not store.kept:
        raise SparringError(
            f"engine=ray: each block failed: {next(iter(queue.failed.values()))}; the same command tries them again"
        )
    return queue.done


def _differing(own: Json, other: Json) -> list[str]:
    return [name for name, value in own.items() if other.get(name) != value]


def _first(error: Exception) -> str:
    """The first line of what Ray says: what follows is about Ray."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
