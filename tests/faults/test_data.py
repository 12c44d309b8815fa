"""Whatever is given as data: the right pixels and labels, or one line that names the thing, the fault and the fix."""

from __future__ import annotations

import io
import json
import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sparring.core.errors import SparringError
from sparring.data.images import ImageSet
from sparring.data.sources import load_data

X = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 6), dtype=np.uint8)
Y = np.array([0, 1, 1, 0])
RGB, GRAY = X[0].transpose(1, 2, 0), X[0, 0]
Make = Callable[[Path], Any]


def refused(data: Any, *says: str, **how: Any) -> str:
    """The one line with which data is refused; it holds every word of ``says``."""
    with pytest.raises(SparringError) as caught:
        load_data(data, **how)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert text.isprintable()
    assert len(text) < 700 or len(str(data)) > 700
    for word in says:
        assert word in text, text
    return text


def photo(folder: Path, name: str, image: Any = None, **options: Any) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(RGB if image is None else image)).save(
        file, **options
    )
    return folder


def classes(folder: Path, *names: str) -> Path:
    for name in names:
        photo(folder, f"{name}/0.png")
    return folder


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


# labels --------------------------------------------------------------------------------------------------------------

GOOD_LABELS: list[Any] = [
    [0, 1, 1, 0], (0, 1, 1, 0), np.array([0, 1, 1, 0], np.uint8), np.array([0, 1, 1, 0], ">i4"), np.array([0.0, 1, 1, 0]),
    torch.tensor([0, 1, 1, 0], dtype=torch.int16), torch.tensor([0.0, 1, 1, 0]), np.eye(2)[[0, 1, 1, 0]],
    np.eye(2, dtype=bool)[[0, 1, 1, 0]], torch.eye(3)[[0, 1, 1, 0]], np.array([0, 1, 1, 0], np.uint64),
]  # fmt: skip


@pytest.mark.parametrize("y", GOOD_LABELS, ids=lambda y: str(y)[:40])
def test_labels_that_mean_whole_numbers_are_read(y):
    images = load_data((X, y))
    assert images.y.tolist() == [0, 1, 1, 0]
    assert images.y.dtype == torch.int64


BAD_LABELS: list[tuple[Any, str, str]] = [
    ([0, 1, 4.9, 0], "no whole numbers", "4.9"),
    ([0, 1, np.nan, 0], "no whole numbers", "nan"),
    ([0, 1, np.inf, 0], "no whole numbers", "inf"),
    ([0, 1, -1, 0], "label -1", "count from 0"),
    ([0, 1, -1.0, 0], "label -1", "count from 0"),
    ([0, 1, 2**40, 0], "class number", "renumber"),
    (np.array([0, 1, 2**63, 0], np.uint64), "class number", "renumber"),
    ([0, 1, 1j, 0], "complex", "pass whole numbers"),
    (["0", "1", "1", "0"], "text", "pass whole numbers"),
    ([b"0", b"1", b"1", b"0"], "bytes", "pass whole numbers"),
    ([True, False, True, True], "bool", "pass whole numbers"),
    (np.array([None, 1, 1, 0]), "object", "pass whole numbers"),
    (np.zeros(4, "M8[s]"), "date", "pass whole numbers"),
    (0, "shape ()", "one label per image"),
    ([0, 1, 1], "shape (3,)", "one label per image"),
    ([], "shape (0,)", "one label per image"),
    ([[0], [1], [1], [0]], "shape (4, 1)", "reshape"),
    ([[0.5, 0.5]] * 4, "not one-hot", "argmax"),
    ([[1, 1]] * 4, "not one-hot", "argmax"),
    ([[0, 0]] * 4, "not one-hot", "argmax"),
    ([[[1, 0]]] * 4, "shape (4, 1, 2)", "one label per image"),
    ([[0, 1], [1]], "labels that are no array", "one whole number"),
    (None, "shape ()", "one label per image"),
    ({"a": 1}, "shape ()", "one label per image"),
]


@pytest.mark.parametrize(("y", "fault", "fix"), BAD_LABELS, ids=lambda v: str(v)[:30])
def test_labels_that_mean_nothing_are_refused(y, fault, fix, tmp_path):
    refused((X, y), fault, fix)
    if "object" not in fault and "no array" not in fault and np.asarray(y).dtype.kind != "O":
        refused(npz(tmp_path, x=X, y=np.asarray(y)), "a.npz", fault, fix)


