"""Labels: whole numbers from 0, from arrays, from one-hot rows, and from the names of class folders."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sparring.core.errors import SparringError
from sparring.data.boundary import one_line, shown, some

SYNSET = re.compile(r"n[0-9]{8}")
NUMBER = re.compile(r"[0-9]{1,9}")
KINDS = {"b": "bool", "c": "complex", "U": "text", "S": "bytes", "O": "object", "M": "date", "m": "time", "V": "record"}


def as_labels(y: object, count: int, name: str) -> Tensor:
    """Labels (N,) int64 of ``count`` images: whole numbers of any integer or float type, at least 0. A matrix (N,K) is taken where every row
    is exactly one-hot: one 1, otherwise 0. Everything else is refused: nothing is rounded or guessed.
    """
    with one_line(name, "has labels that are no array", "pass one whole number per image"):
        array = y.detach().cpu().numpy() if isinstance(y, Tensor) else np.asarray(y)
    if array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind in "biuf":
        array = _from_one_hot(array, name)
    if array.ndim != 1 or len(array) != count:
        reshaped = "; reshape them to (N,)" if array.ndim == 2 and array.shape[1] == 1 else ""
        raise SparringError(
            f"{name}: {count} images and labels of shape {array.shape}; one label per image is needed{reshaped}"
        )
    if array.dtype.kind in KINDS:
        raise SparringError(
            f"{name}: labels are {KINDS[array.dtype.kind]} values ({array.dtype}); pass whole numbers 0, 1, 2, ... (the model's classes)"
        )
    if array.dtype.kind == "f":
        odd = array[~(np.isfinite(array) & (array == np.round(array)))]
        if len(odd):
            raise SparringError(
                f"{name}: {len(odd)} label(s) are no whole numbers, the first is {odd[0]}; pass the numbers of classes"
            )
    low, high = array.min(), array.max()
    if low < 0 or high >= 2**31:
        raise SparringError(
            f"{name}: label {low if low < 0 else high} is no class number; classes count from 0: remove or renumber those images"
        )
    return torch.from_numpy(np.ascontiguousarray(array.astype(np.int64)))


def _from_one_hot(rows: np.ndarray, name: str) -> np.ndarray:
    ones, others = (rows == 1).sum(1), ((rows != 0) & (rows != 1)).sum(1)
    bad = np.flatnonzero((ones != 1) | (others != 0))
    if len(bad):
        raise SparringError(
            f"{name}: labels of shape {rows.shape} are not one-hot (row {bad[0]} is not a single 1 among zeros); pass y.argmax(1) if they are scores"
        )
    return rows.argmax(1)


def folder_labels(names: list[str], labels: str, path: str) -> dict[str, int]:
    """The number of every class folder (``names``, sorted), as ``folder`` describes ``labels``."""
    if labels == "":
        labels = _implied(names, path)
    if labels == "index":
        return {name: i for i, name in enumerate(names)}
    if labels == "names":
        numbers = {name: int(name) for name in names if NUMBER.fullmatch(name)}
        fix = "rename them, or write labels=index or labels=FILE.json ({folder: number})"
        if odd := [n for n in names if n not in numbers]:
            raise SparringError(f"{path}: labels=names, but {some(odd)} is no class number; {fix}")
        if len(set(numbers.values())) < len(numbers):
            twice = [n for n in names if list(numbers.values()).count(numbers[n]) > 1]
            raise SparringError(f"{path}: class folders {some(twice)} have the same number; {fix}")
        return numbers
    table = _synsets() if labels == "synset" else _table(labels)
    if odd := [n for n in names if n not in table]:
        where = "no ImageNet synset of the 1,000 classes" if labels == "synset" else f"not in {labels}"
        raise SparringError(f"{path}: class folder {some(odd)} is {where}; remove or rename it")
    return {name: table[name] for name in names}


def _implied(names: list[str], path: str) -> str:
    """What the names themselves say where no rule is written."""
    if all(NUMBER.fullmatch(n) for n in names):
        return "names"
    if all(SYNSET.fullmatch(n) for n in names) and len(names) != 1000:
        raise SparringError(
            f"{path}: its {len(names)} class folders are named by ImageNet synsets; write labels=synset for a model of the 1,000 classes, "
            f"or labels=index for a model of these {len(names)}"
        )
    return "index"


def class_names(numbers: dict[str, int]) -> tuple[str, ...]:
    """Folder names in the order of their numbers, where these are exactly 0, 1, 2, ... and the names say more; else none."""
    ordered = sorted(numbers, key=lambda n: numbers[n])
    if [numbers[n] for n in ordered] != list(range(len(ordered))) or all(NUMBER.fullmatch(n) for n in ordered):
        return ()
    return tuple(shown(n) for n in ordered)


def package_folder(package: str, extra: str) -> Path:
    """A package's folder, found without importing it."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SparringError(f"{package} is not installed; run: pip install 'sparring[{extra}]'")
    return Path(next(iter(spec.submodule_search_locations)))


def _synsets() -> dict[str, int]:
    """ImageNet synset -> its number among the 1,000 classes, from the table that timm ships."""
    file = package_folder("timm", "models") / "data" / "_info" / "imagenet_synsets.txt"
    with one_line("timm's imagenet_synsets.txt", "cannot be read", "run: pip install --upgrade 'sparring[models]'"):
        names = file.read_text().split()
    if len(names) != 1000 or not all(SYNSET.fullmatch(n) for n in names) or names != sorted(set(names)):
        raise SparringError(f"{file} does not hold the 1000 ImageNet synsets; write labels=FILE.json instead")
    return {name: i for i, name in enumerate(names)}


def _table(file: str) -> dict[str, int]:
    """folder -> number of a JSON file."""
    if not file.endswith(".json"):
        raise SparringError(f"labels={file} is not one of index, names, synset or FILE.json ({{folder: number}})")

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        keys = [k for k, _ in pairs]
        if twice := sorted({k for k in keys if keys.count(k) > 1}):
            raise SparringError(f"labels={file} names {some(twice)} twice; remove one")
        return dict(pairs)

    with one_line(f"labels={file}", "cannot be read", 'write a JSON object {"folder": number}'):
        content = json.loads(Path(file).read_text(encoding="utf-8"), object_pairs_hook=once)
    if not isinstance(content, dict):
        raise SparringError(f'labels={file} is no JSON object; write {{"folder": number}}')
    numbers: dict[str, int] = {}
    for key, value in content.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
            raise SparringError(f"labels={file}: {key!r} has the number {value!r}; write a whole number of at least 0")
        numbers[str(key)] = value
    return numbers
