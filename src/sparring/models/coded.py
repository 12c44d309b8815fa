"""Networks that compute on less: thermometer codes, band-limited convolutions, reduced precision."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor, nn

from sparring.core.errors import SparringError
from sparring.core.ranges import Classes, Rate
from sparring.core.registry import MODELS
from sparring.models.attach import base_model
from sparring.models.classifier import Classifier
from sparring.models.weights import fill, seeded


class Quantizer(nn.Module):
    """Pixels in [0,1] -> the level m/levels they reach: m is how many of k/levels, k=0..levels-1, lie below. No gradient passes."""

    def __init__(self, levels: Annotated[int, Ge(2), Le(256)]) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.levels).ceil() / self.levels


class Thermometer(nn.Module):
    """Levels (B,C,H,W) -> codes (B,C*levels,H,W) (Buckman et al., ICLR 2018, sec. 4): the first m units of level m/levels are 1.

    Written as the ramp min(max(r, 0), 1), exact on levels, as (|r| - |r-1| + 1) / 2: its gradient at a level is the mean of what
    one unit more and one unit less change, where that of a clamp is nothing.
    """

    def __init__(self, levels: Annotated[int, Ge(2), Le(256)]) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        unit = torch.arange(self.levels, dtype=x.dtype, device=x.device)[:, None, None]
        r = x[:, :, None] * self.levels - unit
        return ((r.abs() - (r - 1).abs() + 1) / 2).flatten(1, 2)


@MODELS("thermometer")
def thermometer(
    model: str, levels: Annotated[int, Ge(2), Le(256)] = 16, weights: str | None = None, classes: Classes = 10
) -> Classifier:
    """A network on thermometer codes of the pixels: its first convolution is widened to channels*levels, mean and std are gone.

    For training; under attack use the defense ``thermometer``, which knows a gradient for the code.
    """
    if levels < 2:
        raise SparringError(f"levels={levels} must be at least 2")
    base = base_model(model, classes)
    channels = base.channels or 3
    name, stem = next(
        (n, m) for n, m in base.network.named_modules() if isinstance(m, nn.Conv2d) and m.in_channels == channels
    )
    same: Any = (stem.out_channels, stem.kernel_size, stem.stride, stem.padding)
    with seeded(0):
        wide = nn.Conv2d(channels * levels, *same, bias=stem.bias is not None)
    parent, _, own = name.rpartition(".")
    setattr(base.network.get_submodule(parent), own, wide)
    network = nn.Sequential(Quantizer(levels), Thermometer(levels), base.network)
    fill(network, weights)
    return Classifier(network.eval(), name=f"thermometer:model={model}", channels=channels, size=base.size)


class BandLimited(nn.Module):
    """A convolution whose input spectrum is cut: of the real FFT of the padded input only a low corner is kept, the share
    1 - ``rate`` of its coefficients. By the convolution theorem that is the product of input and filter spectra, band-limited
    (Dziedzic et al., arXiv:1911.09287, eq. 4).
    """

    def __init__(self, layer: nn.Conv2d, rate: float) -> None:
        super().__init__()
        if isinstance(layer.padding, str):
            raise SparringError(f"band_limited: padding={layer.padding!r} is not supported, only numbers")
        self.layer, self.rate = layer, rate
        self.pad, layer.padding = layer.padding, (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (self.pad[1], self.pad[1], self.pad[0], self.pad[0]))
        return self.layer(low_pass(x.float(), self.rate).to(x.dtype))


def low_pass(x: Tensor, rate: float) -> Tensor:
    """(...,H,W) without the ``rate`` highest of its frequencies: those outside of a square around zero frequency."""
    height, width = x.shape[-2:]
    reach = math.sqrt(1 - rate) / 2
    rows = (torch.fft.fftfreq(height, device=x.device).abs() <= reach).to(x.dtype)
    columns = (torch.fft.rfftfreq(width, device=x.device).abs() <= reach).to(x.dtype)
    return torch.fft.irfft2(torch.fft.rfft2(x) * (rows[:, None] * columns), s=(height, width))


@MODELS("band_limited")
def band_limited(model: str, rate: Rate = 0.5, weights: str | None = None, classes: Classes = 10) -> Classifier:
    """A network all of whose convolutions larger than 1x1 are band-limited by ``rate`` (channels paper, app. D: 0, .5, .85).

    Differs from the paper: the kept frequencies are a square of the share 1 - rate, in both training and test.
    """
    if not 0 <= rate < 1:
        raise SparringError(f"rate={rate:g} must be in [0,1)")
    base = base_model(model, classes)
    network = base.network
    layers = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d) and max(m.kernel_size) > 1]
    for name, layer in layers:
        parent, _, own = name.rpartition(".")
        setattr(network.get_submodule(parent), own, BandLimited(layer, rate))
    fill(network, weights)
    return base.eval()


class LowPrecision(nn.Module):
    """``network`` with parameters, features and logits in a 16-bit type; float32 in, float32 out."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network.to(dtype), dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.to(self.dtype)).float()


@MODELS("low_precision")
def low_precision(
    model: str,
    dtype: Literal["bfloat16", "float16"] = "bfloat16",
    weights: str | None = None,
    classes: Classes = 10,
) -> Classifier:
    """A network in reduced-precision arithmetic (channels paper, app. D, "RPA"): 16-bit floats instead of 32.

    ``weights``: of the float32 network ``model``, rounded after loading; no training of its own.
    """
    base = base_model(model, classes)
    fill(base.network, weights)
    network = LowPrecision(base.network, getattr(torch, dtype))
    mean, std = base.mean.flatten().tolist(), base.std.flatten().tolist()
    name = f"low_precision:model={model},dtype={dtype}"
    return Classifier(network.eval(), mean, std, name=name, channels=base.channels, size=base.size)
