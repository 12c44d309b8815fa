"""Image sets in .npz files. Nothing is unpacked before its size is known and allowed; nothing is ever unpickled."""

from __future__ import annotations

import io
import itertools
import math
import zipfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from sparring.core.errors import SparringError
from sparring.core.registry import DATA
from sparring.data.boundary import MAX_BYTES, MAX_PIXELS, check_bytes, one_line, shown, size, some
from sparring.data.files import files_of, is_remote
from sparring.data.images import ImageSet, Unread
from sparring.data.labels import as_labels
from sparring.data.pictures import check_channels, read_picture
from sparring.data.stream import HELD

FILES = {"jpeg", "offset", "y"}
ARRAYS = {"x", "y"}
DENSE = 200  # times its packed size: no photo, drawing or digit packs better, a bomb does
FREE = 64 * 2**20  # up to so many bytes nobody asks
NAMED = 26  # bytes of a zip member's own header before the lengths of its name and of what follows that
FIX = "save it again with np.savez(FILE, x=..., y=...)"


@DATA("npz")
def npz(
    path: str, channels: int | None = None, max_pixels: int = MAX_PIXELS, max_bytes: int | None = None
) -> ImageSet | Unread:
    """An .npz file with ``x`` (N,C,H,W) or (N,H,W,C), uint8 or float in [0,1], and ``y`` (N,). Or ``jpeg`` (bytes of files one after
    another), ``offset`` (N+1,) and ``y``. ``name`` (N,), texts, says what each label is called. Other arrays are left alone. Never unpickled.

    max_bytes: what an array may take as float32; without it 8 GiB, and no array of over 64 MiB may have packed to less than a 200th. An ``x`` of
    over 256 MiB that is not packed (np.savez) stays in its file, and its blocks are read when their turn comes: it may be larger than memory.
    channels=3: gray is repeated three times; max_pixels: the bound of one picture (both for ``jpeg``).
    """
    check_channels(channels)
    file, place = Path(path), f"data file {shown(path)}"
    remote = files_of(path, ".npz", place) if is_remote(path) else None
    with one_line(place, "cannot be opened", "check its permissions"):
        if remote is None and not file.is_file():
            fault = "is a folder" if file.is_dir() else "is no regular file" if file.exists() else "does not exist"
            raise SparringError(f"{place} {fault}; give the path of an .npz file")
    with (
        one_line(place, "is not a plain npz file", FIX),
        nullcontext(file) if remote is None else remote.open(0) as opened,
        zipfile.ZipFile(opened) as archive,
    ):
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if len(members) < len(archive.infolist()):
            raise SparringError(f"{place} holds an array twice; {FIX}")
        wanted = FILES if members.keys() >= FILES and not members.keys() >= ARRAYS else ARRAYS
        if not members.keys() >= wanted:
            held = some([shown(n) for n in members]) or "none"
            raise SparringError(f"{place} has arrays {held}; x and y are needed")
        here = "x" in wanted and remote is None
        mapped = _mapped(archive, members["x"], file, f"{place}: x") if here else None
        rest = sorted(wanted - {"x"} if mapped is not None else wanted)
        content = {name: _array(archive, members[name], f"{place}: {name}", max_bytes) for name in rest}
        texts = _texts(archive, members.get("name"), f"{place}: name", max_bytes)
    if mapped is not None:
        labels = as_labels(content["y"], mapped.shape[0], shown(path)).tolist()
        return Unread(Mapped(mapped, labels), shown(path), _class_names(texts, labels))
    if "x" in content:
        images = ImageSet.of(_channels_first(content["x"]), content["y"], name=shown(path))
        return replace(images, classes=_class_names(texts, images.y.tolist()))
    edges = _edges(content["jpeg"], content["offset"], place)
    labels = as_labels(content["y"], len(edges) - 1, place).tolist()
    return Unread(
        Packed(content["jpeg"], edges, labels, channels, max_pixels), shown(path), _class_names(texts, labels)
    )


def _texts(archive: zipfile.ZipFile, info: zipfile.ZipInfo | None, thing: str, max_bytes: int | None) -> list[str]:
    """The texts of an array, none where it is not there or holds something else."""
    if info is None:
        return []
    try:
        with archive.open(info) as member:
            shape, _, dtype = _header(member, thing)
    except SparringError:  # objects, which are never read: nobody asked for this array
        return []
    if dtype.kind != "U" or len(shape) != 1:
        return []
    return [shown(text) for text in _array(archive, info, thing, max_bytes).tolist()]


def _class_names(texts: list[str], labels: list[int]) -> tuple[str, ...]:
    """Names by label, "" where no image has it; none where the texts do not call all images of a label the same: then they name images, not classes."""
    if not texts or len(texts) != len(labels):
        return ()
    names = dict(zip(labels, texts, strict=True))
    if any(names[label] != text for label, text in zip(labels, texts, strict=True)):
        return ()
    return tuple(names.get(label, "") for label in range(max(names) + 1))


