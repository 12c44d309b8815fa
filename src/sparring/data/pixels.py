"""Pixels from arrays: what is (N,C,H,W) and in [0,1], and the likely cause where it is not."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sparring.core.errors import SparringError
from sparring.data.boundary import one_line


def as_pixels(x: object, name: str) -> Tensor:
    """Images (N,C,H,W), uint8 (k means k/255) or float32 in [0,1], of a tensor, an array or a list of equal arrays; a copy. Any float type must
    lie in [0,1]; every other type is refused, because nothing says which number is white. (N,H,W) is gray.
    """
    fix = "pass uint8 or float arrays of one shape (N,C,H,W)"
    with one_line(name, "has images that are no array of numbers", fix):
        pixels = x if isinstance(x, Tensor) else torch.from_numpy(_numeric(np.asarray(x), name))
        pixels = (pixels.detach() if pixels.layout == torch.strided else pixels.detach().to_dense()).cpu()
        kind, floats = pixels.dtype, pixels.dtype.is_floating_point
    if kind != torch.uint8 and not floats:
        raise SparringError(
            f"{name}: pixels are {str(kind).removeprefix('torch.')}; pass uint8 for 0..255, or float in [0,1]"
        )
    if pixels.dim() == 3:
        pixels = pixels[:, None]
    shape = tuple(pixels.shape)
    if pixels.dim() != 4 or shape[1] not in (1, 3):
        last = "; channels come first: x.transpose(0, 3, 1, 2)" if len(shape) == 4 and shape[3] in (1, 3) else ""
        raise SparringError(f"{name}: images must have shape (N,C,H,W) with 1 or 3 channels, got {shape}{last}")
    if not pixels.numel():
        raise SparringError(f"{name}: no pixels in images of shape {shape}; at least one image is needed")
    with one_line(name, "has pixels that cannot be read", fix):
        return pixels.clone() if kind == torch.uint8 else check_pixels(pixels.float(), name)


def _numeric(array: np.ndarray, name: str) -> np.ndarray:
    """An array that torch takes as it is; refused where it holds no numbers or numbers without a known white."""
    if (
        array.dtype.kind not in "uf"
        or array.dtype.itemsize > 8
        or (array.dtype.kind == "u" and array.dtype != np.uint8)
    ):
        white = " (divide by 65535)" if array.dtype == np.uint16 else ""
        raise SparringError(f"{name}: pixels are {array.dtype}; pass uint8 for 0..255, or float in [0,1]{white}")
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return np.ascontiguousarray(native if native.flags.writeable else native.copy())


def check_pixels(x: Tensor, name: str) -> Tensor:
    """Float pixels must lie in [0,1] up to round-off (1e-6); they are clamped, or refused with the likely cause."""
    for what, lost in (("NaN", x.isnan()), ("infinite", x.isinf())):
        if bool(lost.any()):
            bad = int(lost.flatten(1).any(1).sum())
            raise SparringError(f"{name}: {bad} images contain {what} pixels; remove or repair them")
    low, high = float(x.min()), float(x.max())
    if low >= -1e-6 and high <= 1 + 1e-6:
        return x.clamp(0, 1)
    if low >= 0 and high <= 2:
        cause = "scale or clip them to [0,1]"
    elif low >= 0 and high <= 255:
        cause = "they look like 0-255; pass uint8 or divide by 255"
    elif abs(float(x.mean())) < 1 and float(x.std()) > 0.4:
        cause = "they look normalised; undo mean/std and put them into the model (mean=, std=)"
    else:
        cause = "scale them to [0,1]"
    raise SparringError(f"{name}: inputs are not pixels in [0,1] (min {low:.6g}, max {high:.6g}): {cause}")


def check_scale(high: float, name: str) -> None:
    """Refuse a whole set that is all but black, whose brightest pixel is ``high`` of 1: it was divided by 255 twice, or is 0 and 1 in 8 bits."""
    if 0 < high < 1.5 / 255:
        raise SparringError(
            f"{name}: no pixel is brighter than {high:.2g} of 1; they were divided by 255 twice, or are 0 and 1 stored as uint8: scale them to [0,1]"
        )
