"""The pixels that an attack is kept to, by a rule that a spec text names: ``pgd:eps=8/255,mask=overlap:model=resnet18;share=0.3``."""

from __future__ import annotations

from functools import cache
from typing import Protocol

from torch import Tensor

from sparring.core.errors import SparringError
from sparring.core.registry import MASKS
from sparring.core.spec import build


class PixelMask(Protocol):
    """A registered rule, its options as fields."""

    def pixels(self, channels: int, height: int, width: int) -> Tensor:
        """(H,W) bool: the pixels that may change."""
        ...


def pixel_mask(text: str) -> PixelMask:
    """The rule that a text names, its fields separated by ;. Raises SparringError for an unknown one."""
    return build(MASKS, text.replace(";", ","))


@cache
def pixels_of(text: str, channels: int, height: int, width: int) -> Tensor:
    """(H,W) bool: the pixels that may change of images (C,H,W). Raises SparringError where there are none."""
    pixels = pixel_mask(text).pixels(channels, height, width)
    if not bool(pixels.any()):
        raise SparringError(f"mask={text} leaves no pixel of {height}x{width} that may change; give another")
    return pixels
