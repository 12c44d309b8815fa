"""Sets in a few large files, here or in a bucket: WebDataset's tars and Parquet. They are listed once; a picture is read when its turn comes."""

from __future__ import annotations

import io
import itertools
import json
import re
import tarfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.spec import AbstractBufferedFile

from sparring.core.errors import SparringError
from sparring.core.registry import DATA
from sparring.data.boundary import MAX_PIXELS, one_line, shown, some
from sparring.data.files import Files, files_of
from sparring.data.images import Unread
from sparring.data.labels import as_labels
from sparring.data.pictures import SUFFIXES, Look, check_channels, fitting_of, titled

NUMBER = re.compile(r"\s*[0-9]{1,9}\s*")


class Sample(NamedTuple):
    """Where a picture lies: in which file, from which byte on, how many."""

    file: int
    start: int
    size: int


class TarPictures:
    """Pictures in tar files, with labels."""

    def __init__(
        self,
        files: Files,
        samples: Sequence[Sample],
        ids: Sequence[str],
        labels: Sequence[int],
        look: Look,
    ) -> None:
        self.files, self.samples, self.ids, self.labels, self.look = files, samples, ids, labels, look

    def read(self, number: int) -> tuple[np.ndarray, int]:
        """See ``Source``."""
        name, (file, start, size) = self.ids[number], self.samples[number]
        with one_line(name, "cannot be read", "check the file and the connection"):
            content = self.files.read(file, start, size)
        return self.look.of(io.BytesIO(content), name), self.labels[number]


@DATA("wds")
def wds(
    path: str,
    label: str = "cls",
    channels: int | None = None,
    size: int | None = None,
    crop: float = 0.875,
    filter: str = "bicubic",
    max_pixels: int = MAX_PIXELS,
) -> Unread:
    """WebDataset tar files: a file, a folder of .tar, or a pattern (shard-*.tar), here or in a bucket (s3://...). A sample is the files of one key: one
    picture, and ``KEY.cls`` (label=: another ending) with the class number as text. size=, crop=, filter=, channels=: as of ``folder``.
    """
    check_channels(channels)
    place = f"wds:{shown(path)}"
    files, samples, ids, labels = files_of(path, ".tar", place), [], [], []
    for number, file in enumerate(files.paths):
        prefix = f"{file.rsplit('/', 1)[-1]}/" if len(files.paths) > 1 else ""
        thing = f"{place}: {file}"
        with (
            one_line(thing, "is no tar file that can be read whole", "write it again"),
            files.open(number) as content,
            tarfile.open(fileobj=content, mode="r:") as archive,
        ):
            for key, picture, class_number in _samples(archive, label, thing):
                samples.append(Sample(number, picture.offset_data, picture.size))
                ids.append(shown(f"{prefix}{key}"))
                labels.append(class_number)
            _require_end(content, archive.offset, thing)
    if not samples:
        raise SparringError(f"{place}: no sample with a picture and a label KEY.{label}; write label=ENDING")
    fitting = fitting_of(size, crop, filter, place)
    return Unread(TarPictures(files, samples, ids, labels, Look(channels, fitting, max_pixels)), titled(place, fitting))


def _samples(archive: tarfile.TarFile, label: str, thing: str) -> Iterator[tuple[str, tarfile.TarInfo, int]]:
    """(key, picture, class number) of the samples of a tar; files that are neither picture nor label are of no sample. Raises SparringError."""
    files = (member for member in archive if member.isfile())
    for key, group in itertools.groupby(files, key=lambda member: _split(member.name)[0]):
        members = list(group)
        endings = {_split(member.name)[1]: member for member in members}
        if len(endings) < len(members):
            raise SparringError(f"{thing}: sample {key} has two files of one ending; give each sample a key of its own")
        pictures = [member for ending, member in endings.items() if f".{ending}" in SUFFIXES]
        if not pictures and label not in endings:
            continue
        if len(pictures) != 1 or label not in endings:
            fault = f"has {len(pictures)} pictures" if len(pictures) != 1 else f"has no {key}.{label}"
            raise SparringError(f"{thing}: sample {key} {fault}; one picture and one label are needed")
        told = archive.extractfile(endings[label])
        text = told.read(100).decode(errors="replace") if told else ""
        if not NUMBER.fullmatch(text):
            raise SparringError(f"{thing}: {key}.{label} holds {text!r:.40}, no class number")
        yield key, pictures[0], int(text)


