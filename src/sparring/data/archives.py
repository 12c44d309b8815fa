"""Image sets in .npz files. Nothing is unpacked before its size is known and allowed; nothing is ever unpickled."""

from __future__ import annotations

import io
import itertools
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sparring.core.errors import SparringError
from sparring.core.registry import DATA
from sparring.data.boundary import MAX_BYTES, MAX_PIXELS, check_bytes, one_line, shown, size, some
from sparring.data.images import ImageSet
from sparring.data.pictures import check_channels, read_picture, stacked

FILES = {"jpeg", "offset", "y"}
ARRAYS = {"x", "y"}
DENSE = 200  # times its packed size: no photo, drawing or digit packs better, a bomb does
FREE = 64 * 2**20  # up to so many bytes nobody asks
FIX = "save it again with np.savez(FILE, x=..., y=...)"


@DATA("npz")
def npz(path: str, channels: int | None = None, max_pixels: int = MAX_PIXELS, max_bytes: int | None = None) -> ImageSet:
    """An .npz file with ``x`` (N,C,H,W) or (N,H,W,C), uint8 or float in [0,1], and ``y`` (N,). Or ``jpeg`` (bytes of files one after
    another), ``offset`` (N+1,) and ``y``. Other arrays are left alone. Never unpickled.

    max_bytes: what the pixels may take as float32; without it 8 GiB, and no array of over 64 MiB may have packed to less than a 200th.
    channels=3: gray is repeated three times; max_pixels: the bound of one picture (both for ``jpeg``).
    """
    check_channels(channels)
    file, place = Path(path), f"data file {shown(path)}"
    with one_line(place, "cannot be opened", "check its permissions"):
        if not file.is_file():
            fault = "is a folder" if file.is_dir() else "is no regular file" if file.exists() else "does not exist"
            raise SparringError(f"{place} {fault}; give the path of an .npz file")
    with one_line(place, "is not a plain npz file", FIX), zipfile.ZipFile(file) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if len(members) < len(archive.infolist()):
            raise SparringError(f"{place} holds an array twice; {FIX}")
        wanted = FILES if members.keys() >= FILES and not members.keys() >= ARRAYS else ARRAYS
        if not members.keys() >= wanted:
            held = some([shown(n) for n in members]) or "none"
            raise SparringError(f"{place} has arrays {held}; x and y are needed")
        content = {name: _array(archive, members[name], f"{place}: {name}", max_bytes) for name in sorted(wanted)}
    if "x" in content:
        return ImageSet.of(_channels_first(content["x"]), content["y"], name=shown(path))
    names: list[str] = []
    pictures: list[np.ndarray] = []
    values = 0
    for number, raw in enumerate(_pieces(content["jpeg"], content["offset"], place)):
        names.append(f"image {number}")
        pictures.append(read_picture(io.BytesIO(raw), f"{place}: image {number}", channels, max_pixels))
        values += pictures[-1].size
        check_bytes(place, values, MAX_BYTES if max_bytes is None else max_bytes)
    return ImageSet.of(stacked(pictures, names, place), content["y"], name=shown(path))


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, thing: str, max_bytes: int | None) -> np.ndarray:
    """One array of an archive, whose header agrees with the bytes that are there, and whose checksum is right."""
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        read_header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}.get(version[0])
        if read_header is None:
            raise SparringError(f"{thing} has version {version} of the npy format; {FIX}")
        shape, _, dtype = read_header(member)
        if dtype.hasobject:
            raise SparringError(
                f"{thing} holds pickled objects, so this is not a plain npz file; nothing is ever unpickled: save it as an array of numbers"
            )
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


def _pieces(jpeg: np.ndarray, offset: np.ndarray, place: str) -> Iterator[bytes]:
    """The files that stand one after another in ``jpeg``."""
    if jpeg.dtype != np.uint8 or jpeg.ndim != 1 or offset.dtype.kind not in "iu" or offset.ndim != 1 or len(offset) < 2:
        raise SparringError(f"{place}: jpeg must be bytes (uint8) and offset (N+1,) whole numbers; {FIX}")
    edges = [int(o) for o in offset]
    if edges[0] != 0 or edges[-1] != len(jpeg) or any(b <= a for a, b in itertools.pairwise(edges)):
        raise SparringError(f"{place}: offset must rise from 0 to the {len(jpeg)} bytes of jpeg; {FIX}")
    return (jpeg[a:b].tobytes() for a, b in itertools.pairwise(edges))


def _channels_first(x: np.ndarray) -> np.ndarray:
    if x.ndim == 4 and x.shape[1] not in (1, 3) and x.shape[-1] in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(x)
