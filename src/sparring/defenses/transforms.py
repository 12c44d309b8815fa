"""Random input transformations that ACE is compared with (Tables 8 and 9). Region-based classification, the third, is
``uniform:eps=0.02+vote:samples=1000``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from sparring.core.noise import Noise
from sparring.core.ranges import Count, Part
from sparring.core.registry import DEFENSES
from sparring.defenses.base import Backward, InputDefense, Stage, Surrogate


class DeflectStage(Stage):
    def __init__(self, count: int, window: int) -> None:
        why = "copies pixels: autograd is exact for one draw; the identity ignores which few were copied; average over draws"
        backward: dict[str, Backward] = {"exact": "exact", "identity": "identity"}
        super().__init__("deflect", Surrogate(backward=backward, random=True, why=why))
        self.count, self.window = count, window

    def forward(self, x: Tensor, noise: Noise) -> Tensor:
        height, width = x.shape[-2:]
        row = noise.integers("row", height, (self.count,))
        column = noise.integers("column", width, (self.count,))
        reach = noise.integers("from", (2 * self.window + 1) ** 2, (self.count,))
        from_row = (row + reach // (2 * self.window + 1) - self.window).clamp(0, height - 1)
        from_column = (column + reach % (2 * self.window + 1) - self.window).clamp(0, width - 1)
        # where a pixel is hit twice the later deflection stays: the largest order wins, on every device
        order = torch.arange(1, self.count + 1, device=x.device) * (height * width)
        own = torch.arange(height * width, device=x.device).expand(len(x), -1)
        source = own.scatter_reduce(1, row * width + column, order + from_row * width + from_column, "amax")
        index = (source % (height * width))[:, None].expand(-1, x.shape[1], -1)
        return x.flatten(2).gather(2, index).reshape(x.shape)


@DEFENSES("deflect")
@dataclass(frozen=True)
class Deflect(InputDefense):
    """Pixel deflection (Prakash et al., arXiv:1801.08926, algorithm 1): ``count`` random pixels are replaced by others at most
    ``window`` rows and columns away.

    Differs from the paper: all deflections read the image as it came; positions are uniform (no class activation map);
    no wavelet denoising afterwards.
    """

    count: Count = 100
    window: Count = 10

    def stage(self) -> Stage:
        return DeflectStage(self.count, self.window)


class ResizePadStage(Stage):
    def __init__(self, scale: float) -> None:
        why = "bilinear resizing and zero padding are linear for one draw: autograd is exact; average over draws (published break: EOT)"
        super().__init__("resize-pad", Surrogate(backward={"exact": "exact"}, random=True, why=why))
        self.scale = scale

    def forward(self, x: Tensor, noise: Noise) -> Tensor:
        height, width = x.shape[-2:]
        least = math.ceil(self.scale * min(height, width))
        share = (least + noise.choice("size", min(height, width) - least + 1)).float() / min(height, width)
        rows, at_row = self._axis(height, share, noise.uniform("top", (1,)))
        columns, at_column = self._axis(width, share, noise.uniform("left", (1,)))
        grid = torch.stack(torch.broadcast_tensors(columns[:, None, :], rows[:, :, None]), -1)
        inside = (at_row[:, :, None] & at_column[:, None, :])[:, None]
        resized = grid_sample(x, grid.to(x.dtype), mode="bilinear", padding_mode="border", align_corners=False)
        return torch.where(inside, resized, 0.0)

    @staticmethod
    def _axis(length: int, share: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """(B,length) source coordinates in [-1,1] of each output pixel, and whether it lies in the resized image."""
        size = (share * length).round()[:, None]
        start = (place * (length - size + 1)).floor()
        within = torch.arange(length, device=share.device) - start
        return (2 * within + 1) / size - 1, (within >= 0) & (within < size)


@DEFENSES("resize-pad")
@dataclass(frozen=True)
class ResizePad(InputDefense):
    """Random resizing and zero padding (Xie et al., arXiv:1711.01991, sec. 3): to a random size between ``scale`` and 1 of the
    image, at a random place.

    Differs from the paper: it enlarges 299 pixels to 331; here, as ACE compares it, the image shrinks and keeps its frame.
    """

    scale: Part = 0.9

    def stage(self) -> Stage:
        return ResizePadStage(self.scale)
