"""Gradient overlap (ACE paper, sec. 2.2 and app. C): how many parameters are tied to each pixel, without any training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from sparring.analysis.base import Analysis, analysis
from sparring.analysis.panel import Map, Panel
from sparring.core.errors import SparringError
from sparring.core.network import private_copy
from sparring.core.ranges import NonNegative, Part
from sparring.core.spec import option
from sparring.data.images import ImageSet
from sparring.models.unet import Caged
from sparring.subject import Subject

PUBLISHED_GAIN = 0.009  # fitted to the paper's Table 2, which it never mentions; see ``structural``


@analysis("overlap")
@dataclass(frozen=True, kw_only=True)
class Overlap(Analysis):
    """Gradient overlap of an architecture with all parameters 1 (ACE paper, sec. 2.2 and Table 2, second half): needs no training."""

    needs_data: ClassVar[bool] = False
    example: ClassVar[str] = "overlap ace_resnet:depth=20,lam=10 --png overlap.png"

    size: Annotated[int, Ge(1), Le(4096)] = option(32, help="height and width of the image")
    channels: Literal[1, 3] = option(3, help="its channels")
    share: Part = option(0.3, help="p of G(p): which share of pixels counts as most tied")
    gain: NonNegative | None = option(None, help="of ACE's two layers together; default: the literal all-ones rule")

    def images(self) -> ImageSet:
        return ImageSet.of(torch.ones(1, self.channels, self.size, self.size), [0], name="ones")

    def panel(self, subject: Subject) -> Panel:
        overlap = gradient_overlap(subject.model, self.channels, self.size, self.gain)
        value, name = bait_share(overlap, self.share), subject.model.name
        bait = int(bait_pixels(self.size, self.size).sum())
        text = f"{name}: {100 * value:.1f} % of the {bait} pixels of even row and column are among the {100 * self.share:g} % most tied"
        data = {"model": name, "share": value, "gain": self.gain, "overlap": overlap}
        title = f"gradient overlap of {name}"
        return Panel(title, data, maps=[Map(title, overlap / overlap.max())], text=[text])


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


def bait_share(overlap: Tensor, share: float = 0.3) -> float:
    """|G(share) & C| / |C|, the second half of the paper's Table 2."""
    bait = bait_pixels(*overlap.shape)
    return float((top_pixels(overlap, share) & bait).sum() / bait.sum())
