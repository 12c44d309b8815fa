"""Inputs of the tests of faults, and what a refusal is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sparring.core.errors import SparringError
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
