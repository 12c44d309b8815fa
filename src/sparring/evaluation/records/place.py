"""``Place``: a file or folder of a run, on disk (``Path``) or in any store that fsspec knows (``Remote``): s3://, gs://, az://, hf://, memory://."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING

from sparring.core.errors import SparringError, one_line

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# what installs a protocol's library; the others say it themselves
INSTALLS = {
    "s3": "'sparring[s3]'",
    "s3a": "'sparring[s3]'",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "hf": "huggingface_hub",
}
# stores that many processes reach, and that make a file only where there is none in one step ("If-None-Match: *")
EXCLUSIVE = ("s3", "s3a", "gs", "gcs", "az", "abfs")
CODES = {
    FileNotFoundError: errno.ENOENT,
    FileExistsError: errno.EEXIST,
    PermissionError: errno.EACCES,
    IsADirectoryError: errno.EISDIR,
    NotADirectoryError: errno.ENOTDIR,
    TimeoutError: errno.ETIMEDOUT,
}


class Remote:
    """A file or folder in a store, used like a ``pathlib.Path`` as far as a run needs it. Every file is written whole, by one PUT; nothing is
    remembered of what is there. Whatever a store or its library refuses is an OSError that names the place.
    """

    def __init__(self, url: str) -> None:
        self.protocol, _, path = url.partition("://")
        self.path = PurePosixPath(path)

    def __str__(self) -> str:
        return f"{self.protocol}://{self.path}"

    def __repr__(self) -> str:
        return f"Remote({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and str(self) == str(other)

    def __lt__(self, other: Remote) -> bool:
        return (self.protocol, self.path) < (other.protocol, other.path)

    def __hash__(self) -> int:
        return hash(str(self))

    def __truediv__(self, name: str) -> Remote:
        return self._at(self.path / name)

    def _at(self, path: PurePosixPath) -> Remote:
        return Remote(f"{self.protocol}://{path}")

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def stem(self) -> str:
        return self.path.stem

    @property
    def suffix(self) -> str:
        return self.path.suffix

    @property
    def parent(self) -> Remote:
        return self._at(self.path.parent)

    def with_name(self, name: str) -> Remote:
        return self._at(self.path.with_name(name))

    @property
    def exclusive(self) -> bool:
        """Can only one of many processes make a file here?"""
        return self.protocol in EXCLUSIVE

    def read_bytes(self) -> bytes:
        with self._asked() as store:
            content = store.cat_file(str(self))
            return content if isinstance(content, bytes) else content.encode()

    def read_text(self) -> str:
        return self.read_bytes().decode()

    def write_bytes(self, content: bytes) -> None:
        with self._asked() as store:
            store.pipe_file(str(self), content)

    def create(self, content: bytes) -> bool:
        """Make the file, unless it is there; was it made? Where the store is not ``exclusive``, two at once may both think so."""
        if not self.exclusive:
            if self.exists():
                return False
            self.write_bytes(content)
            return True
        try:
            with self._asked() as store:
                store.pipe_file(str(self), content, mode="create")
        except OSError:  # stores name this refusal differently
            if self.exists():
                return False
            raise
        return True

    def exists(self) -> bool:
        with self._asked() as store:
            try:
                store.info(str(self))  # exists() takes every error for no
            except FileNotFoundError:
                return False
            return True

    def is_file(self) -> bool:
        with self._asked() as store:
            return store.isfile(str(self))

    def is_dir(self) -> bool:
        with self._asked() as store:
            return store.isdir(str(self))

    def modified(self) -> float:
        """When it was written, by the store's clock, in seconds."""
        with self._asked() as store:
            return store.modified(str(self)).timestamp()

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            with self._asked() as store:
                store.rm_file(str(self))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove(self) -> None:
        """Remove a folder with all that is in it."""
        with suppress(FileNotFoundError), self._asked() as store:
            store.rm(str(self), recursive=True)

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: a store has no folders, and a bucket is its owner's to make."""

    def iterdir(self) -> list[Remote]:
        try:
            with self._asked() as store:
                listed: list[str] = store.ls(str(self), detail=False)
        except FileNotFoundError:
            return []
        names = (PurePosixPath(path).name for path in listed)
        return [self / name for name in names if name and name != self.name]

    def glob(self, pattern: str) -> list[Remote]:
        """The files whose path below this one has the pattern's form, part by part."""
        literal = PurePosixPath(*_literal(pattern))
        depth = len(PurePosixPath(pattern).parts)
        below = [(file, file.path.relative_to(self.path)) for file in self._at(self.path / literal).rglob("*")]
        return sorted(file for file, path in below if len(path.parts) == depth and path.match(pattern))

    def rglob(self, pattern: str) -> list[Remote]:
        """The files below this one whose name has the pattern's form."""
        try:
            with self._asked() as store:
                listed = list(store.find(str(self)))
        except FileNotFoundError:
            return []
        # what a store lists begins with the path that it was asked for, in its own spelling
        paths = (PurePosixPath(path.strip("/")) for path in listed)
        return [self._at(path) for path in paths if path.match(pattern)]

    @contextmanager
    def _asked(self) -> Iterator[AbstractFileSystem]:
        store = _store(self.protocol)
        try:
            store.invalidate_cache()  # others write here, too
            yield store
        except OSError as error:
            code = next((c for kind, c in CODES.items() if isinstance(error, kind)), error.errno or errno.EIO)
            raise OSError(
                code, error.strerror or one_line(error).partition(": ")[2] or os.strerror(code), str(self)
            ) from None
        except Exception as error:  # whatever a client library says: of credentials, connections, HTTP
            raise OSError(errno.EIO, one_line(error), str(self)) from None


