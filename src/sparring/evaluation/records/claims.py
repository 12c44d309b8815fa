"""``Claims``: who is at which block of a run folder where several processes work in it, on one machine or on many.

A block is claimed by making a file, which only one can; a heartbeat keeps the claim alive. One whose heart stopped is taken over. Should its owner
still live, both make the same files, each by one rename: a claim saves work, nothing depends on it.
"""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sparring.evaluation.records.seal import explained

FOLDER = "claims"
BEAT, STALE = 5.0, 60.0  # seconds between two heartbeats; after which silence is death


class Claims:
    """Claims in a run folder. ``plan``: what names the work, so that what is done of one plan says nothing of a larger one."""

    def __init__(self, folder: Path, plan: str) -> None:
        self.folder = folder / FOLDER / plan
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def taken(self, work: str) -> Iterator[bool]:
        """Is the work this process's own until the end of the block?"""
        file = self.folder / f"{work}.claim"
        if not self._take(file):
            yield False
            return
        over = threading.Event()
        heart = threading.Thread(target=self._beat, args=(file, over), daemon=True)
        heart.start()
        try:
            yield True
        finally:
            over.set()
            heart.join()
            with suppress(OSError):
                file.unlink()

    def finish(self, work: str) -> None:
        """Say that the work is done."""
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / f"{work}.done").touch()

    def finished(self, work: str) -> bool:
        """Was it said that the work is done?"""
        return (self.folder / f"{work}.done").exists()

    def held(self) -> dict[str, str]:
        """By work that somebody alive is at, who it is."""
        now = self._now()
        return {
            file.stem: " ".join(owner_of(file))
            for file in sorted(self.folder.glob("*.claim"))
            if not self._dead(file, now)
        }

    def clear(self) -> None:
        """Remove the claims of all plans: the run is complete."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)

    def _take(self, file: Path) -> bool:
        with explained(self.folder):  # somebody may have removed what only saves work
            self.folder.mkdir(parents=True, exist_ok=True)
        with explained(file):
            return take(file, lambda: self._dead(file, self._now()))

    def _beat(self, file: Path, over: threading.Event) -> None:
        while not over.wait(BEAT):
            with suppress(OSError):
                os.utime(file)

    def _now(self) -> float:
        """What the folder's own clock says, which need not be this machine's."""
        clock = self.folder / f".clock.{os.getpid()}.partial"
        with suppress(OSError):
            clock.touch()
            return clock.stat().st_mtime
        return 0.0

    def _dead(self, file: Path, now: float) -> bool:
        """Has the owner of a claim died: is its process of this machine gone, or its heart silent?"""
        if owner_died(file):
            return True
        try:
            return now - file.stat().st_mtime > STALE
        except OSError:  # given back in between
            return False


def me() -> str:
    """What a process writes into a file that it takes: its number and its machine."""
    return f"{os.getpid()} {socket.gethostname()}"


def owner_of(file: Path) -> tuple[str, str]:
    """(process, machine) of who has taken a file; empty texts where nobody says."""
    try:
        pid, _, host = file.read_text().strip().partition(" ")
    except OSError:
        return "", ""
    return pid, host


def take(file: Path, dead: Callable[[], bool]) -> bool:
    """Take a file by making it, which only one can; one whose owner is ``dead`` is taken over. Is it this process's now? Raises OSError."""
    for _ in range(2):
        try:
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            if not dead():
                return False
            stale = file.with_name(f".{file.name}.{os.getpid()}.partial")
            with suppress(FileNotFoundError):
                file.replace(stale)  # only one of several heirs gets it
                stale.unlink()
        else:
            os.write(handle, me().encode())
            os.close(handle)
            return True
    return False


def owner_died(file: Path) -> bool:
    """Was a file taken by a process of this machine that is gone? Of another machine's nobody can say."""
    pid, host = owner_of(file)
    return host == socket.gethostname() and pid.isdigit() and not alive(int(pid))


def alive(pid: int) -> bool:
    """Is there a process of this number on this machine?"""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
