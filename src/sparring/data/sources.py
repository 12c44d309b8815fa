"""``load_data``: an image set from whatever names or holds one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sparring.core.errors import SparringError
from sparring.core.fitting import Fitting
from sparring.core.registry import DATA, suggest
from sparring.core.spec import PYTHON, Spec, build, convert, entry_of, parse, signature, without
from sparring.data.boundary import one_line, shown, whole
from sparring.data.images import ImageSet, Unread
from sparring.data.inventory import Inventory
from sparring.data.items import of_object

Images = (
    str | Path | ImageSet | tuple[object, object] | Dataset[object] | DataLoader[object]
)  # what ``load_data`` takes
FORMS = "give a spec text, a path (folder or FILE.npz), an ImageSet, a torch Dataset or DataLoader, or a pair (images, labels) of tensors or arrays"
OF_ANY = ("limit", "seed", "classes", "skip_bad")  # fields of every source
AUTO = "auto"  # of size=: as the model's own configuration says
Say = Callable[[str], None]


def load_data(
    data: Images,
    *,
    limit: int | None = None,
    seed: int | None = None,
    skip_bad: bool = False,
    otherwise: int | None = None,
    fitting: Fitting | None = None,
    known: Inventory | None = None,
    say: Say = lambda _: None,
) -> ImageSet:
    """An ``ImageSet`` from spec text, a path (folder or .npz), a pair of tensors, a torch ``Dataset`` or ``DataLoader``, or an image set.

    Spec fields limit=, seed= (a drawn subset), classes=0+3+5 and skip_bad=true (leave out what cannot be read) work on every source; a seed= that
    the source itself takes (cues) is the source's. What the text says wins over ``seed``; another ``limit`` beside it is refused. ``otherwise``: the first so many where
    nobody says a limit. ``fitting``: what size=auto means, of the model that the images are for. ``known``:
    what was seen of the very same images before; those of a set that is larger than memory are not read again to be known. ``say`` hears how far the reading is.
    """
    if limit is None and not (isinstance(data, str | Path) and without(str(data), "limit")[1]):
        limit = otherwise
    return _load(data, limit, seed, skip_bad, fitting, known, say)


def _load(
    given: Images | tuple[object, ...] | None,
    limit: int | None,
    seed: int | None,
    skip_bad: bool,
    fitting: Fitting | None,
    known: Inventory | None,
    say: Say,
) -> ImageSet:
    if isinstance(given, ImageSet):
        return given.draw(limit, seed)
    if isinstance(given, tuple):
        if len(given) != 2:
            raise SparringError(f"data is a tuple of {len(given)}; give a pair (images, labels)")
        return ImageSet.of(*given).draw(limit, seed)
    if isinstance(given, Dataset | DataLoader):
        return _drawn(of_object(given), limit, seed, None, skip_bad, known, say)
    if not isinstance(given, str | Path):
        raise SparringError(f"data is {_called(given)}; {FORMS}")
    spec = _spec(given)
    values = dict(spec.values)
    taken = signature(entry_of(DATA, spec)[0])
    if "limit" in values:
        said = whole("limit", values.pop("limit"), 1)
        if limit not in (None, said):
            raise SparringError(f"data: limit={said} is in the text, and limit is {limit} beside it; give one of them")
        limit = said
    if "seed" in values and "seed" in taken:
        whole("seed", values["seed"], 0)
    elif "seed" in values:
        seed = whole("seed", values.pop("seed"), 0)
    keep = _classes(values.pop("classes")) if "classes" in values else None
    if "skip_bad" in values:
        skip_bad = convert("data", "skip_bad", bool, values.pop("skip_bad"))
    if stray := [k for k in values if k and k not in taken]:
        raise SparringError(f"{spec.name}: unknown field {stray[0]!r}{suggest(stray[0], [*taken, *OF_ANY])}")
    if "size" in taken and values.get("size") == AUTO:
        values |= _as_the_model_does(spec, fitting)
    return _drawn(_built(replace(spec, values=values)), limit, seed, keep, skip_bad, known, say)


def _drawn(
    images: ImageSet | Unread,
    limit: int | None,
    seed: int | None,
    keep: Sequence[int] | None,
    skip_bad: bool,
    known: Inventory | None,
    say: Say,
) -> ImageSet:
    if isinstance(images, Unread):
        if known and known.is_of(images):
            return known.images_of(images)
        return images.draw(limit, seed, keep, skip_bad, say)
    return images.draw(limit, seed, keep)


def _as_the_model_does(spec: Spec, fitting: Fitting | None) -> dict[str, str]:
    """The fields that size=auto stands for. Raises SparringError where they are written as well, or no model says them."""
    if beside := [name for name in ("crop", "filter") if name in spec.values]:
        raise SparringError(f"{spec}: size=auto says {beside[0]}= itself; leave it out, or write size=224")
    if fitting is None:
        raise SparringError(
            f"{spec}: no model says how its pictures are brought to a size (timm's and torchvision's do); write size=224 and, if need be, crop= and filter="
        )
    return {"size": str(fitting.size), "crop": repr(fitting.crop), "filter": fitting.filter}


def _built(spec: Spec) -> ImageSet | Unread:
    """The set that a spec names; a source of the user's own code may fail in any way, and return anything."""
    if spec.name != PYTHON:
        return build(DATA, spec)
    with one_line(str(spec), "failed", "put its code right"):
        images: object = build(DATA, spec)
    if not isinstance(images, ImageSet | Unread):
        raise SparringError(f"{spec} returned {type(images).__name__}; it must return an ImageSet, see ImageSet.of")
    return images


