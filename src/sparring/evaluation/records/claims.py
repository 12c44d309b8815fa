"""``Claims``: who is at which block of a run folder where several processes work in it, on one machine or on many.

A block is claimed by making a file, which only one can; a heartbeat keeps the claim alive. One whose heart stopped is taken over. Should its owner
still live, both make the same files, each by one rename: a claim saves work, nothing depends on it.
"""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sparring.evaluation.records.seal import explained

FOLDER = "claims"
BEAT, STALE = 5.0, 60.0  # seconds between two heartbeats; after which silence is death


class Claims:
    """Claims in a run folder. ``plan``: what names the work, so that what is done of one plan says nothing of a larger one."""

    def __init__(self, folder: Path, plan: str) -> None:
        self.folder = folder / FOLDER / plan
        self.me = f"{os.getpid()} {socket.gethostname()}"
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
        return {file.stem: _read(file) for file in sorted(self.folder.glob("*.claim")) if not self._dead(file, now)}

    def clear(self) -> None:
        """Remove the claims of all plans: the run is complete."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)

    def _take(self, file: Path) -> bool:
        with explained(self.folder):  # somebody may have removed what only saves work
            self.folder.mkdir(parents=True, exist_ok=True)
        for _ in range(2):
            try:
                handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                if not self._dead(file, self._now()):
                    return False
                stale = file.with_name(f".{file.name}.{os.getpid()}.partial")
                with suppress(FileNotFoundError):
                    file.replace(stale)  # only one of several heirs gets it
                    stale.unlink()
            except OSError:
                with explained(file):
                    raise
            else:
                os.write(handle, self.me.encode())
                os.close(handle)
                return True
        return False

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
        pid, _, host = _read(file).partition(" ")
        if host == socket.gethostname() and pid.isdigit() and not alive(int(pid)):
            return True
        try:
            return now - file.stat().st_mtime > STALE
        except OSError:  # given back in between
            return False


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Is there a process of this number on this machine?"""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
