"""One picture file as an array, without losing or inventing anything: what can only be read in part is refused."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from sparring.core.errors import SparringError
from sparring.core.fitting import Fitting
from sparring.data.boundary import check_count, one_line

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
REPAIR = "repair or remove it"
FLATTEN = "flatten it onto the background that is meant"
FIX_BITS = "save it with 8 or 16 bits"
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
SIXTEEN = re.compile(r";16[BLN]")  # how Pillow calls the encoding of a color of 16 bits
DEEP = ("I;16", "I;16B", "I;16L", "I;16N")
COLOR = {"RGB", "RGBA", "RGBX", "P"}
LOCK = threading.Lock()  # Pillow's bound is one for all threads


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
    with LOCK, ExitStack() as stack:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None  # our own bound is checked instead, before anything is unpacked
        stack.callback(setattr, Image, "MAX_IMAGE_PIXELS", before)
        if (
            threading.current_thread() is threading.main_thread()
        ):  # elsewhere the filters of all threads would be changed
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        stack.enter_context(one_line(name, "is not a picture that can be read", REPAIR))
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


def fitting_of(size: int | None, crop: float, filter: str, place: str) -> Fitting | None:
    """What the fields size=, crop= and filter= of a source say, None: pictures stay as they are. Raises SparringError."""
    if size is not None:
        return Fitting(size, crop, filter)
    if (crop, filter) != (Fitting.crop, Fitting.filter):
        raise SparringError(f"{place}: crop= and filter= say how size= is reached; write size=224")
    return None


def fitted(picture: np.ndarray, fitting: Fitting | None, name: str) -> np.ndarray:
    """A picture (H,W,C) uint8 at the size that is meant. Raises SparringError for floats, which Pillow resizes channel by channel and out of [0,1]."""
    if fitting is None:
        return picture
    if picture.dtype != np.uint8:
        raise SparringError(f"{name} has more than 8 bits a channel, which size= does not resize; resize it first")
    image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
    width, height = image.size
    short, side, size = min(width, height), fitting.side, fitting.size
    image = image.resize((side * width // short, side * height // short), FILTERS[fitting.filter])
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    cut = np.asarray(image.crop((left, top, left + size, top + size)))
    return cut[..., None] if cut.ndim == 2 else cut


class Look(NamedTuple):
    """How the pictures of a source are looked at: see ``read_picture`` and ``fitted``."""

    channels: int | None
    fitting: Fitting | None
    max_pixels: int

    def of(self, file: Path | IO[bytes], name: str) -> np.ndarray:
        """A picture (H,W,C). Raises SparringError."""
        return fitted(read_picture(file, name, self.channels, self.max_pixels), self.fitting, name)


def titled(name: str, fitting: Fitting | None) -> str:
    """What a set is called whose pictures were brought to a size."""
    return f"{name}, {fitting}" if fitting else name


def require_alike(form: tuple[int, ...], first: tuple[int, ...], name: str, first_name: str, path: str) -> None:
    """Raises SparringError where a picture of the form (H,W,C) stands in a set whose first has another."""
    if form == first:
        return
    what = f"image {name} is {_dimensions(form)}, {first_name} is {_dimensions(first)}"
    same_size = form[:2] == first[:2]
    fix = (
        "write channels=3 to repeat gray three times"
        if same_size
        else "write size=auto or size=224 to resize and crop all"
    )
    raise SparringError(f"{path}: images differ in {'channels' if same_size else 'size'}: {what}; {fix}")


def _dimensions(form: tuple[int, ...]) -> str:
    height, width, channels = form
    return f"{width}x{height} {'gray' if channels == 1 else 'RGB'}"