def _called(given: object) -> str:
    """What a thing that is no data is, and how it becomes data where that is known."""
    kind = type(given).__name__
    if given is None:
        return "missing"
    if isinstance(given, Tensor | np.ndarray):
        return f"images of type {kind} without labels"
    return f"of type {kind}"


def _spec(given: str | Path) -> Spec:
    """Of spec text, or of a path with fields after it. What is there as a path is one, commas or not."""
    text = str(given)
    if not text.strip() or "\0" in text:
        raise SparringError(f"data {text!r} is empty or no text; {FORMS}")
    if isinstance(given, Path) or _exists(text):
        return Spec(_reader(text), {"path": text})
    path, _, fields = text.partition(",")
    named = parse(text).name in DATA
    if not named and (_exists(path) or "/" in path or path.endswith(".npz")):
        spec = parse(f"{_reader(path)}:{fields}" if fields else _reader(path))
        if stray := [spec.values[k] for k in ("", "path") if k in spec.values]:
            raise SparringError(
                f"{shown(path)}: {stray[0]!r} after the path is no field; write {shown(path)},field=value"
            )
        return replace(spec, values={"path": path, **spec.values})
    path, colon, fields = text.partition(":")
    if colon and not named and _exists(path):
        raise SparringError(f"data {text!r}: fields of a path follow a comma; write {shown(path)},{fields}")
    if (spec := parse(text)).name != PYTHON and spec.name not in DATA:
        raise SparringError(
            f"unknown data {spec.name!r}{suggest(spec.name, DATA)}, and no file or folder of that name exists"
        )
    return spec


def _exists(path: str) -> bool:
    try:
        return parse(path).name not in DATA and Path(path).exists()
    except OSError:  # too long for a path, or in a folder that may not be looked into
        return False


def _reader(path: str) -> str:
    return "npz" if path.lower().endswith(".npz") else "folder"


def _classes(text: str) -> list[int]:
    if not re.fullmatch(r"[0-9]{1,9}(\+[0-9]{1,9})*", text):
        raise SparringError(f"classes={text} is no list of class numbers; write classes=0+3+5")
    return [int(c) for c in text.split("+")]


def to_uint8(x: Tensor) -> np.ndarray:
    """(C,H,W) in [0,1] -> (H,W,3) uint8 for pictures (rounded)."""
    image = (x.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    return image.expand(3, -1, -1).permute(1, 2, 0).numpy()
