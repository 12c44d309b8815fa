"""``Workers``: several processes of one machine at work on one run folder, and how the machine is split among them."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from sparring.core.errors import SparringError, one_line
from sparring.core.registry import PLUGINS, load_plugin
from sparring.evaluation.plan.cost import time_per_call

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess
    from multiprocessing.sharedctypes import SynchronizedArray
    from multiprocessing.synchronize import Event

LEAST = 64  # images of a block, at least, where several work: fewer fill no batch
PARTS = 2  # blocks that each of several has, about: who is done early takes another
WORTH = 60.0  # seconds of work below which "auto" starts no second process
LOOK = 1.0  # seconds between two looks of a waiting worker at whether the first process lives
GAIN = 1.15  # by how much several processes must be faster than one with all threads

Make = Callable[..., Callable[[], None]]  # prepares, and answers with what is to be done


def cut(images: int, block: int, processes: int) -> int:
    """Images of a block where so many processes share the work."""
    return block if processes < 2 else min(block, max(LEAST, -(-images // (PARTS * processes))))


@dataclass(frozen=True)
class Split:
    """How many processes, and how many threads each has."""

    processes: int
    threads: int


def split(workers: int | Literal["auto"], network: nn.Module, x: Tensor, images: int, seconds: float) -> Split:
    """Of the machine among ``workers`` processes; "auto": what is faster, measured once on a few of the ``images``, ``x``, where the whole takes
    some ``seconds`` at most. Small networks are faster in many processes of one thread each.
    """
    threads = torch.get_num_threads()
    if workers != "auto":
        return Split(workers, max(1, threads // workers) if workers > 1 else threads)
    if threads < 2 or seconds < WORTH or images < 2 * LEAST or next(network.parameters(), x).device.type != "cpu":
        return Split(1, threads)
    together = time_per_call(network, x)[1]
    torch.set_num_threads(1)
    try:
        alone = time_per_call(network, x)[1]
    finally:
        torch.set_num_threads(threads)
    return Split(threads, 1) if together * threads > GAIN * alone else Split(1, threads)


class Workers:
    """Other processes of this machine that do what ``make(*arguments)`` prepares, once they are let go. ``spent``: what each has reported."""

    def __init__(self, shares: Split, make: Make, arguments: tuple[object, ...], devices: Sequence[str | None]) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._go = self._context.Event()
        self._spent = self._context.Array("d", shares.processes)
        self._said: list[Connection] = []
        self._processes: list[SpawnProcess] = []
        try:
            ForkingPickler.dumps(arguments)
        except Exception as error:  # whatever a user's own object says
            raise SparringError(
                f"workers={shares.processes}: what you passed cannot be sent to another process ({one_line(error)}); pass spec texts, or workers=1"
            ) from None
        for number in range(1, shares.processes):
            said, mouth = self._context.Pipe(duplex=False)
            given = (make, arguments, devices[number % len(devices)], shares.threads, list(PLUGINS))
            about = (number, self._go, self._spent, mouth)
            process = self._context.Process(target=_work, args=(*given, *about), daemon=True)
            process.start()
            mouth.close()
            self._said.append(said)
            self._processes.append(process)

    @property
    def spent(self) -> float:
        """Network calls of all of them until now."""
        return sum(self._spent[:])

    def go(self) -> None:
        """Let them begin."""
        self._go.set()

    def stop(self) -> None:
        """End those that still run; warn of who failed. What it left others have made."""
        for number, (process, said) in enumerate(zip(self._processes, self._said, strict=True), 1):
            fault = ""
            with suppress(EOFError, OSError):
                fault = said.recv() if said.poll() else ""
            if process.is_alive():
                process.terminate()
            process.join(5)
            if fault or process.exitcode not in (0, -15):
                code = process.exitcode or 0
                guard = "a script must put its calls behind if __name__ == '__main__'"
                why = fault or (
                    f"it was ended by signal {-code}" if code < 0 else f"it ended with code {code}; {guard}"
                )
                warnings.warn(f"worker {number} failed ({why}); its work was done by the others", stacklevel=3)


def _work(
    make: Make,
    arguments: tuple[object, ...],
    device: str | None,
    threads: int,
    plugins: list[str],
    number: int,
    go: Event,
    spent: SynchronizedArray[float],
    mouth: Connection,
) -> None:
    """What a worker's process does. It ends when the first process does, however that ended."""
    first = multiprocessing.parent_process()

    def alone() -> bool:
        return first is not None and not first.is_alive()

    warnings.simplefilter("ignore")  # the first process says them
    try:
        torch.set_num_threads(threads)
        for file in plugins:
            load_plugin(file)

        def progress(done: int, total: int, text: str) -> None:
            spent[number] = done
            if alone():
                raise SystemExit

        job = make(*arguments, device, number, progress)
        while not go.wait(LOOK):
            if alone():
                return
        job()
    except KeyboardInterrupt:
        pass
    except Exception as error:
        mouth.send(one_line(error))