@dataclass(frozen=True)
class Region:
    """Where an array (N,C,H,W) or (N,H,W,C) lies unpacked in a file."""

    file: Path
    dtype: np.dtype
    start: int
    shape: tuple[int, ...]

    def at(self, number: int) -> np.ndarray:
        """One of its images (H,W,C), read from the file."""
        image = np.memmap(self.file, self.dtype, "r", self.start, self.shape)[number]
        return np.array(image if _channels_last(self.shape) else image.transpose(1, 2, 0))


class Mapped:
    """Pixels that stay in their file, with labels."""

    def __init__(self, region: Region, labels: Sequence[int]) -> None:
        self.region, self.labels = region, labels
        self.ids = [str(i) for i in range(len(labels))]

    def read(self, number: int) -> tuple[np.ndarray, int]:
        """See ``Source``."""
        return self.region.at(number), self.labels[number]


class Packed:
    """Picture files that stand one after another in an array of bytes, with labels."""

    def __init__(
        self, content: np.ndarray, edges: Sequence[int], labels: Sequence[int], channels: int | None, max_pixels: int
    ) -> None:
        self.content, self.edges, self.labels = content, edges, labels
        self.channels, self.max_pixels = channels, max_pixels
        self.ids = [str(i) for i in range(len(labels))]

    def read(self, number: int) -> tuple[np.ndarray, int]:
        """See ``Source``."""
        piece = io.BytesIO(self.content[self.edges[number] : self.edges[number + 1]].tobytes())
        return read_picture(piece, f"image {number}", self.channels, self.max_pixels), self.labels[number]


def _mapped(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: Path, thing: str) -> Region | None:
    """Where pixels lie that are unpacked in their file and too many to be held; None where they are others."""
    if info.compress_type != zipfile.ZIP_STORED or info.file_size <= HELD:
        return None
    with archive.open(info) as member:
        shape, fortran, dtype = _header(member, thing)
        at, values = member.tell(), math.prod(shape)
        pixels = len(shape) == 4 and (shape[1] in (1, 3) or _channels_last(shape))
        whole = at + values * dtype.itemsize == info.file_size
        if fortran or dtype not in (np.uint8, np.float32) or not pixels or not whole:
            return None
        while member.read(FREE):  # to its end, where the checksum is looked at
            pass
    with file.open("rb") as content:
        content.seek(info.header_offset + NAMED)
        name, extra = np.frombuffer(content.read(4), "<u2")
    return Region(file, dtype, info.header_offset + NAMED + 4 + int(name) + int(extra) + at, shape)


def _header(member: IO[bytes], thing: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, in Fortran's order, type) of an array. Raises SparringError for an unknown version of the format, and for objects."""
    version = np.lib.format.read_magic(member)
    read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}.get(version[0])
    if read is None:
        raise SparringError(f"{thing} has version {version} of the npy format; {FIX}")
    shape, fortran, dtype = read(member)
    if dtype.hasobject:
        raise SparringError(
            f"{thing} holds pickled objects, so this is not a plain npz file; nothing is ever unpickled: save it as an array of numbers"
        )
    return shape, fortran, dtype


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, thing: str, max_bytes: int | None) -> np.ndarray:
    """One array of an archive, whose header agrees with the bytes that are there, and whose checksum is right."""
    with archive.open(info) as member:
        shape, _, dtype = _header(member, thing)
        values = math.prod(shape)
        check_bytes(thing, values, MAX_BYTES if max_bytes is None else max_bytes)
        if member.tell() + values * dtype.itemsize != info.file_size:
            raise SparringError(f"{thing} claims {size(values * dtype.itemsize)} in {size(info.file_size)}; {FIX}")
        if max_bytes is None and info.file_size > max(FREE, DENSE * info.compress_size):
            raise SparringError(
                f"{thing} unpacks {size(info.compress_size)} to {size(info.file_size)}, over {DENSE} times as much (the limit above "
                f"{size(FREE)}); write max_bytes={4 * values} if that is right"
            )
    with archive.open(info) as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
        member.read()  # to its end, where the checksum is looked at
    return array


def _edges(jpeg: np.ndarray, offset: np.ndarray, place: str) -> list[int]:
    """Where the files begin and end that stand one after another in ``jpeg``."""
    if jpeg.dtype != np.uint8 or jpeg.ndim != 1 or offset.dtype.kind not in "iu" or offset.ndim != 1 or len(offset) < 2:
        raise SparringError(f"{place}: jpeg must be bytes (uint8) and offset (N+1,) whole numbers; {FIX}")
    edges = [int(o) for o in offset]
    if edges[0] != 0 or edges[-1] != len(jpeg) or any(b <= a for a, b in itertools.pairwise(edges)):
        raise SparringError(f"{place}: offset must rise from 0 to the {len(jpeg)} bytes of jpeg; {FIX}")
    return edges


def _channels_last(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[1] not in (1, 3) and shape[-1] in (1, 3)


def _channels_first(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2) if _channels_last(x.shape) else x)
