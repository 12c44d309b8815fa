"""A folder of class folders as an image set: which files count, what their labels are, what is left out and why."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath, PurePosixPath

import numpy as np
from PIL import Image

from sparring.core.errors import SparringError
from sparring.core.registry import DATA
from sparring.data.boundary import MAX_PIXELS, one_line, shown, some
from sparring.data.files import Files, below, is_remote
from sparring.data.images import Unread
from sparring.data.labels import class_names, folder_labels
from sparring.data.pictures import SUFFIXES, Look, check_channels, fitting_of, titled

SPLITS = {"train", "val", "valid", "validation", "test", "training", "testing", "eval", "dev"}
FOREIGN = {".heic", ".heif", ".avif", ".gif", ".jxl", ".npy", ".npz"}


@DATA("folder")
def folder(
    path: str,
    labels: str = "",
    channels: int | None = None,
    size: int | None = None,
    crop: float = 0.875,
    filter: str = "bicubic",
    max_pixels: int = MAX_PIXELS,
) -> Unread:
    """One folder per class, with images of one size, or brought to one: size=224 resizes the shorter side to size/crop (filter=bicubic or bilinear) and
    keeps the center; size=auto does what the model's own configuration says (timm's data configuration, torchvision's weights).
    labels=index: the position of the class folder among their sorted names; names: the folder names are the class numbers;
    synset: they are ImageNet synsets (n01440764 is 0 of 1,000; the table is timm's); FILE.json: {"folder": number}.
    Where nothing is written: names if all are numbers, else index; but less than 1,000 synsets ask for one of the two.

    Folders and files that begin with a dot, and folders that begin with two underscores, are no part of the set. A class folder without images
    is refused by name, and so is a file that is no readable image, unless ``skip_bad`` leaves it out (the set and the run say which).
    channels=3: gray is repeated three times. max_pixels: the bound of one picture. A folder may be larger than memory: its pictures are read again
    when their block's turn comes.
    """
    root, place = Path(path), shown(path)
    check_channels(channels)
    fitting = fitting_of(size, crop, filter, f"image folder {place}")
    if is_remote(path):
        return _remote(path, place, labels, Look(channels, fitting, max_pixels))
    with one_line(place, "cannot be listed", "check its permissions and links"):
        if not root.is_dir():
            fault = "is a file, not a folder" if root.exists() else "does not exist"
            raise SparringError(f"image folder {place} {fault}; give a folder with one folder per class, or FILE.npz")
        content = {name: sorted(_files(root / name, (_key(root),))) for name in _class_folders(root, place)}
    if empty := [shown(n) for n, files in content.items() if not files]:
        raise SparringError(
            f"{place}: class folder(s) without images: {some(empty)}; remove them, or they would count as classes"
        )
    numbers = folder_labels(list(content), labels, place)
    files = [file for files in content.values() for file in files]
    labels_of = [numbers[name] for name, files in content.items() for _ in files]
    pictures = Pictures(root, files, labels_of, Look(channels, fitting, max_pixels))
    return Unread(pictures, titled(place, fitting), class_names(numbers))


class Pictures:
    """Files below a folder, with the numbers of their classes."""

    def __init__(self, root: Path, files: Sequence[Path], labels: Sequence[int], look: Look) -> None:
        self.files, self.labels, self.look = files, labels, look
        self.ids = [shown(file.relative_to(root)) for file in files]

    def read(self, number: int) -> tuple[np.ndarray, int]:
        """See ``Source``."""
        _require_known(self.ids[number])
        return self.look.of(self.files[number], self.ids[number]), self.labels[number]


class RemotePictures:
    """The same below a folder in a bucket."""

    def __init__(self, files: Files, ids: Sequence[str], labels: Sequence[int], look: Look) -> None:
        self.files, self.ids, self.labels, self.look = files, ids, labels, look

    def read(self, number: int) -> tuple[np.ndarray, int]:
        """See ``Source``."""
        _require_known(self.ids[number])
        with one_line(self.ids[number], "cannot be read", "check its permissions and the connection"):
            content = io.BytesIO(self.files.read(number))
        return self.look.of(content, self.ids[number]), self.labels[number]


def _require_known(name: str) -> None:
    """Raise SparringError for a file whose name says that it is a picture of a kind that is not read here."""
    if Path(name).suffix.lower() not in SUFFIXES:
        raise SparringError(f"{name} is no {', '.join(SUFFIXES)}; convert it to PNG")


def _remote(path: str, place: str, labels: str, look: Look) -> Unread:
    """A folder of class folders in a bucket, by the rules of one that is here; of folders without files it knows nothing."""
    files, names = below(path, place)
    parts = [PurePosixPath(name).parts for name in names]
    counted = [
        i
        for i, steps in enumerate(parts)
        if not any(step.startswith((".", "__")) for step in steps) and _is_image(PurePosixPath(names[i]))
    ]
    if loose := [names[i] for i in counted if len(parts[i]) == 1]:
        raise SparringError(
            f"{place}: {len(loose)} image(s) lie beside the class folders ({some(loose)}); move them into a class or away"
        )
    classes = sorted({parts[i][0] for i in counted})
    if not classes:
        raise SparringError(f"image folder {place} has no class sub-folders with images; make one folder per class")
    _refuse_splits(classes, place)
    numbers = folder_labels(classes, labels, place)
    chosen = Files(files.system, [files.paths[i] for i in counted])
    source = RemotePictures(chosen, [shown(names[i]) for i in counted], [numbers[parts[i][0]] for i in counted], look)
    return Unread(source, titled(place, look.fitting), class_names(numbers))


def _class_folders(root: Path, place: str) -> list[str]:
    """Sorted names of a folder's class folders; images that lie beside them, and folders of splits, are named and refused."""
    entries = [e for e in sorted(root.iterdir(), key=lambda p: p.name) if not e.name.startswith(".")]
    loose = [shown(e.name) for e in entries if not e.is_dir() and _is_image(e)]
    names = [e.name for e in entries if e.is_dir() and not e.name.startswith("__")]
    if loops := [shown(e.name) for e in entries if e.is_symlink() and not e.exists()]:
        raise SparringError(f"{place}: the link {some(loops)} leads nowhere or to itself; remove it")
    if not names:
        fix = f"{len(loose)} image(s) lie in it; put them into" if loose else "make"
        raise SparringError(f"image folder {place} has no class sub-folders; {fix} one folder per class")
    if loose:
        raise SparringError(
            f"{place}: {len(loose)} image(s) lie beside the class folders ({some(loose)}); move them into a class or away"
        )
    _refuse_splits(names, place)
    return names


def _refuse_splits(names: list[str], place: str) -> None:
    if {n.lower() for n in names} <= SPLITS:
        raise SparringError(
            f"{place}: its folders are splits, not classes; give one of them: {some([f'{place}/{n}' for n in names])}"
        )


def _files(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """Files below a folder that are images by their names, links followed; a link back to a folder above is refused."""
    key = _key(folder)
    if key in above:
        raise SparringError(f"{shown(folder)} is a link back to a folder that holds it; remove it")
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if not entry.name.startswith("__"):
                yield from _files(entry, (*above, key))
        elif _is_image(entry):
            yield entry


def _key(folder: Path) -> tuple[int, int]:
    about = os.stat(folder)
    return about.st_dev, about.st_ino


def _is_image(file: PurePath) -> bool:
    """Whether a name says that a file is an image, of a kind that is read here or of another, which must not be lost in silence."""
    suffix = file.suffix.lower()
    return suffix in SUFFIXES or suffix in FOREIGN or suffix in _known()


def _known() -> set[str]:
    """Suffixes of the image formats that Pillow knows."""
    return {
        s
        for s, f in Image.registered_extensions().items()
        if f not in ("PDF", "EPS", "MPEG", "HDF5", "BUFR", "GRIB", "WMF")
    }
