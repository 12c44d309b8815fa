"""How a file of a run is written and read back: whole or not at all, with a checksum of itself inside it.

A file's checksum is the sha256 of its bytes with the checksum's own 64 digits written as zeros. It stands in the file's own metadata
(of Parquet, of safetensors, a key of run.json), so one rename puts both there and every other reader still reads the file.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparring.core.errors import SparringError
from sparring.evaluation.records.place import Place, Remote

MARK = "sparring-sha256:"
BLANK = MARK + 64 * "0"
RESUMES = "the same command resumes"
# what puts it right, by what the system said of a folder or file that cannot be written
FIXES = {
    errno.ENOSPC: f"free some space; {RESUMES}",
    errno.EDQUOT: f"free some of your quota; {RESUMES}",
    errno.EFBIG: f"choose a file system for larger files; {RESUMES}",
    errno.EACCES: "make it writable, or choose another place",
    errno.EPERM: "make it writable, or choose another place",
    errno.EROFS: "choose a place that can be written",
    errno.ENOTDIR: "a file stands where a folder is needed; choose another place",
    errno.EEXIST: "a file stands where a folder is needed; choose another place",
    errno.EISDIR: f"a folder stands where a file is needed; move it away, {RESUMES}",
    errno.ENOTEMPTY: f"a folder stands where a file is needed; move it away, {RESUMES}",
    errno.ENOENT: f"its folder vanished while it was being written; bring it back, {RESUMES}",
    errno.ENAMETOOLONG: "choose a shorter name",
}


class Damaged(Exception):
    """What is wrong with a stored file, in words. It can be made anew."""


class Unreadable(Damaged):
    """A stored file that nobody can read now, but whose content may be whole: it is not replaced."""


def seal(content: bytes) -> bytes:
    """The same bytes, with their checksum in the place of ``BLANK``, which must be in them once."""
    return content.replace(BLANK.encode(), (MARK + hashlib.sha256(content).hexdigest()).encode(), 1)


def seal_of(content: bytes) -> str:
    """The checksum inside a file's bytes, or "" where there is none. Raises Damaged if it is not that of the bytes."""
    start = content.find(MARK.encode()) + len(MARK)
    if start < len(MARK):
        return ""
    view, end = memoryview(content), start + 64
    digest = hashlib.sha256(view[:start])
    digest.update(64 * b"0")
    digest.update(view[end:])
    if digest.hexdigest().encode() != content[start:end]:
        raise Damaged("its checksum does not match its content")
    return digest.hexdigest()


def read_sealed(file: Place, sealed: bool) -> bytes | None:
    """The bytes of a stored file whose checksum was found to be right, or None where there is no such file.

    sealed: a file without a checksum is damaged too; folders of earlier editions have none. Raises Damaged, or Unreadable.
    """
    if isinstance(file, Path) and os.path.exists(file) and not (file.is_file() or file.is_dir()):
        # a pipe or a device may never end
        raise Unreadable("it is no regular file")
    try:
        content = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError:
        raise Unreadable("it is a folder") from None
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from None
    if not content:
        raise Damaged("it is empty")
    if not seal_of(content) and sealed:
        raise Damaged("its checksum is gone: it was cut short or overwritten")
    return content


def write_whole(file: Place, content: bytes) -> None:
    """Write a file by one rename, in a store by one PUT; what fails leaves the file as it was, nothing beside it, and one line that says so."""
    try:
        if isinstance(file, Remote):
            file.write_bytes(content)
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial(file).write_bytes(content)
            partial(file).replace(file)
        except BaseException:
            partial(file).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise cannot_write(file, error) from None


def write_text(file: Place, text: str) -> None:
    """Write a text file whole."""
    write_whole(file, text.encode())


@contextmanager
def explained(path: Place) -> Iterator[None]:
    """What the system refuses inside, while something at ``path`` is being written, becomes one line."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from None


def cannot_write(path: Place, error: OSError) -> SparringError:
    """One line: what could not be written, why, and what puts it right."""
    fix = FIXES.get(error.errno or 0, f"put that right; {RESUMES}")
    if isinstance(path, Remote) and error.errno == errno.ENOENT:
        fix = f"make it, or choose another place; {RESUMES}"
    return SparringError(f"cannot write {path}: {error.strerror or error}; {fix}")


def is_partial(file: Place) -> bool:
    """Is it what a process left that was killed while it wrote?"""
    return file.name.startswith(".") and file.suffix == ".partial"


def partial(file: Path) -> Path:
    """Where a process writes before it renames."""
    return file.with_name(f".{file.name}.{os.getpid()}.partial")
