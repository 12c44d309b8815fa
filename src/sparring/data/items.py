"""Sets that another library's object holds item by item: torch's ``Dataset``, torchvision's and Hugging Face's."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    WeightedRandomSampler,
    default_collate,
)

from sparring.core.errors import SparringError
from sparring.core.extras import need
from sparring.core.fitting import Fitting
from sparring.core.registry import DATA
from sparring.data.boundary import MAX_PIXELS, one_line, shown
from sparring.data.images import ImageSet, Unread
from sparring.data.pictures import check_channels, fitted, fitting_of, read_picture, titled, to_array, with_channels

REPAIR = "repair the set, or fetch it again"
PAIR = "an item must be (image, label)"


@runtime_checkable
class Numbered(Protocol):
    """What has items by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> object: ...


class Items:
    """The items (image, label) of ``dataset``: images by Pillow, arrays (H,W,C) or tensors (C,H,W), uint8 or float in [0,1]. ``columns``: where an
    item is a mapping, the names of its image and its label.
    """

    labels = None  # nobody knows them before an item is read

    def __init__(
        self,
        dataset: Numbered,
        thing: str,
        channels: int | None = None,
        fitting: Fitting | None = None,
        columns: tuple[str, str] | None = None,
    ) -> None:
        self.dataset, self.thing, self.channels, self.fitting, self.columns = dataset, thing, channels, fitting, columns
        self.ids = [str(i) for i in range(len(dataset))]

    def read(self, number: int) -> tuple[np.ndarray, object]:
        """See ``Source``."""
        name = f"{self.thing}: image {number}"
        with one_line(name, "cannot be read", REPAIR):
            item = self.dataset[number]
            if self.columns:
                item = tuple(item[column] for column in self.columns) if isinstance(item, Mapping) else item
            if not isinstance(item, tuple | list) or len(item) != 2:
                raise SparringError(f"{name} is {type(item).__name__}; {PAIR}")
            image, label = item
            if isinstance(label, Tensor):
                label = label.item() if label.numel() == 1 else label
            if not isinstance(label, int | float | np.number) or isinstance(label, bool):
                raise SparringError(f"{name} has the label {label!r:.60}, no class number; save the set as FILE.npz")
            picture = with_channels(_picture(image, name), name, self.channels)
            return fitted(picture, self.fitting, name), label


def _picture(image: object, name: str) -> np.ndarray:
    """(H,W,C) uint8 or float32 of what stands for an image."""
    if isinstance(image, Mapping) and isinstance(content := image.get("bytes"), bytes):  # as Parquet holds it
        return read_picture(io.BytesIO(content), name, None, MAX_PIXELS)
    if isinstance(image, Image.Image):
        return to_array(image, name)
    if isinstance(image, Tensor):
        image = image.detach().cpu().numpy()
        image = image.transpose(1, 2, 0) if image.ndim == 3 else image
    if not isinstance(image, np.ndarray) or image.ndim not in (2, 3):
        raise SparringError(f"{name} is {type(image).__name__}, no picture; {PAIR}")
    image = image[..., None] if image.ndim == 2 else image
    if image.shape[2] not in (1, 3):
        raise SparringError(
            f"{name} has the shape {image.shape}; give arrays (H,W,C) or tensors (C,H,W) of 1 or 3 channels"
        )
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind != "f":
        raise SparringError(f"{name} has pixels of type {image.dtype}; give uint8 for 0..255, or float in [0,1]")
    return image.astype(np.float32)


def of_object(given: Dataset[object] | DataLoader[object]) -> ImageSet | Unread:
    """The set that a torch ``Dataset`` or ``DataLoader`` gives; of a loader that only puts its items together, and of a dataset with numbered items,
    they are read when their turn comes; everything else is read once and held.
    """
    thing = type(given).__name__
    if isinstance(given, DataLoader):
        if given.batch_size is None:
            raise SparringError(f"the {thing} makes no batches (batch_size=None); give it a batch_size")
        if isinstance(given.sampler, RandomSampler | WeightedRandomSampler):
            raise SparringError(
                f"the {thing} shuffles, so that an image has another number each time; make it with shuffle=False"
            )
        plain = given.collate_fn is default_collate and not given.drop_last
        if plain and isinstance(given.sampler, SequentialSampler):
            return of_object(given.dataset)
        return ImageSet.of(*_together(given, thing))
    if isinstance(given, IterableDataset):
        return ImageSet.of(*_together(([item] for item in given), thing, single=True))
    if not isinstance(given, Numbered):
        raise SparringError(f"{thing} has no length; give it __len__ and __getitem__, or make it an IterableDataset")
    return Unread(Items(given, thing), thing)


def _together(batches: Iterable[object], thing: str, single: bool = False) -> tuple[Tensor, Tensor]:
    """All images and labels of what can only be gone through."""
    x: list[Tensor] = []
    y: list[Tensor] = []
    with one_line(thing, "cannot be gone through", "its batches must be (images, labels)"):
        for batch in batches:
            pair = default_collate([*batch]) if single and isinstance(batch, list) else batch
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise SparringError(f"{thing} gives {type(pair).__name__}, no pair (images, labels)")
            images, labels = pair
            x.append(torch.as_tensor(images))
            y.append(torch.as_tensor(labels))
        return torch.cat(x), torch.cat(y)


@DATA("hf")
def hf(
    name: str,
    split: str = "test",
    image: str = "image",
    label: str = "label",
    channels: int | None = None,
    size: int | None = None,
    crop: float = 0.875,
    filter: str = "bicubic",
) -> Unread:
    """A data set of Hugging Face's ``datasets`` (extra ``hub``) by its name on the hub or a local folder, also one that ``save_to_disk`` left:
    hf:NAME,split=validation. split: test unless another is written. image, label: the columns. It lies
    memory-mapped on disk; size=, crop=, filter=, channels=: as of ``folder``.
    """
    check_channels(channels)
    thing = f"hf:{shown(name)}"
    datasets = need("datasets", "hub")
    with one_line(thing, "cannot be loaded", f"check its name and split={split}, or the connection"):
        saved = any((Path(name) / file).is_file() for file in ("state.json", "dataset_dict.json"))
        dataset = datasets.load_from_disk(name) if saved else datasets.load_dataset(name, split=split)
        dataset = dataset[split] if isinstance(dataset, datasets.DatasetDict) else dataset
        features = dict(dataset.features)
    if missing := [column for column in (image, label) if column not in features]:
        raise SparringError(f"{thing} has no column {missing[0]}, but {', '.join(features)}; write image= and label=")
    classes = features[label].names if isinstance(features[label], datasets.ClassLabel) else ()
    fitting = fitting_of(size, crop, filter, thing)
    source = Items(dataset, thing, channels, fitting, (image, label))
    return Unread(source, titled(f"{thing}, {split}", fitting), tuple(classes))
