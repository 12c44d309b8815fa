"""One picture file as an array, without losing or inventing anything: what can only be read in part is refused."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps

from sparring.core.errors import SparringError
from sparring.data.boundary import check_count, one_line

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
REPAIR = "repair or remove it"
FLATTEN = "flatten it onto the background that is meant"
FIX_BITS = "save it with 8 or 16 bits"
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
SIXTEEN = re.compile(r";16[BLN]")  # how Pillow calls the encoding of a color of 16 bits
DEEP = ("I;16", "I;16B", "I;16L", "I;16N")
COLOR = {"RGB", "RGBA", "RGBX", "P"}


def read_picture(file: Path | IO[bytes], name: str, channels: int | None, max_pixels: int) -> np.ndarray:
    """(H,W,C) of a picture, uint8 or float32 in [0,1]; ``name`` is what errors call it.

    Gray and RGB of 8 bits as they are; gray of 16 bits by 65535; gray of float in [0,1]; 1 bit as black and white; a palette as its
    RGB colors; alpha is dropped where the picture is opaque. EXIF orientation is applied. ``channels`` = 3 repeats gray three times.
    Refused: RGB of 16 bits (Pillow reads 8 of them), transparency, CMYK and other color spaces, several frames, RGB for channels=1.
    """
    with _opened(file, name, max_pixels) as image:
        array = to_array(image, name)
    return with_channels(array, name, channels)


def check_channels(channels: int | None) -> None:
    """Refuse a number of channels that no picture has, before any is read."""
    if channels not in (None, 1, 3):
        raise SparringError(f"channels={channels} is not 1 or 3; leave it out to take pictures as they are")


def with_channels(array: np.ndarray, name: str, channels: int | None) -> np.ndarray:
    """The picture as it is, or gray repeated to ``channels`` = 3; color is never made gray."""
    if array.shape[2] == 1 and channels == 3:
        return np.repeat(array, 3, axis=2)
    if channels is not None and array.shape[2] != channels:
        raise SparringError(f"{name} is in color and channels=1 is asked for; make it gray first")
    return array


@contextmanager
def _opened(file: Path | IO[bytes], name: str, max_pixels: int) -> Iterator[Image.Image]:
    """An image that has passed its checksums, is within its bound and stands upright."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None  # our own bound is checked instead, before anything is unpacked
    try:
        with one_line(name, "is not a picture that can be read", REPAIR), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if isinstance(file, Path) and not file.is_file():
                raise SparringError(f"{name} is no regular file; remove it")
            with Image.open(file) as image:
                check_count(name, *image.size, max_pixels)
                if image.format == "PNG":
                    image.verify()  # checksums, which decoding does not look at
            if not isinstance(file, Path):
                file.seek(0)
            with Image.open(file) as image:
                _check_encoding(image, name)
                image.load()
                yield ImageOps.exif_transpose(image)
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _check_encoding(image: Image.Image, name: str) -> None:
    """Refuse what Pillow would read in part: the first of several frames, the upper 8 of 16 bits of a color."""
    if image.format != "MPO" and _goes_on(image):
        raise SparringError(f"{name} has several frames; save the one that is meant as a picture of its own")
    if image.mode not in DEEP and any(SIXTEEN.search(str(tile[3])) for tile in vars(image).get("tile", ())):
        fix = "save it with 8 bits, or the set as .npz of floats"
        raise SparringError(f"{name} has 16 bits a color, of which Pillow reads 8; {fix}")
    if image.mode == "I" and image.format != "PNG":
        raise SparringError(f"{name} has 32-bit whole numbers for pixels, and nothing says which is white; {FIX_BITS}")
    if image.mode in DEEP and "transparency" in image.info:
        raise SparringError(f"{name} has transparent pixels; {FLATTEN}")


def _goes_on(image: Image.Image) -> bool:
    try:
        image.seek(1)
    except EOFError:
        return False
    return True


