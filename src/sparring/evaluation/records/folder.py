"""A run folder has one process at work in it, and belongs to nobody else."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import ModuleType

from sparring.core.errors import SparringError
from sparring.evaluation.records.claims import FOLDER as CLAIMS
from sparring.evaluation.records.claims import beating, dead, me, owner_died, owner_of, take
from sparring.evaluation.records.place import Place, Remote
from sparring.evaluation.records.seal import explained, is_partial

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None

LOCK, OWNER = ".lock", ".owner"
IMAGES = "images.parquet"  # the inventory of a large image set
OURS = {"run.json", "run.json.damaged", IMAGES, "rows", "points", "pictures", CLAIMS, LOCK, OWNER}
UNSUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}  # what a file system without locks answers


def is_ours(file: Place) -> bool:
    """Does a run put such a file or folder there?"""
    return file.name in OURS or file.name.startswith(f"{LOCK}.") or is_partial(file)


@contextmanager
def claimed(folder: Place, shared: bool = False, helped: bool = False) -> Iterator[Place]:
    """The folder, created if need be, with this process alone at work in it until the end, and without what killed ones left half-written;
    ``shared``: together with others that share it, too; ``helped``: with workers of its own.

    A folder that was created here and stays empty is removed again. Raises SparringError if it cannot be created or written, holds other things
    than a run, another process works in it, or several are to work in a store that cannot tell them apart.
    """
    if isinstance(folder, Remote):
        with _leased(folder, shared, shared or helped):
            yield folder
    else:
        with _claimed_on_disk(folder, shared):
            yield folder


@contextmanager
def _leased(folder: Remote, shared: bool, several: bool) -> Iterator[None]:
    """Hold the lock of a folder in a store, by files that heartbeats keep alive: one, or one of each process that shares the folder. Each makes its own
    before it looks at those of others, so that never both go on.
    """
    if several and not folder.exclusive:
        raise _not_exclusive(folder)
    with ExitStack() as held:
        with explained(folder):
            _admit(folder)
            lock = folder / (f"{LOCK}.{socket.gethostname()}.{os.getpid()}" if shared else LOCK)
            if not take(lock, lambda: dead(lock)):
                raise _taken(lock, "")
            held.enter_context(beating(lock))
            if several and lock.create(b""):  # a store that overlooks the condition
                raise _not_exclusive(folder)
            others = [folder / LOCK] if shared else [f for f in folder.iterdir() if f.name.startswith(f"{LOCK}.")]
            for other in others:
                if not dead(other):
                    raise _taken(other, "")
        yield


def _not_exclusive(folder: Remote) -> SparringError:
    return SparringError(
        f"{folder}: this store cannot say which of several processes came first; leave shard and workers out, or choose s3://, gs:// or a disk"
    )


@contextmanager
def _claimed_on_disk(folder: Path, shared: bool) -> Iterator[None]:
    """``claimed`` where the system locks and renames."""
    created = [p for p in (folder, *folder.parents) if not os.path.lexists(p)]
    with explained(folder):
        if folder.is_dir():
            _admit(folder)
        elif os.path.lexists(folder):
            leads = "a link that leads nowhere" if folder.is_symlink() and not folder.exists() else "a file"
            raise SparringError(f"output {folder} is {leads}; choose a folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError:  # as in /proc: its parent is there
            raise SparringError(f"cannot write {folder}: no folder can be made there; choose another place") from None
    try:
        with _locked(folder, shared):
            for file in [f for f in folder.rglob(".*.partial") if is_partial(f) and f.is_file() and not shared]:
                with suppress(OSError):
                    file.unlink()
            yield
    finally:
        for place in created:
            with suppress(OSError):
                place.rmdir()


def _admit(folder: Place) -> None:
    """Raises SparringError if the folder holds what no run puts there, and no record of a run."""
    foreign = [f.name for f in folder.iterdir() if not is_ours(f)]
    if foreign and not (folder / "run.json").exists():
        raise SparringError(f"output folder {folder} is not empty and is no sparring run; choose another --out")


@contextmanager
def _locked(folder: Path, shared: bool) -> Iterator[None]:
    """Hold the folder's lock. The system lets go of it when a process dies, however it dies."""
    file, owner = folder / LOCK, folder / OWNER
    with explained(file):
        handle = _flock(file, shared)
        if handle is None and not shared:  # where the system has no locks, those who share trust each other
            _by_name(owner)
    try:
        yield
    finally:
        # removed while it is held: who opened it before finds that it is another file than the one that is there
        for held in (file,) if handle is not None else (owner, file):
            if not shared or (handle is not None and _last(handle)):
                with suppress(OSError):
                    held.unlink()
        if handle is not None:
            os.close(handle)


def _last(handle: int) -> bool:
    """Does nobody else hold the lock that this process shares?"""
    try:
        assert fcntl is not None
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _flock(file: Path, shared: bool) -> int | None:
    """An open file with the system's lock on it, or None where the system has none."""
    while fcntl is not None:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            if os.path.exists(file) and os.path.samestat(os.fstat(handle), os.stat(file)):
                with suppress(OSError):  # a full disk is told of when it matters
                    os.ftruncate(handle, 0)
                    os.write(handle, me().encode())
                return handle
            os.close(handle)  # its owner removed it in between
        except OSError as error:
            os.close(handle)
            if error.errno in UNSUPPORTED:
                return None
            if isinstance(error, BlockingIOError):
                raise _taken(file, "") from None
            raise
    return None


def _by_name(file: Path) -> None:
    """Take the lock by making the file. One of a dead process of this machine is taken over, one of another machine never is."""
    if not take(file, lambda: owner_died(file)):
        raise _taken(file, f" (if no such process runs, delete {file})")


def _taken(file: Place, hint: str) -> SparringError:
    pid, host = owner_of(file)
    who = f"process {pid} on {host}" if host else "another process"
    return SparringError(
        f"output folder {file.parent} is in use by {who}; wait until it ends, or choose another --out{hint}"
    )
