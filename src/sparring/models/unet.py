"""Image-to-image networks of the learned front-ends: DUNET and DAE (HGD), SegNet (S2SNet), the caged modules (ACE).

All take and give pixels in [0,1] (B,C,H,W) without clamping, at any size their strides allow.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def unit(inputs: int, width: int, stride: int = 1, bias: bool = False) -> nn.Sequential:
    """3x3 convolution, BatchNorm, ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, width, 3, stride, 1, bias=bias), nn.BatchNorm2d(width), nn.ReLU())


def units(inputs: int, widths: Sequence[int], stride: int = 1, bias: bool = False) -> nn.Sequential:
    """Several units in a row; the first has the stride."""
    ins = (inputs, *widths[:-1])
    return nn.Sequential(
        *(unit(i, w, stride if n == 0 else 1, bias) for n, (i, w) in enumerate(zip(ins, widths, strict=True)))
    )


class DUNET(nn.Module):
    """The denoising U-Net of HGD (Liao et al., arXiv:1712.02976, sec. 3.1 and Fig. 2): x + d(x), d the negative noise.

    Five groups forward (widths 64-128-256-256-256 times ``width``, 2-3-3-3-3 units, stride 2 from the second on), four
    back (bilinear, lateral concatenation), a 1x1 convolution without bias; it works on 2x-1 in [-1,1]. ``levels=4`` drops
    the deepest group, for 32x32 images. ``lateral=False``: the paper's DAE, which has neither laterals nor the shortcut from
    input to output. 11,033,984 parameters (DAE 9,670,016). Differs from the paper: nothing; ``align_corners=True`` is what
    its code did.
    """

    def __init__(
        self, channels: int = 3, width: float = 1.0, levels: int = 5, lateral: bool = True, align_corners: bool = True
    ) -> None:
        super().__init__()
        widths = [max(1, round(w * width)) for w in (64, 128, 256, 256, 256)[:levels]]
        self.lateral, self.align_corners = lateral, align_corners
        ins = (channels, *widths[:-1])
        self.down = nn.ModuleList(
            units(i, [w] * (2 if n == 0 else 3), 1 if n == 0 else 2)
            for n, (i, w) in enumerate(zip(ins, widths, strict=True))
        )
        self.up = nn.ModuleList()
        deep = widths[-1]
        for n in reversed(range(levels - 1)):
            self.up.append(units(deep + (widths[n] if lateral else 0), [widths[n]] * (2 if n == 0 else 3)))
            deep = widths[n]
        self.final = nn.Conv2d(deep, channels, 1, bias=False)

    def change(self, x: Tensor) -> Tensor:
        """d(x): what the network adds to the image, in pixel units (DAE: output minus input)."""
        return self(x) - x

    def forward(self, x: Tensor) -> Tensor:
        u, left = 2 * x - 1, []
        for group in self.down:
            u = group(u)
            left.append(u)
        for group, side in zip(self.up, reversed(left[:-1]), strict=True):
            u = F.interpolate(u, side.shape[-2:], mode="bilinear", align_corners=self.align_corners)
            u = group(torch.cat([u, side], 1) if self.lateral else u)
        out = self.final(u) / 2
        return x + out if self.lateral else out + 0.5


