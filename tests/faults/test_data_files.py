"""Picture files and archives: the right pixels, or one line that names the file, the fault and the fix; bombs stay packed."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sparring.core.errors import SparringError
from sparring.data.sources import load_data
from tests.faults.inputs import GRAY, RGB, Make, X, Y, npz, photo, refused

# pictures ------------------------------------------------------------------------------------------------------------

DEEP = np.array([[0, 257, 30000, 65535, 1, 9]] * 5, np.uint16)
FLOAT = np.linspace(0, 1, 30, dtype=np.float32).reshape(5, 6)


def _rgba(alpha: int) -> np.ndarray:
    return np.concatenate([RGB, np.full((5, 6, 1), alpha, np.uint8)], 2)


def _palette() -> Image.Image:
    image = Image.fromarray((GRAY % 4).astype(np.uint8), "L").convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9] + [0] * 756)
    return image


PALETTE = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], np.uint8)[GRAY % 4]
PICTURES: list[tuple[str, str, Any, np.ndarray, dict[str, Any]]] = [
    ("rgb", "png", RGB, RGB / 255, {}),
    ("gray", "png", GRAY, GRAY[..., None] / 255, {}),
    ("1 bit", "png", Image.fromarray(GRAY > 99), (GRAY > 99)[..., None] * 1.0, {}),
    ("16 bits", "png", DEEP, DEEP[..., None] / 65535, {}),
    ("16 bits tiff", "tiff", DEEP, DEEP[..., None] / 65535, {}),
    ("float tiff", "tiff", FLOAT, FLOAT[..., None], {}),
    ("opaque", "png", _rgba(255), RGB / 255, {}),
    ("gray and opaque", "png", Image.fromarray(GRAY).convert("LA"), GRAY[..., None] / 255, {}),
    ("palette", "png", _palette(), PALETTE / 255, {}),
    ("bmp", "bmp", RGB, RGB / 255, {}),
    ("webp", "webp", RGB, RGB / 255, {"lossless": True}),
    ("turned", "png", RGB, np.rot90(RGB, -1) / 255, {"exif": 6}),
    ("mirrored", "png", RGB, RGB[:, ::-1] / 255, {"exif": 2}),
]


@pytest.mark.parametrize("case", PICTURES, ids=[c[0] for c in PICTURES])
def test_pictures_are_read_without_loss(case, tmp_path):
    _, suffix, image, expected, options = case
    if "exif" in options:
        exif = Image.Exif()
        exif[274] = options["exif"]
        options = {"exif": exif}
    images = load_data(photo(tmp_path, f"a/0.{suffix}", image, **options))
    assert images.x[0].permute(1, 2, 0).numpy() == pytest.approx(expected, abs=1e-6)
    assert images.lattice == bool((np.abs(expected * 255 - np.round(expected * 255)) < 1e-3).all())


def _chunk(kind: bytes, data: bytes, error: int = 0) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ error)


def _png16(folder: Path) -> Path:
    """A PNG of 16 bits a color, which Pillow cannot write."""
    rows = b"".join(b"\0" + bytes(36) for _ in range(5))
    content = _chunk(b"IHDR", struct.pack(">IIBBBBB", 6, 5, 16, 2, 0, 0, 0)) + _chunk(b"IDAT", zlib.compress(rows))
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content + _chunk(b"IEND", b""))
    return folder


def _turned_by_a_flipped_bit(folder: Path) -> Path:
    """The orientation stands after the pixels, where decoding looks at no checksum."""
    exif = Image.Exif()
    exif[274] = 6
    file = photo(folder, "a/0.png") / "a" / "0.png"
    raw = file.read_bytes()
    file.write_bytes(raw[:-12] + _chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"), error=1) + raw[-12:])
    return folder


def _frames(folder: Path) -> Path:
    return photo(folder, "a/0.tiff", None, save_all=True, append_images=[Image.fromarray(RGB)])


def _torn(suffix: str, keep: float) -> Make:
    def make(folder: Path) -> Path:
        file = photo(folder, f"a/0.{suffix}") / "a" / f"0.{suffix}"
        file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)])
        return folder

    return make


BAD_PICTURES: list[tuple[str, Make, tuple[str, ...]]] = [
    ("16 bits a color", _png16, ("a/0.png", "16 bits a color", "save it with 8 bits")),
    ("a wrong checksum", _turned_by_a_flipped_bit, ("a/0.png", "not a picture", "repair")),
    ("transparent", lambda f: photo(f, "a/0.png", _rgba(128)), ("a/0.png", "transparent", "flatten")),
    ("transparent palette", lambda f: photo(f, "a/0.png", _palette(), transparency=1), ("a/0.png", "transparent", "flatten")),
    ("cmyk", lambda f: photo(f, "a/0.jpg", Image.fromarray(RGB).convert("CMYK")), ("a/0.jpg", "CMYK", "convert it to RGB")),
    ("float above 1", lambda f: photo(f, "a/0.tiff", FLOAT * 255), ("a/0.tiff", "outside [0,1]", "scale")),
    ("float nan", lambda f: photo(f, "a/0.tiff", FLOAT * np.nan), ("a/0.tiff", "outside [0,1]", "scale")),
    ("32-bit whole numbers", lambda f: photo(f, "a/0.tiff", GRAY.astype(np.int32)), ("a/0.tiff", "32-bit", "8 or 16 bits")),
    ("frames", _frames, ("a/0.tiff", "several frames", "picture of its own")),
    ("gray among rgb", lambda f: photo(photo(photo(f, "a/0.png"), "a/1.png"), "b/2.png", GRAY), ("b/2.png is 6x5 gray", "channels=3")),
    ("rgb for gray", lambda f: f"{photo(f, 'a/0.png')},channels=1", ("a/0.png", "channels=1", "gray first")),
    ("sizes", lambda f: photo(photo(photo(f, "a/0.png"), "a/1.png"), "b/2.png", RGB[:4]), ("b/2.png is 6x4 RGB", "resize")),
    ("no bytes", _torn("png", 0), ("a/0.png", "cannot", "repair", "--skip-bad")),
    ("half a png", _torn("png", 0.6), ("a/0.png", "repair", "--skip-bad")),
    ("half a jpeg", _torn("jpg", 0.9), ("a/0.jpg", "repair", "--skip-bad")),
    ("half a bmp", _torn("bmp", 0.9), ("a/0.bmp", "repair", "--skip-bad")),
    ("text", lambda f: ((f / "a").mkdir(parents=True), (f / "a" / "0.png").write_text("hello"), f)[2], ("a/0.png", "not a picture")),
]  # fmt: skip


@pytest.mark.parametrize(("make", "says"), [c[1:] for c in BAD_PICTURES], ids=[c[0] for c in BAD_PICTURES])
def test_pictures_that_would_lose_something_are_refused(make, says, tmp_path):
    refused(make(tmp_path / "set"), *says)


def test_channels_3_repeats_gray(tmp_path):
    folder = photo(photo(tmp_path / "set", "a/0.png"), "a/1.png", GRAY)
    images = load_data(f"{folder},channels=3")
    assert torch.equal(images.x[1], images.x[0, :1].expand(3, -1, -1))


def test_what_is_skipped_is_counted_and_named(tmp_path):
    folder = photo(photo(tmp_path / "set", "a/0.png"), "b/1.png")
    (folder / "a" / "bad.png").write_text("x")
    refused(folder, "1 unreadable image(s), the first is a/bad.png", "--skip-bad")
    with pytest.warns(UserWarning, match=r"1 of 3 images left out: a/bad.png"):
        images = load_data(folder, skip_bad=True)
    assert images.left_out == images.draw(1).left_out == ("a/bad.png",)
    assert images.ids == ("a/0.png", "b/1.png")
    for file in (folder / "a" / "0.png", folder / "b" / "1.png"):
        file.write_text("x")
    refused(folder, "3 unreadable image(s)", skip_bad=True)


# archives ------------------------------------------------------------------------------------------------------------


def _raw(folder: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(folder / "a.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return folder / "a.npz"


def _npy(array: np.ndarray, shape: tuple[int, ...] | None = None) -> bytes:
    """An npy file; ``shape``: what its header claims instead."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": array.dtype.str, "fortran_order": False, "shape": shape or array.shape}
    )
    return buffer.getvalue() + array.tobytes()