# folders and their labels --------------------------------------------------------------------------------------------


def _table(content: object) -> Make:
    def make(folder: Path) -> str:
        (folder.parent / "t.json").write_text(content if isinstance(content, str) else json.dumps(content))
        return f"{classes(folder, 'cat', 'dog')},labels={folder.parent}/t.json"

    return make


FOLDER_LABELS: list[tuple[str, Make, list[int]]] = [
    ("index", lambda f: classes(f, "dog", "cat"), [0, 1]),
    ("hidden folders", lambda f: classes(f, "cat", "dog", ".ipynb_checkpoints", "__MACOSX", "__pycache__"), [0, 1]),
    ("hidden files", lambda f: (photo(f, "cat/.keep.png"), (f / "cat" / "._0.png").write_bytes(b"x"), classes(f, "cat", "dog"))[2], [0, 1]),
    ("loose text", lambda f: (classes(f, "cat", "dog"), (f / "README.md").write_text("x"))[0], [0, 1]),
    ("numbers", lambda f: classes(f, "10", "2", "0"), [0, 10, 2]),
    ("padded", lambda f: classes(f, "007", "011"), [7, 11]),
    ("numbers as index", lambda f: f"{classes(f, '10', '2')},labels=index", [0, 1]),
    ("names", lambda f: f"folder:{classes(f, '3', '5')},labels=names", [3, 5]),
    ("not all numbers", lambda f: classes(f, "1", "cat"), [0, 1]),
    ("superscript", lambda f: classes(f, "²", "³"), [0, 1]),
    ("synsets said", lambda f: f"{classes(f, 'n01440764', 'n02099601')},labels=index", [0, 1]),
    ("table", _table({"cat": 7, "dog": 3, "elk": 9}), [7, 3]),
    ("table merges", _table({"cat": 1, "dog": 1}), [1, 1]),
    ("deeper", lambda f: (photo(f, "b/1.png"), photo(f, "a/deep/0.png"))[1], [0, 1]),
    ("upper case", lambda f: (photo(f, "b/1.PNG"), photo(f, "a/0.JPEG"))[1], [0, 1]),
    ("a link to a class", lambda f: (classes(f.parent / "other", "x"), classes(f, "a"), os.symlink(f.parent / "other" / "x", f / "b"))[1], [0, 1]),
    ("a comma in the path", lambda f: classes(f.parent / "a,b=c", "a", "b"), [0, 1]),
    ("a name that is no UTF-8", lambda f: classes(f, os.fsdecode(b"a\xff"), "b"), [0, 1]),
]  # fmt: skip


@pytest.mark.parametrize(("make", "labels"), [c[1:] for c in FOLDER_LABELS], ids=[c[0] for c in FOLDER_LABELS])
def test_class_folders_have_the_labels_that_are_documented(make, labels, tmp_path):
    images = load_data(make(tmp_path / "set"))
    assert images.y.tolist() == labels
    assert all(i.isprintable() for i in (*images.ids, *images.classes, images.name))
    assert not images.classes or images.classes[labels[0]] == images.ids[0].split("/")[0]


def test_synsets_have_the_numbers_of_imagenet(tmp_path):
    if find_spec("timm") is None:
        pytest.skip("extra models is not installed")
    folder = classes(tmp_path / "five", "n01440764", "n01443537", "n02099601", "n15075141")
    assert load_data(f"{folder},labels=synset").y.tolist() == [0, 1, 207, 999]
    refused(folder, "ImageNet synsets", "labels=synset", "labels=index")
    refused(f"{classes(folder, 'n99999999')},labels=synset", "n99999999", "no ImageNet synset", "remove")


def _loop(folder: Path) -> Path:
    classes(folder, "a", "b")
    os.symlink(folder, folder / "a" / "again")
    return folder


def _itself(folder: Path) -> Path:
    classes(folder, "a")
    os.symlink(folder / "b", folder / "b")
    return folder


