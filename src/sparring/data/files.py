"""Files of image sets on any file system that fsspec knows: here, or in a bucket (s3://, gs://, hf://, memory://)."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import NamedTuple

import fsspec
from fsspec import AbstractFileSystem
from fsspec.spec import AbstractBufferedFile

from sparring.core.errors import SparringError
from sparring.data.boundary import one_line

RANGE = re.compile(r"\{([0-9]{1,9})\.\.([0-9]{1,9})\}")  # {000..009}


class Files(NamedTuple):
    """Files of one kind on one file system, in the order of their names."""

    system: AbstractFileSystem
    paths: Sequence[str]

    def open(self, number: int) -> AbstractBufferedFile:
        """The file of that number."""
        content = self.system.open(self.paths[number], "rb")
        assert not isinstance(content, io.TextIOWrapper)
        return content

    def read(self, number: int, start: int = 0, size: int | None = None) -> bytes:
        """So many bytes of it, from one on; None: all."""
        end = None if size is None else start + size
        content = self.system.cat_file(self.paths[number], start=start, end=end)
        assert isinstance(content, bytes)
        return content


def files_of(path: str, suffix: str, place: str) -> Files:
    """The file that ``path`` names, those of a folder, or those that a pattern fits (``a-*.tar``), on any file system of fsspec. Raises SparringError."""
    with one_line(place, "cannot be listed", "check the path, its permissions and the connection"):
        system, root = fsspec.core.url_to_fs(path)
        if numbered := RANGE.search(root):  # WebDataset's own way of naming shards
            first, last = numbered.groups()
            names = (f"{i:0{len(first)}d}" for i in range(int(first), int(last) + 1))
            paths = [root[: numbered.start()] + name + root[numbered.end() :] for name in names]
            if absent := [p for p in paths if not system.isfile(p)]:
                raise SparringError(
                    f"{place}: {len(absent)} of {len(paths)} files are not there, the first is {absent[0]}"
                )
        elif system.isfile(root):
            paths = [root]
        elif system.isdir(root):
            paths = sorted(p for p in system.find(root) if p.endswith(suffix))
        else:
            paths = sorted(str(p) for p in system.glob(root))
    if not paths:
        raise SparringError(f"{place} names no {suffix} file; give a file, a folder of such files, or a pattern with *")
    return Files(system, paths)


def is_remote(path: str) -> bool:
    """Does a path name a file system of its own?"""
    return "://" in path


def below(path: str, place: str) -> tuple[Files, list[str]]:
    """All files below a remote folder, and their names from there on. Raises SparringError where there is none."""
    with one_line(place, "cannot be listed", "check the path, its permissions and the connection"):
        system, root = fsspec.core.url_to_fs(path)
        root = root.rstrip("/")
        paths = sorted(str(p) for p in system.find(root))
    if not paths:
        raise SparringError(f"{place} holds no files; give a folder with one folder per class")
    return Files(system, paths), [p[len(root) + 1 :] for p in paths]