class Explodes:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("exploded"),))


def _jpegs(folder: Path, **changes: Any) -> Path:
    pieces: list[bytes] = []
    for _ in range(2):
        buffer = io.BytesIO()
        Image.fromarray(RGB).save(buffer, "PNG")
        pieces.append(buffer.getvalue())
    raw = np.frombuffer(b"".join(pieces), np.uint8)
    whole = {"jpeg": raw, "offset": np.array([0, len(pieces[0]), len(raw)]), "y": np.array([1, 0])}
    return npz(folder, **{**whole, **changes})


def _cut(folder: Path) -> Path:
    file = npz(folder, x=X, y=Y)
    file.write_bytes(file.read_bytes()[:-40])
    return file


ARCHIVES: list[tuple[str, Make, tuple[str, ...]]] = [
    ("none", lambda f: f / "a.npz", ("does not exist",)),
    ("a folder", lambda f: ((f / "a.npz").mkdir(), f / "a.npz")[1], ("is a folder",)),
    ("a device", lambda f: (os.symlink("/dev/null", f / "a.npz"), f / "a.npz")[1], ("no regular file",)),
    ("no bytes", lambda f: ((f / "a.npz").touch(), f / "a.npz")[1], ("not a plain npz file", "np.savez")),
    ("text", lambda f: ((f / "a.npz").write_text("hello"), f / "a.npz")[1], ("not a plain npz file", "np.savez")),
    ("an npy file", lambda f: ((f / "a.npz").write_bytes(_npy(X)), f / "a.npz")[1], ("not a plain npz file", "np.savez")),
    ("a png", lambda f: (photo(f, "a.png"), os.rename(f / "a.png", f / "a.npz"), f / "a.npz")[2], ("not a plain npz file",)),
    ("truncated", _cut, ("not a plain npz file", "np.savez")),
    ("no labels", lambda f: npz(f, x=X), ("has arrays x; x and y are needed",)),
    ("no arrays", lambda f: npz(f), ("has arrays none", "x and y")),
    ("pickled images", lambda f: npz(f, x=np.array([Explodes()], dtype=object), y=Y), ("x holds pickled objects", "nothing is ever unpickled")),
    ("pickled labels", lambda f: npz(f, x=X, y=np.array([Explodes()], dtype=object)), ("y holds pickled objects",)),
    ("a bare pickle", lambda f: _raw(f, x=b"\x80\x04N.", y=_npy(Y)), ("not a plain npz file",)),
    ("a huge header", lambda f: _raw(f, x=_npy(X, (10**9, 3, 99, 99)), y=_npy(Y)), ("118 TB", "limit is 8.59 GB", "max_bytes=")),
    ("a header that lies", lambda f: _raw(f, x=_npy(X, (9, 3, 5, 6)), y=_npy(Y)), ("x claims", "np.savez")),
    ("a header that hides", lambda f: _raw(f, x=_npy(X, (2, 3, 5, 6)), y=_npy(Y)), ("x claims", "np.savez")),
    ("a header of code", lambda f: _raw(f, x=b"\x93NUMPY\1\0\x0e\0__import__('os'", y=_npy(Y)), ("not a plain npz file",)),
    ("a long header", lambda f: _raw(f, x=b"\x93NUMPY\2\0" + struct.pack("<I", 2**30), y=_npy(Y)), ("not a plain npz file",)),
    ("another version", lambda f: _raw(f, x=b"\x93NUMPY\x09\0", y=_npy(Y)), ("version (9, 0)", "np.savez")),
    ("strings", lambda f: npz(f, x=np.array(["a"] * 4), y=Y), ("pixels are <U1", "pass uint8")),
    ("complex", lambda f: npz(f, x=X + 1j, y=Y), ("pixels are complex", "pass uint8")),
    ("bool", lambda f: npz(f, x=X > 9, y=Y), ("pixels are bool", "pass uint8")),
    ("16 bits", lambda f: npz(f, x=X.astype(np.uint16), y=Y), ("pixels are uint16", "65535")),
    ("offsets of floats", lambda f: _jpegs(f, offset=np.array([0, 1.5, 3])), ("offset (N+1,) whole numbers",)),
    ("offsets that fall", lambda f: _jpegs(f, offset=np.array([0, 9, 5])), ("offset must rise",)),
    ("offsets beyond", lambda f: _jpegs(f, offset=np.array([0, 9, 10**6])), ("offset must rise",)),
    ("torn jpeg", lambda f: _jpegs(f, jpeg=np.zeros(50, np.uint8), offset=np.array([0, 20, 50])), ("image 0", "repair")),
    ("labels of jpegs", lambda f: _jpegs(f, y=np.array([0])), ("one label per image",)),
]  # fmt: skip