class SegNet(nn.Module):
    """The autoencoder of S2SNet (Folz et al., arXiv:1803.07994, sec. 3.1): VGG-16-shaped, max-unpooling by the encoder's
    argmax indices, which are its only lateral path; a linear 1x1 convolution at the end.

    ``stages``: widths of each encoder stage; the decoder mirrors them. 29,480,259 parameters at full size. Works in
    ImageNet mean/std space inside. Images are padded by their border to whole pooling windows. ``temperature`` of ``forward``: a
    soft copy in which an unpooled value is spread over its 2x2 window by a softmax of what the encoder saw there (PROTOCOL 4.3,
    card S4).
    """

    FULL = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
    mean: Tensor
    std: Tensor

    def __init__(self, channels: int = 3, stages: Sequence[Sequence[int]] = FULL) -> None:
        super().__init__()
        mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if channels == 3 else ((0.5,), (0.5,))
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(1, -1, 1, 1), persistent=False)
        ends = [stage[-1] for stage in stages]
        ins = [channels, *ends[:-1]]
        self.encoder = nn.ModuleList(units(i, stage, bias=True) for i, stage in zip(ins, stages, strict=True))
        outs = [ends[0], *ends[:-1]]
        self.decoder = nn.ModuleList(
            units(stage[-1], [*stage[:-1], out], bias=True)
            for stage, out in reversed(list(zip(stages, outs, strict=True)))
        )
        self.final = nn.Conv2d(ends[0], channels, 1)

    def forward(self, x: Tensor, temperature: float | None = None) -> Tensor:
        height, width = x.shape[-2:]
        step = 2 ** len(self.encoder)
        padded = (
            F.pad(x, (0, -width % step, 0, -height % step), mode="replicate") if height % step or width % step else x
        )
        u = (padded - self.mean) / self.std
        switches = []
        for stage in self.encoder:
            seen = stage(u)
            u, index = F.max_pool2d(seen, 2, return_indices=True)
            switches.append(index if temperature is None else _soft_switch(seen, temperature))
        for stage, switch in zip(self.decoder, reversed(switches), strict=True):
            u = _unpool(u, switch, hard=temperature is None)
            u = stage(u)
        return (self.final(u) * self.std + self.mean)[..., :height, :width]


def _unpool(u: Tensor, switch: Tensor, hard: bool) -> Tensor:
    if hard:
        return F.max_unpool2d(u, switch, [2, 2])
    return u.repeat_interleave(2, -2).repeat_interleave(2, -1) * switch


def _soft_switch(seen: Tensor, temperature: float) -> Tensor:
    """(B,C,H,W) weights that sum to 1 in each 2x2 window: softmax of the activations there over ``temperature``."""
    batch, channels, height, width = seen.shape
    windows = seen.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 1, 2, 4, 3, 5).flatten(4)
    weights = (windows / temperature).softmax(-1).unflatten(-1, (2, 2))
    return weights.permute(0, 1, 2, 4, 3, 5).reshape(seen.shape)


class Caged(nn.Module):
    """ACE's two layers for joint training (ACE paper, sec. 4.1 and 5): convolution k=1 s=2, ReLU, transposed convolution k=3
    s=2, the last row and column cropped, so that F(x) sees only pixels of even row and even column.

    Differs from the paper: it names neither the ``middle`` width, the bias nor the ReLU; these are our choices.
    """

    def __init__(self, channels: int = 3, middle: int = 16) -> None:
        super().__init__()
        self.encode = nn.Conv2d(channels, middle, 1, 2)
        self.decode = nn.ConvTranspose2d(middle, channels, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(F.relu(self.encode(x)))[..., : x.shape[-2], : x.shape[-1]]


class CagedUNet(nn.Module):
    """ACE's U-Net for large images (sec. 5): an autoencoder whose first layer is a convolution k=1 s=2 and whose last is a
    transposed convolution k=3 s=2, cropped; lateral connections join maps of at most half resolution, or the cage would
    leak. ``widths``: our choice, the paper names none.
    """

    def __init__(self, channels: int = 3, widths: Sequence[int] = (32, 64, 128, 256)) -> None:
        super().__init__()
        self.encode = nn.Conv2d(channels, widths[0], 1, 2)
        ins = (widths[0], *widths[:-1])
        self.down = nn.ModuleList(
            units(i, [w, w], 1 if n == 0 else 2) for n, (i, w) in enumerate(zip(ins, widths, strict=True))
        )
        self.up = nn.ModuleList(
            units(widths[n + 1] + widths[n], [widths[n]] * 2) for n in reversed(range(len(widths) - 1))
        )
        self.decode = nn.ConvTranspose2d(widths[0], channels, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        u, left = F.relu(self.encode(x)), []
        for group in self.down:
            u = group(u)
            left.append(u)
        for group, side in zip(self.up, reversed(left[:-1]), strict=True):
            u = group(torch.cat([F.interpolate(u, side.shape[-2:], mode="nearest"), side], 1))
        return self.decode(u)[..., : x.shape[-2], : x.shape[-1]]