BAD_FOLDERS: list[tuple[str, Make, tuple[str, ...]]] = [
    ("none", lambda f: f"{f}", ("does not exist",)),
    ("empty", lambda f: (f.mkdir(), f)[1], ("no class sub-folders", "one folder per class")),
    ("only hidden", lambda f: classes(f, ".a", "__b"), ("no class sub-folders",)),
    ("only images", lambda f: photo(f, "0.png"), ("no class sub-folders", "1 image(s) lie in it")),
    ("an empty class", lambda f: (classes(f, "a"), (f / "b").mkdir())[0], ("without images: b", "remove")),
    ("a class of text", lambda f: (classes(f, "a"), (f / "b").mkdir(), (f / "b" / "n.txt").touch())[0], ("without images: b",)),
    ("loose images", lambda f: photo(classes(f, "a", "b"), "0.png"), ("beside the class folders (0.png)", "move")),
    ("splits", lambda f: classes(f, "train/a", "val/a"), ("splits, not classes", "train")),
    ("a file", lambda f: (photo(f, "0.png"), f / "0.png")[1], ("is a file, not a folder",)),
    ("same number", lambda f: classes(f, "1", "01"), ("same number", "01, 1", "rename")),
    ("names are no numbers", lambda f: f"{classes(f, '1', 'cat')},labels=names", ("cat is no class number", "FILE.json")),
    ("superscript numbers", lambda f: f"{classes(f, '²')},labels=names", ("is no class number",)),
    ("an unknown rule", lambda f: f"{classes(f, 'a')},labels=alphabet", ("labels=alphabet is not one of", "FILE.json")),
    ("no table", lambda f: f"{classes(f, 'a')},labels=no.json", ("labels=no.json cannot be read", "JSON object")),
    ("a torn table", _table('{"cat": 1'), ("cannot be read", "JSON object")),
    ("a deep table", _table("[" * 100000), ("cannot be read", "JSON object")),
    ("a list", _table([1, 2]), ("no JSON object",)),
    ("a table of texts", _table({"cat": "1", "dog": 2}), ("'cat' has the number '1'", "whole number")),
    ("a table of floats", _table({"cat": 1.5, "dog": 2}), ("'cat' has the number 1.5",)),
    ("a table of bools", _table({"cat": True, "dog": 2}), ("'cat' has the number True",)),
    ("a negative table", _table({"cat": -1, "dog": 2}), ("'cat' has the number -1",)),
    ("a short table", _table({"cat": 1}), ("class folder dog is not in", "rename")),
    ("a table with a name twice", _table('{"cat": 1, "cat": 2, "dog": 0}'), ("names cat twice", "remove")),
    ("a loop", _loop, ("again is a link back", "remove")),
    ("a link to itself", _itself, ("the link b leads nowhere or to itself", "remove")),
    ("a link to nothing", lambda f: (classes(f, "a"), os.symlink("/nowhere", f / "a" / "b.png"))[0], ("a/b.png", "no regular file")),
    ("a device", lambda f: (classes(f, "a"), os.symlink("/dev/zero", f / "a" / "z.png"))[0], ("a/z.png", "no regular file")),
    ("a pipe", lambda f: (classes(f, "a"), os.mkfifo(f / "a" / "p.png"))[0], ("a/p.png", "no regular file")),
    ("other formats", lambda f: photo(classes(f, "a"), "a/1.gif"), ("a/1.gif", "convert it to PNG")),
    ("phone formats", lambda f: (classes(f, "a"), (f / "a" / "1.heic").touch())[0], ("a/1.heic", "convert it to PNG")),
    ("an unknown field", lambda f: f"{classes(f, 'a')},label=index", ("unknown field 'label'", "labels")),
    ("a stray word", lambda f: f"{classes(f, 'a')},index", ("'index' after the path is no field",)),
    ("channels=2", lambda f: f"{classes(f, 'a')},channels=2", ("channels=2 is not 1 or 3",)),
    ("a bad name", lambda f: (f / "a").mkdir(parents=True) or ((f / "a" / os.fsdecode(b"\xff.png")).touch(), f)[1], ("\\xff.png",)),
    ("a line end in a name", lambda f: (classes(f, "a"), (f / "a" / "x\ny.png").touch())[0], ("x\\ny.png",)),
    ("too long a path", lambda f: "/" + "x" * 5000, ("cannot be listed",)),
]  # fmt: skip


