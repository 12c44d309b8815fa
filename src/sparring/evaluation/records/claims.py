"""``Claims``: who is at which block of a run folder where several processes work in it, on one machine or on many.

A block is claimed by making a file, which only one can; a heartbeat keeps the claim alive. One whose heart stopped is taken over. Should its owner
still live, both make the same files, each whole: a claim saves work, nothing depends on it.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from sparring.evaluation.records.place import Place, Remote, modified, remove
from sparring.evaluation.records.seal import explained

FOLDER = "claims"
BEAT, STALE = 5.0, 60.0  # seconds between two heartbeats; after which silence is death
WAIT = 0.5  # seconds between two looks at whose turn it is
SETTLE = 1.0  # seconds in which all heirs of what a dead process left have written


class Claims:
    """Claims in a run folder. ``plan``: what names the work, so that what is done of one plan says nothing of a larger one."""

    def __init__(self, folder: Place, plan: str) -> None:
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
        with beating(file):
            yield True

    def finish(self, work: str) -> None:
        """Say that the work is done."""
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / f"{work}.done").write_bytes(me().encode())

    def finished(self, work: str) -> bool:
        """Was it said that the work is done?"""
        return (self.folder / f"{work}.done").exists()

    def held(self) -> dict[str, str]:
        """By work that somebody alive is at, who it is."""
        files = sorted(self.folder.glob("*.claim"))
        return {file.stem: " ".join(owner_of(file)) for file in files if not silent(file)}

    def clear(self) -> None:
        """Remove the claims of all plans: the run is complete."""
        remove(self.folder.parent)

    def _take(self, file: Place) -> bool:
        with explained(self.folder):  # somebody may have removed what only saves work
            self.folder.mkdir(parents=True, exist_ok=True)
        with explained(file):
            return take(file, lambda: silent(file))


@contextmanager
def beating(file: Place) -> Iterator[None]:
    """Keep alive the file that this process has made, until the end of the block; then it is gone, unless somebody else has taken it over."""
    over = threading.Event()
    heart = threading.Thread(target=_beat, args=(file, over), daemon=True)
    heart.start()
    try:
        yield
    finally:
        over.set()
        heart.join()
        with suppress(OSError):
            if _mine(file):
                file.unlink()


def _beat(file: Place, over: threading.Event) -> None:
    while not over.wait(BEAT):
        with suppress(OSError):
            if not isinstance(file, Remote):
                os.utime(file)
            elif _mine(file):
                file.write_bytes(me().encode())


def _mine(file: Place) -> bool:
    return " ".join(owner_of(file)) == me()


@contextmanager
def turn(folder: Place) -> Iterator[None]:
    """One after the other, of those who share a folder: what it holds is compared with what is asked, and written down, by one at a time."""
    claims = Claims(folder, "turn")
    while True:
        with claims.taken("record") as mine:
            if mine:
                yield
                return
        time.sleep(WAIT)


def age_of(file: Place) -> float | None:
    """Seconds since a heart beat last, by the clock of where the file is, which need not be this machine's; None: the file is not there."""
    clock = file.with_name(f".clock.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        before = modified(file)
        clock.write_bytes(b"now")
        return modified(clock) - before
    except OSError:  # given back in between
        return None
    finally:
        with suppress(OSError):
            clock.unlink()


def silent(file: Place) -> bool:
    """Has who took a file died: is its process of this machine gone, or its heart silent?"""
    age = age_of(file)
    return owner_died(file) or (age is not None and age > STALE)


def dead(file: Place) -> bool:
    """The same, asked by who can wait: as long as the heart may be between two beats, it is listened to."""
    age = age_of(file)
    if age is None or silent(file):
        return True
    pid, host = owner_of(file)
    warnings.warn(
        f"{file} is process {pid}'s on {host}: waiting at most {STALE - age:.0f} s to see whether it lives",
        stacklevel=2,
    )
    end = time.monotonic() + STALE - age
    with suppress(FileNotFoundError):
        before = modified(file)
        while time.monotonic() < end:
            time.sleep(BEAT / 5)
            if modified(file) != before:
                return False
    return True


def me() -> str:
    """What a process writes into a file that it takes: its number and its machine."""
    return f"{os.getpid()} {socket.gethostname()}"


def owner_of(file: Place) -> tuple[str, str]:
    """(process, machine) of who has taken a file; empty texts where nobody says."""
    try:
        pid, _, host = file.read_text().strip().partition(" ")
    except OSError:
        return "", ""
    return pid, host


def take(file: Place, dead: Callable[[], bool]) -> bool:
    """Take a file by making it, which only one can; one whose owner is ``dead`` is taken over. Is it this process's now? Raises OSError."""
    if isinstance(file, Remote):
        return file.create(me().encode()) or (dead() and _inherited(file))
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


def _inherited(file: Remote) -> bool:
    """Take over what a dead process left in a store, which cannot rename: of several heirs it is the last one's who wrote."""
    file.write_bytes(me().encode())
    time.sleep(SETTLE)
    return _mine(file)


def owner_died(file: Place) -> bool:
    """Was a file taken by a process of this machine that is gone? Of another machine's nobody can say, and who shares a store may have the same name."""
    pid, host = owner_of(file)
    here = not isinstance(file, Remote) and host == socket.gethostname()
    return here and pid.isdigit() and not alive(int(pid))


def alive(pid: int) -> bool:
    """Is there a process of this number on this machine?"""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
