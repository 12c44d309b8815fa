"""How many parameters are tied to each pixel (ACE paper, sec. 2.2 and app. C), and the pixels that an attack is kept to by it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparring.core.errors import SparringError
from sparring.core.network import private_copy
from sparring.core.ranges import Part
from sparring.core.registry import MASKS, MODELS
from sparring.core.spec import parse
from sparring.models.attach import base_model
from sparring.models.unet import Caged

PUBLISHED_GAIN = 0.009  # fitted to the paper's Table 2, which it never mentions; see ``structural``


def structural(network: nn.Module, gain: float | None = None) -> nn.Module:
    """A copy in float64 with every convolution and linear weight 1, every bias 0 and BatchNorm left out.

    ``gain``: of ACE's two layers together. None is the literal all-ones rule (3 x middle width); PUBLISHED_GAIN, a constant
    *we fitted*, gives all twelve published shares at lambda > 0 (any value in [.00898, .00930] does).
    """
    copy = private_copy(network).double().eval()
    for name, module in list(copy.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            parent, _, own = name.rpartition(".")
            setattr(copy.get_submodule(parent), own, nn.Identity())
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.ones_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in copy.modules():
        if isinstance(module, Caged) and gain is not None:
            nn.init.constant_(module.decode.weight, gain / (module.encode.in_channels * module.encode.out_channels))
    return copy.requires_grad_(False)


def gradient_overlap(network: nn.Module, channels: int = 3, size: int = 32, gain: float | None = None) -> Tensor:
    """Omega (H,W) float64: the gradient of the summed outputs of the ``structural`` network at an image of ones, summed over
    channels. Max-pooling sends ties to the first maximum in row-major order, as PyTorch does.
    """
    x = torch.ones(1, channels, size, size, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        (grad,) = torch.autograd.grad(structural(network, gain)(x).sum(), x)
    return grad[0].sum(0)


def top_pixels(overlap: Tensor, share: float) -> Tensor:
    """G(p): (H,W) bool, the pixels whose overlap is above the (1 - share) quantile, ties at it left out (eight of them tie in
    VGG-11, and the paper's 13 of 256 needs them out); all pixels for share = 1.
    """
    if not 0 < share <= 1:
        raise SparringError(f"share={share} must be in (0,1]")
    return overlap > overlap.flatten().quantile(1 - share) if share < 1 else torch.ones_like(overlap, dtype=torch.bool)


def bait_pixels(height: int, width: int) -> Tensor:
    """C: (H,W) bool, the pixels that ACE's convolution k=1 s=2 reads: even row, even column."""
    bait = torch.zeros(height, width, dtype=torch.bool)
    bait[::2, ::2] = True
    return bait


@MASKS("overlap")
@dataclass(frozen=True, kw_only=True)
class MostTied:
    """G(p): the pixels that most parameters of an architecture are tied to (ACE paper, sec. 2.2 and Table 1), without its training.

    ``model``: its spec without weights (``resnet18``, ``ace_toy``); ``share``: p, which share of the pixels.
    """

    model: str
    share: Part = 0.3

    def __post_init__(self) -> None:
        """Raises SparringError for an unknown model."""
        _ = MODELS[parse(self.model).name]

    def pixels(self, channels: int, height: int, width: int) -> Tensor:
        """(H,W) bool. Raises SparringError for images that are no squares, or that the model does not take."""
        base = base_model(self.model, 10)
        if height != width or base.size not in (None, height) or base.channels not in (None, channels):
            raise SparringError(
                f"{self.model} does not take images of {channels}x{height}x{width}; name the attacked architecture"
            )
        return top_pixels(gradient_overlap(base, channels, height), self.share)


@MASKS("bait")
@dataclass(frozen=True, kw_only=True)
class Bait:
    """C: the pixels of even row and column, which ACE's bait reads (ACE paper, sec. 4.1); ``off``: all others."""

    off: bool = False

    def pixels(self, channels: int, height: int, width: int) -> Tensor:
        """(H,W) bool."""
        bait = bait_pixels(height, width)
        return ~bait if self.off else bait