@pytest.mark.parametrize(("make", "says"), [c[1:] for c in BAD_FOLDERS], ids=[c[0] for c in BAD_FOLDERS])
def test_folders_that_are_no_set_are_refused(make, says, tmp_path):
    refused(make(tmp_path / "set"), *says)


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    folder = classes(tmp_path / "set", "a", "b")

    def closed(self: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", closed)
    refused(folder, "cannot be listed", "PermissionError", "permissions")


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
    refused(f"{folder},max_bytes=359", "360 B", "max_bytes=360")
    assert len(load_data(f"{folder},max_pixels=30,max_bytes=360")) == 1


# what is given from Python, and fields -------------------------------------------------------------------------------

GOOD_PIXELS: list[Any] = [
    X, torch.from_numpy(X), list(X), X / 255, (X / 255).astype(np.float32), torch.from_numpy(X / 255).requires_grad_(),
    (X / 255).astype(">f8"), X[::-1][::-1], torch.from_numpy(X / 255).bfloat16(), (X / 255).astype(np.float16), (X / 255).tolist(),
]  # fmt: skip


@pytest.mark.parametrize("x", GOOD_PIXELS, ids=lambda x: f"{type(x).__name__} {vars(type(x)).get('dtype') and x.dtype}")
def test_pixels_of_every_kind_that_says_what_white_is(x):
    images = load_data((x, Y))
    assert images.x.dtype == torch.float32
    assert images.x.numpy() == pytest.approx(X / 255, abs=4e-3)


LOADER = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(2, 1, 2, 2), torch.zeros(2)))
BAD_DATA: list[tuple[Any, tuple[str, ...]]] = [
    (None, ("data is missing", "give a spec text")),
    (7, ("of type int", "give a spec text")),
    ([X, X], ("of type list", "a pair (images, labels)")),
    ({"x": X}, ("of type dict", "a pair")),
    (X, ("ndarray without labels", "a pair")),
    (torch.from_numpy(X), ("Tensor without labels", "a pair")),
    (LOADER, ("a DataLoader", "torch.cat")),
    (b"mnist5k", ("of type bytes", "give a spec text")),
    ("", ("empty", "give a spec text")),
    ("a\0b", ("no text", "give a spec text")),
    ("mnist6k", ("unknown data", "did you mean mnist5k")),
    ((X, Y, Y), ("a tuple of 3", "a pair")),
    ((X,), ("a tuple of 1", "a pair")),
    ((), ("a tuple of 0", "a pair")),
    ((None, Y), ("pixels are object",)),
    (("a", Y), ("pixels are <U1",)),
    (([X[0], X[1][:, :2]], [0, 1]), ("no array of numbers", "one shape")),
    ((X.astype(np.int64), Y), ("pixels are int64", "pass uint8")),
    ((torch.from_numpy(X).long(), Y), ("pixels are int64", "pass uint8")),
    ((X > 9, Y), ("pixels are bool", "pass uint8")),
    ((torch.from_numpy(X) > 9, Y), ("pixels are bool", "pass uint8")),
    ((X.astype(np.longdouble) / 255, Y), ("pixels are", "pass uint8")),
    ((torch.zeros(4, 3, 2, 2, dtype=torch.complex64), Y), ("pixels are complex64",)),
    ((X.astype(np.float32), Y), ("look like 0-255", "divide by 255")),
    ((X / 255 / 255, Y), ("divided by 255 twice", "scale")),
    ((X // 128, Y), ("0 and 1 stored as uint8", "scale")),
    (((X / 255 - 0.5) / 0.25, Y), ("look normalised", "mean/std")),
    ((np.where(X > 200, np.nan, X / 255), Y), ("NaN pixels", "repair")),
    ((np.where(X > 200, np.inf, X / 255), Y), ("max inf", "scale")),
    ((X[None], Y), ("got (1, 4, 3, 5, 6)", "(N,C,H,W)")),
    ((X[0, 0], [0]), ("(N,C,H,W)",)),
    ((X[0], [0]), ("3 images", "one label per image")),
    ((X.transpose(0, 2, 3, 1), Y), ("channels come first", "transpose")),
    ((np.zeros((2, 4, 8, 8)), [0, 1]), ("1 or 3 channels",)),
    ((X[:0], []), ("no pixels", "at least one image")),
    ((np.zeros((2, 3, 0, 5)), [0, 1]), ("no pixels",)),
    ((torch.zeros(4, 3, 2, 2, device="meta"), Y), ("no array of numbers",)),
    ("torchvision:CIFAR11", ("no dataset",)),
    ("torchvision:ImageFolder,root=.", ("neither train nor split", "folder")),
    ("torchvision:FakeData,root=.", ("neither train nor split",)),
    ("torchvision:wrap_dataset_for_transforms_v2", ("no dataset",)),
    ("torchvision:EMNIST,root=.", ("both train and split",)),
    ("torchvision:SVHN,root=nowhere", ("torchvision:SVHN cannot be loaded", "download=true")),
    ("torchvision:SVHN,root=nowhere,split=val", ("torchvision:SVHN cannot be loaded", "val")),
    ("torchvision:Food101,root=nowhere", ("torchvision:Food101 cannot be loaded", "download=true")),
    ("torchvision:ImageNet,root=nowhere,split=val", ("torchvision:ImageNet cannot be loaded", "put its files there")),
    ("torchvision:CIFAR10,root=nowhere", ("torchvision:CIFAR10 cannot be loaded", "download=true")),
    ("torchvision:CIFAR10,root=nowhere,split=valid", ("split=valid is not one of train, test",)),
    ("torchvision:CelebA,root=nowhere", ("torchvision:CelebA cannot be loaded",)),
    ("mnist5k:split=val", ("split=val is not one of",)),
    ("python:os.path:nothing", ("no callable",)),
    ("python:os:getcwd", ("must return an ImageSet",)),
    ("python:os:abort2", ("no callable",)),
]  # fmt: skip


@pytest.mark.parametrize(("data", "says"), BAD_DATA, ids=[f"{i} {c[1][0]}" for i, c in enumerate(BAD_DATA)])
def test_what_is_no_data_is_refused(data, says):
    if "torchvision" in str(data)[:11]:
        pytest.importorskip("torchvision", reason="extra models is not installed")
    refused(data, *says)


FIELDS = ["limit=abc", "limit=1.5", "limit=0", "limit=-1", "limit=", "limit=1,limit=2", "seed=-1", "seed=x", "seed=0.5", "classes=",
          "classes=a", "classes=0+", "classes=-1", "classes=0+7", "limit=²", "nonsense=1", "limit", "max_pixels=many", "skip_bad=perhaps"]  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_fields_are_checked_by_name_on_every_source(field, tmp_path):
    folder = classes(tmp_path / "set", "a", "b")
    name = field.split("=")[0]
    refused(f"folder:{folder},{field}", name)
    refused(f"{folder},{field}", name)


@pytest.mark.parametrize(
    "how", [{"limit": 1.5}, {"limit": True}, {"limit": "x"}, {"limit": 0}, {"seed": -1, "limit": 1}]
)
def test_limits_from_python_are_checked(how):
    refused((X, Y), next(iter(how)), **how)


def test_a_limit_is_said_once(tmp_path):
    folder = classes(tmp_path, "a", "b")
    refused(f"{folder},limit=1", "limit=1 in the data and limit=2 beside it", limit=2)
    assert len(load_data(f"{folder},limit=1", limit=1)) == 1


def test_ids_and_class_names_belong_to_the_images():
    bad: list[tuple[dict[str, Any], str]] = [
        ({"ids": ["a"]}, "one id per image"),
        ({"ids": "aabb"}, "not unique"),
        ({"classes": ["a"]}, "has no name"),
    ]
    for fields, says in bad:
        with pytest.raises(SparringError, match=says):
            ImageSet.of(X, Y, **fields)


def test_torchvision_sets_with_split_are_read_without_a_network(tmp_path):
    pytest.importorskip("torchvision", reason="extra models is not installed")
    base = tmp_path / "country211"
    photo(base, "valid/AA/0.png")
    photo(base, "valid/BB/1.png", RGB[::-1])
    images = load_data(f"torchvision:Country211,root={tmp_path},split=valid")
    assert images.y.tolist() == [0, 1]
    assert torch.equal(images.x[0], torch.from_numpy(X[0]) / 255)
    refused(f"torchvision:Country211,root={tmp_path},split=test", "Country211", "cannot be loaded")
    photo(base, "valid/BB/2.png", RGB[:3])
    refused(f"torchvision:Country211,root={tmp_path},split=valid", "image 2 is 6x3 RGB", "resize")


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
