"""``Fitting``: how pictures of any size are brought to the one that a network takes."""

from __future__ import annotations

from dataclasses import dataclass

from sparring.core.errors import SparringError

FILTERS = ("bicubic", "bilinear")


@dataclass(frozen=True)
class Fitting:
    """The shorter side is resized to ``size`` / ``crop`` (rounded down), then the center ``size`` x ``size`` is kept; as torchvision's Resize and
    CenterCrop do it with Pillow, and timm's evaluation. ``filter``: bicubic or bilinear. Raises SparringError for values that no network means.
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

    @property
    def side(self) -> int:
        """What the shorter side is resized to."""
        return int(self.size / self.crop + 1e-6)  # 224 / (224 / 232) is 232

    def __str__(self) -> str:
        return f"shorter side to {self.side} ({self.filter}), center {self.size}x{self.size}"