@pytest.mark.parametrize(("make", "says"), [c[1:] for c in ARCHIVES], ids=[c[0] for c in ARCHIVES])
def test_archives_that_are_none_are_refused(make, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = refused(make(tmp_path), *says)
    assert "a.npz" in text
    assert not (tmp_path / "exploded").exists()


def test_archives_of_arrays_and_of_files_are_read(tmp_path):
    for x in (X, X.transpose(0, 2, 3, 1), np.asfortranarray(X), X / 255, (X / 255).astype(">f4")):
        images = load_data(npz(tmp_path, x=x, y=Y, name=np.array(["other"])))
        assert torch.allclose(images.x, torch.from_numpy(X) / 255)
    images = load_data(_jpegs(tmp_path))
    assert torch.equal(images.x[1], torch.from_numpy(X[0]) / 255)
    assert images.y.tolist() == [1, 0]


# bombs: nothing is unpacked before its size is known -----------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_names_in_an_archive_are_those_of_its_classes(save, tmp_path):
    x, y = np.zeros((3, 3, 5, 6), np.uint8), np.array([2, 0, 2])
    x[1], x[2] = 1, 2
    for number, (names, read) in enumerate(
        [
            (np.array(["cat", "dog", "cat"]), ("dog", "", "cat")),
            (np.array(["a.png", "b.png", "c.png"]), ()),  # of images
            (np.array(["cat", "dog"]), ()),
            (np.array([1, 2, 3]), ()),
            (np.array(["cat", "dog", "cat"], object), ()),  # never unpickled
        ]
    ):
        save(tmp_path / f"{number}.npz", x=x, y=y, name=names)
        assert load_data(str(tmp_path / f"{number}.npz")).classes == read


def test_an_archive_that_unpacks_to_far_more_than_it_is(tmp_path, monkeypatch):
    file, zeros = tmp_path / "a.npz", bytes(2**20)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x.npy", "w") as member:
            member.write(_npy(np.zeros(0, np.uint8), (100, 3, 1024, 1024)))
            for _ in range(300):
                member.write(zeros)
        archive.writestr("y.npy", _npy(np.zeros(100, np.int64)))
    assert file.stat().st_size < 1e6
    monkeypatch.setattr(np.lib.format, "read_array", None)  # nothing is unpacked
    refused(file, "a.npz: x", "315 MB", "limit", "max_bytes=1258291200")
    refused(f"{file},max_bytes=1000000", "a.npz: x", "1.26 GB", "the limit is 1 MB", "max_bytes=1258291200")


def _header_only(folder: Path, width: int, height: int) -> Path:
    file = photo(folder, "a/0.png") / "a" / "0.png"
    raw = bytearray(file.read_bytes())
    raw[16:24] = struct.pack(">II", width, height)
    raw[29:33] = struct.pack(">I", zlib.crc32(bytes(raw[12:29])))
    file.write_bytes(bytes(raw))
    return folder


@pytest.mark.parametrize(("width", "height"), [(12000, 12000), (60000, 60000), (2**31 - 1, 2**31 - 1)])
def test_a_picture_that_claims_many_pixels(width, height, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refused(
            _header_only(tmp_path, width, height), "a/0.png", f"{width}x{height}", "limit is 16,777,216", "max_pixels="
        )
    assert Image.MAX_IMAGE_PIXELS is not None


def test_bounds_can_be_lifted(tmp_path):
    folder = photo(tmp_path, "a/0.png")
    refused(f"{folder},max_pixels=29", "6x5 are 30 pixels", "max_pixels=30")
    assert len(load_data(f"{folder},max_pixels=30")) == 1


# bytes that fell over ------------------------------------------------------------------------------------------------


def _bytes_of(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "npz":
        np.savez_compressed(buffer, x=X, y=Y)
    elif kind == "npz stored":
        np.savez(buffer, x=X, y=Y)
    else:
        Image.fromarray(RGB).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["npz", "npz stored", "png", "jpeg", "tiff", "bmp", "webp"])
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 7)), max_size=4), cut=st.floats(0, 1), tear=st.booleans()
)
def test_flipped_and_torn_bytes_are_one_line_or_the_same_pixels(kind, flips, cut, tear, tmp_path):
    raw = bytearray(_bytes_of(kind))
    for where, bit in flips:
        raw[min(int(where * len(raw)), len(raw) - 1)] ^= 1 << bit
    raw = raw[: int(cut * len(raw))] if tear else raw
    suffix = kind.split()[0]
    file = tmp_path / "a.npz" if suffix == "npz" else tmp_path / "a" / f"0.{suffix}"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(bytes(raw))
    try:
        images = load_data(file if suffix == "npz" else tmp_path)
    except SparringError:
        return
    if suffix in ("npz", "png"):  # formats with checksums
        assert torch.equal(images.x[0], torch.from_numpy(X[0]) / 255)
        assert suffix == "png" or images.y.tolist() == Y.tolist()
    assert 0 <= float(images.x.min()) <= float(images.x.max()) <= 1