Place = Path | Remote


def place_of(text: str | Place) -> Place:
    """What a user's text names: a path on disk, or PROTOCOL://... in a store. Raises SparringError for a protocol that is unknown or not installed."""
    if isinstance(text, Remote):
        return text
    if isinstance(text, Path):
        head = text.parts[0] if text.parts else ""
        if len(head) > 2 and head.endswith(
            ":"
        ):  # Path("s3://b/run") has lost a slash, and would be a folder called "s3:"
            raise SparringError(f"{text} is a path on disk; write a place in a store as a text: {head}//...")
        return text
    protocol, separator, path = text.partition("://")
    if not separator:
        return Path(text)
    if not path.strip("/"):
        raise SparringError(f"{text} names no place; write {protocol}://BUCKET/FOLDER")
    if protocol in ("file", "local"):
        return Path(path)
    _store(protocol)
    return Remote(text)


def modified(place: Place) -> float:
    """When a file was written, in seconds, by the clock of where it is. Raises OSError."""
    return place.modified() if isinstance(place, Remote) else place.stat().st_mtime


def remove(folder: Place) -> None:
    """Remove a folder with all that is in it, as far as that can be done."""
    if isinstance(folder, Remote):
        with suppress(OSError):
            folder.remove()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def inside(file: Place, folder: Place) -> PurePath:
    """The path of a file below a folder."""
    return PurePath(str(file)).relative_to(PurePath(str(folder)))


def _literal(pattern: str) -> list[str]:
    parts: list[str] = []
    for part in PurePosixPath(pattern).parts:
        if "*" in part:
            break
        parts.append(part)
    return parts


def _store(protocol: str) -> AbstractFileSystem:
    """The file system of a protocol; fsspec keeps one of each."""
    import fsspec

    try:
        return fsspec.filesystem(protocol, use_listings_cache=False)
    except ImportError as error:
        raise SparringError(
            f"{protocol}:// needs a package that is not installed ({one_line(error)}); run: pip install {INSTALLS.get(protocol, 'what it names')}"
        ) from None
    except ValueError as error:
        raise SparringError(
            f"{protocol}:// is no store that fsspec knows ({one_line(error)}); write a path, or s3://BUCKET/RUN"
        ) from None
    except Exception as error:  # what a library says of its own settings
        raise SparringError(
            f"{protocol}:// cannot be opened ({one_line(error)}); put that right, then the same command"
        ) from None