def _require_end(content: AbstractBufferedFile, offset: int, thing: str) -> None:
    """Raise SparringError for a tar without an empty block behind its last file: it was cut between two samples, or is still being written."""
    content.seek(offset)
    if content.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise SparringError(
            f"{thing} does not end as a tar does: it was cut off, or is still being written; fetch it again"
        )


def _split(name: str) -> tuple[str, str]:
    """(key, ending) of a file in a tar: the ending begins at the first dot of the last part."""
    folder, slash, base = name.rpartition("/")
    stem, _, ending = base.partition(".")
    return f"{folder}{slash}{stem}", ending.lower()


class ParquetPictures:
    """Pictures in a column of Parquet files, a group of rows at a time in memory."""

    def __init__(
        self,
        files: Files,
        column: str,
        labels: Sequence[int],
        groups: Sequence[tuple[int, int]],
        ends: Sequence[int],
        look: Look,
    ) -> None:
        self.files, self.column, self.labels, self.groups, self.ends = files, column, labels, groups, ends
        self.look = look
        self.ids = [str(i) for i in range(len(labels))]
        self._loaded = -1, pa.chunked_array([pa.nulls(0)])

    def read(self, number: int) -> tuple[np.ndarray, int]:
        """See ``Source``."""
        name, group = self.ids[number], bisect_right(self.ends, number)
        loaded, column = self._loaded
        if group != loaded:
            file, row_group = self.groups[group]
            with (
                one_line(f"{self.files.paths[file]}", "cannot be read", "check the file and the connection"),
                self.files.open(file) as content,
            ):
                column = pq.ParquetFile(content).read_row_group(row_group, columns=[self.column])[self.column]
            self._loaded = group, column  # at once: another thread may read too
        cell = column[number - (self.ends[group - 1] if group else 0)].as_py()
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(content, bytes):
            raise SparringError(f"{name} is no picture's bytes; give the column that holds them, image=NAME")
        return self.look.of(io.BytesIO(content), name), self.labels[number]


@DATA("parquet")
def parquet(
    path: str,
    image: str = "image",
    label: str = "label",
    channels: int | None = None,
    size: int | None = None,
    crop: float = 0.875,
    filter: str = "bicubic",
    max_pixels: int = MAX_PIXELS,
) -> Unread:
    """Parquet files as Hugging Face writes them: a file, a folder of .parquet or a pattern, here or in a bucket (s3://..., hf://datasets/NAME/...).
    ``image``: a column of picture files (bytes, or a record with ``bytes``); ``label``: a column of class numbers. size=, crop=, filter=, channels=: as
    of ``folder``.
    """
    check_channels(channels)
    place = f"parquet:{shown(path)}"
    files = files_of(path, ".parquet", place)
    labels: list[int] = []
    groups: list[tuple[int, int]] = []
    sizes: list[int] = []
    classes: tuple[str, ...] = ()
    for number, file in enumerate(files.paths):
        with (
            one_line(f"{place}: {file}", "is no Parquet file that can be read", "write it again"),
            files.open(number) as content,
        ):
            written = pq.ParquetFile(content)
            schema = written.schema_arrow
            if missing := [name for name in (image, label) if name not in schema.names]:
                columns = some(schema.names, 8)
                raise SparringError(
                    f"{place}: {file} has no column {missing[0]}, but {columns}; write image= and label="
                )
            column = written.read(columns=[label])[label]
            labels += as_labels(np.array(column.to_pylist()), len(column), f"{place}: {file}").tolist()
            counts = [written.metadata.row_group(i).num_rows for i in range(written.num_row_groups)]
            classes = classes or _names(schema, label)
        groups += [(number, i) for i in range(len(counts))]
        sizes += counts
    if not labels:
        raise SparringError(f"{place} has no rows; at least one image is needed")
    fitting = fitting_of(size, crop, filter, place)
    source = ParquetPictures(
        files, image, labels, groups, list(itertools.accumulate(sizes)), Look(channels, fitting, max_pixels)
    )
    return Unread(source, titled(place, fitting), classes)


def _names(schema: pa.Schema, label: str) -> tuple[str, ...]:
    """The classes' names that Hugging Face writes beside a Parquet file's columns, where they are all texts."""
    try:
        told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = told["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        return ()
    return tuple(map(str, names)) if isinstance(names, list) else ()