def to_array(image: Image.Image, name: str) -> np.ndarray:
    """(H,W,C) of an image in memory; see ``read_picture``."""
    mode = image.mode
    if mode in DEEP or mode == "I":
        return (np.asarray(image).astype(np.float32) / 65535)[..., None]
    if mode == "F":
        return _unit(np.asarray(image), name)[..., None]
    if "transparency" in image.info or mode in ("LA", "PA", "RGBA"):
        image = _opaque(image, name)
        mode = image.mode
    if mode in ("1", "L"):
        return np.asarray(image.convert("L"))[..., None]
    if mode in COLOR:
        return np.asarray(image.convert("RGB"))
    raise SparringError(f"{name} has the color mode {mode}; convert it to RGB or gray of 8 bits with its color profile")


def _opaque(image: Image.Image, name: str) -> Image.Image:
    """The image without its alpha channel, which must be full everywhere: what is behind a transparent pixel nobody knows."""
    gray = image.mode in ("1", "L", "LA")
    full = image.convert("RGBA")
    low, _ = full.getchannel("A").getextrema()
    if low != 255:
        raise SparringError(f"{name} has transparent pixels; {FLATTEN}")
    return full.convert("RGB").getchannel(0) if gray else full.convert("RGB")


def _unit(array: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
        raise SparringError(
            f"{name} has float pixels outside [0,1] ({array.min():.3g} to {array.max():.3g}); scale them to [0,1]"
        )
    return array.astype(np.float32)


@dataclass(frozen=True)
class Fitting:
    """How pictures are brought to one size: the shorter side to ``size`` / ``crop`` (rounded down), then the center ``size`` x ``size``; as torchvision's
    Resize and CenterCrop do it with Pillow, and timm's evaluation. ``filter``: bicubic or bilinear.
    """

    size: int
    crop: float = 0.875
    filter: str = "bicubic"

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 8192:
            raise SparringError(f"size={self.size} is no side of a picture; write the model's, such as 224")
        if not 0 < self.crop <= 1:
            raise SparringError(f"crop={self.crop:g} must be in (0,1]: the share of the resized side that is kept")
        if self.filter not in FILTERS:
            raise SparringError(f"filter={self.filter} is not one of {', '.join(FILTERS)}")

    def __str__(self) -> str:
        return f"shorter side to {self._side} ({self.filter}), center {self.size}x{self.size}"

    @property
    def _side(self) -> int:
        return int(self.size / self.crop)

    def of(self, array: np.ndarray, name: str) -> np.ndarray:
        """A picture (H,W,C) uint8 at that size. Raises SparringError for floats, which Pillow resizes channel by channel and out of [0,1]."""
        if array.dtype != np.uint8:
            raise SparringError(f"{name} has more than 8 bits a channel, which size= does not resize; resize it first")
        image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
        width, height = image.size
        short = min(width, height)
        image = image.resize((self._side * width // short, self._side * height // short), FILTERS[self.filter])
        left, top = round((image.width - self.size) / 2), round((image.height - self.size) / 2)
        cut = np.asarray(image.crop((left, top, left + self.size, top + self.size)))
        return cut[..., None] if cut.ndim == 2 else cut


def stacked(pictures: list[np.ndarray], names: list[str], path: str) -> np.ndarray:
    """(N,C,H,W) of pictures of one size and one number of channels; uint8 where all are, else float32. Else the odd one is named."""
    shapes = [p.shape for p in pictures]
    usual = max(set(shapes), key=shapes.count)
    odd = next((i for i, s in enumerate(shapes) if s != usual), None)
    if odd is not None:
        what = f"{names[odd]} is {_dimensions(shapes[odd])}, most are {_dimensions(usual)}"
        same_size = all(s[:2] == usual[:2] for s in shapes)
        fix = "write channels=3 to repeat gray three times" if same_size else "write size=224 to resize and crop all"
        raise SparringError(f"{path}: images differ in {'channels' if same_size else 'size'}: {what}; {fix}")
    if any(p.dtype != np.uint8 for p in pictures):
        pictures = [p.astype(np.float32) / np.float32(255) if p.dtype == np.uint8 else p for p in pictures]
    return np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2))


def _dimensions(shape: tuple[int, ...]) -> str:
    height, width, channels = shape
    return f"{width}x{height} {'gray' if channels == 1 else 'RGB'}"
