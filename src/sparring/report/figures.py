"""What a page holds as text: numbers as percentages, images as data URIs."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
from PIL import Image
from torch import Tensor

from sparring.data.sources import to_uint8


def percent(value: float) -> str:
    """A share as a percentage with one digit, "n/a" for nan."""
    return "n/a" if math.isnan(value) else f"{100 * value:.1f}"


SMALL = 96  # pixels: a picture less wide is shown enlarged and keeps each of its pixels
QUALITY = 75  # of larger ones, in WebP's own scale: 10 to 15 kB a photo of 224 pixels


def data_uri(array: np.ndarray) -> str:
    """A data URI of an (H,W,3) uint8 image at its own size, for looking at: a small one is a lossless PNG, a large one a WebP, so that a page
    stays small. The exact pixels are in the run folder.
    """
    image = Image.fromarray(array)
    if (array == array[..., :1]).all():
        image = image.convert("L")
    kind, how = ("png", {"optimize": True}) if image.width < SMALL else ("webp", {"quality": QUALITY, "method": 4})
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()


def picture(x: Tensor) -> str:
    """A (C,H,W) image in [0,1] as a data URI."""
    return data_uri(to_uint8(x))


def perturbation(x: Tensor, clean: Tensor) -> tuple[str, float]:
    """The difference, centred on grey and magnified to fill the range; (data URI, magnification)."""
    delta = x - clean
    peak = float(delta.abs().max())
    factor = 0.5 / peak if peak else 1.0
    return picture(0.5 + factor * delta), factor
