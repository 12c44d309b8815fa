"""Where foreign bytes and objects come in: whatever goes wrong there becomes one line, and names become printable."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from sparring.core.errors import SparringError

MAX_BYTES = 8 * 2**30  # what the pixels of one image set may take as float32
MAX_PIXELS = 2**24  # what one picture may have: 4096x4096


@contextmanager
def one_line(thing: str, fault: str, fix: str) -> Iterator[None]:
    """Whatever a foreign reader raises inside becomes one line that names the thing, the fault, the reader's reason and the fix."""
    try:
        yield
    except SparringError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines()
        reason = type(error).__name__ + (f": {lines[0][:200]}" if lines else "")
        raise SparringError(f"{thing} {fault} ({shown(reason)}); {fix}") from None


def shown(name: str | Path) -> str:
    r"""A file name as text that can be printed, hashed and stored: bytes that are no UTF-8 are written \xff, line ends \n."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace") if isinstance(name, Path) else name
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def some(names: list[str], most: int = 3) -> str:
    """The first few names of a list, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def whole(name: str, value: object, least: int) -> int:
    """A whole number of at least ``least``, from a number or its text; one line where it is none."""
    number = None
    if isinstance(value, str):
        number = int(value) if re.fullmatch(r"[+-]?[0-9]{1,18}", value) else None
    elif isinstance(value, int | np.integer) and not isinstance(value, bool):
        number = int(value)
    if number is None:
        raise SparringError(f"{name}={value} is not a whole number of at least {least}")
    if number < least:
        raise SparringError(
            f"{name}={value}: {'at least one image is needed' if name == 'limit' else f'it must be at least {least}'}"
        )
    return number


def check_bytes(thing: str, values: int, most: int) -> None:
    """Refuse an image set before it is unpacked if its pixels, so many values of float32, take more than ``most`` bytes."""
    if 4 * values > most:
        raise SparringError(
            f"{thing}: its pixels take {size(4 * values)} as float32, the limit is {size(most)}; take fewer or smaller images, "
            f"or write max_bytes={4 * values} if that is right and this machine has the memory"
        )


def check_count(thing: str, width: int, height: int, most: int) -> None:
    """Refuse a picture before it is unpacked if it has more than ``most`` pixels."""
    if width * height > most:
        raise SparringError(
            f"{thing}: {width}x{height} are {width * height:,} pixels, the limit is {most:,} a picture; resize it, "
            f"or write max_pixels={width * height} if that is right"
        )


def size(count: int) -> str:
    """Bytes as a reader takes them in: 12 B, 3.4 MB, 17 GB."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}" if value < 1e5 else f"{value:.2g} {unit}"
