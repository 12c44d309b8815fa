"""What defective networks are compared with: SpatialDropout, DropBlock (off once trained), and noise layers (RSE)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparring.core.errors import SparringError
from sparring.core.network import private_copy
from sparring.core.noise import Noise
from sparring.core.ranges import Classes, Count, Natural, NonNegative, Part, Rate
from sparring.core.registry import MODELS
from sparring.models.attach import attach, base_model, by_resolution, output_shapes, select
from sparring.models.classifier import Classifier
from sparring.models.weights import fill


class DropBlock(nn.Module):
    """Drops squares of ``block`` x ``block`` units of single channels, in training only (Ghiasi et al., arXiv:1810.12890,
    algorithm 1): the rest is scaled up by numel/sum. ``keep``: about the share that is left.
    """

    def __init__(self, keep: float = 0.9, block: int = 3) -> None:
        super().__init__()
        self.keep, self.block = keep, block

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.keep == 1:
            return x
        height, width = x.shape[-2:]
        block = min(self.block, height, width)
        inner = (height - block + 1) * (width - block + 1)
        gamma = (1 - self.keep) / block**2 * height * width / inner  # eq. 1
        seeds = (torch.rand(*x.shape[:2], height - block + 1, width - block + 1, device="cpu") < gamma).float()
        dropped = F.max_pool2d(F.pad(seeds, (block - 1,) * 4), block, 1)
        kept = (1 - dropped).to(x.device, x.dtype)
        return x * kept * (kept.numel() / kept.sum().clamp_min(1))


class NoiseLayer(nn.Module):
    """x + std * standard normal: from torch's generator in training, from ``source`` where one is set, else nothing."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std
        self.source: Noise | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return x + self.std * torch.randn(x.shape, device="cpu").to(x.device, x.dtype)
        if self.source is None:
            return x
        return x + self.std * self.source.normal("layer", x.shape[1:]).to(x.dtype)


class GhostLayer(nn.Module):
    """Each unit of a feature map at least half as wide as the image is kept with probability ``keep`` and scaled by 1/keep, by
    draws of ``source``; elsewhere, and without a source, nothing happens.
    """

    def __init__(self, keep: float) -> None:
        super().__init__()
        self.keep, self.side = keep, 0
        self.source: Noise | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.source is None or 2 * x.shape[-1] < self.side:
            return x
        return x * (self.source.uniform("ghost", x.shape[1:]) < self.keep).to(x.dtype) / self.keep


class NoisyNetwork(nn.Module):
    """A network whose noise layers draw: ``forward(x, noise)``; without noise, the network alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.layers = [m for m in network.modules() if isinstance(m, NoiseLayer | GhostLayer)]

    def forward(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        for number, layer in enumerate(self.layers):
            layer.source = noise and noise.child(f"layer{number}")
            if isinstance(layer, GhostLayer):
                layer.side = x.shape[-1]
        try:
            return self.network(x)
        finally:
            for layer in self.layers:
                layer.source = None


def ghosted(network: nn.Module, keep: float) -> NoisyNetwork:
    """A copy of a trained network in which early units come and go: a ghost of a defective network (PROTOCOL 4.2, D3).

    Differs from defective networks: kept units are scaled by 1/keep, as this one was not trained without them.
    """
    if not 0 < keep <= 1:
        raise SparringError(f"ghost={keep:g} must be in (0,1]")
    copy = private_copy(network)
    names = [n for n, m in copy.named_modules() if isinstance(m, nn.Conv2d)]
    attach(copy, names, lambda _n, _s: GhostLayer(keep), dict.fromkeys(names, ()))
    return NoisyNetwork(copy).eval()


def _shaped(model: str, size: int, classes: int) -> tuple[Classifier, dict[str, tuple[int, ...]]]:
    """An untrained network and the shapes (C,H,W) of its feature maps for images of side ``size`` (0: its own, else 32)."""
    base = base_model(model, classes)
    return base, output_shapes(base.network, base.channels or 3, size or base.size or 32)


def _made(
    model: str, make: Callable[[], nn.Module], at: str, size: int, weights: str | None, classes: int
) -> Classifier:
    """``make()`` behind the first BatchNorm of each block in the last two stages, or behind the modules of ``at``."""
    base, shapes = _shaped(model, size, classes)
    if at:
        names = select(base.network, at.split(";"))
    elif hasattr(base.network, "layer4"):
        names = select(base.network, ["layer3.*.bn1", "layer4.*.bn1"])
    else:
        names = by_resolution(shapes, base.network, "top")
    attach(base.network, names, lambda _n, _s: make(), shapes)
    fill(base.network, weights)
    return base.eval()


@MODELS("spatial_dropout")
def spatial_dropout(
    model: str, rate: Rate = 0.1, at: str = "", size: Natural = 0, weights: str | None = None, classes: Classes = 10
) -> Classifier:
    """SpatialDropout (Tompson et al., arXiv:1411.4280): whole channels dropped with probability ``rate`` in training.

    Behind the first BatchNorm of each block in the last two stages, as near as the defective paper's baseline says; ``at``:
    other module-name patterns, joined by ;. Once trained it is the plain network ``model``.
    """
    if not 0 <= rate < 1:
        raise SparringError(f"rate={rate:g} must be in [0,1)")
    return _made(model, lambda: nn.Dropout2d(rate), at, size, weights, classes)


@MODELS("dropblock")
def dropblock(
    model: str,
    keep: Part = 0.9,
    block: Count = 3,
    at: str = "",
    size: Natural = 0,
    weights: str | None = None,
    classes: Classes = 10,
) -> Classifier:
    """DropBlock (Ghiasi et al., arXiv:1810.12890) in training, placed as ``spatial_dropout``. Once trained it is the plain network."""
    if not 0 < keep <= 1 or block < 1:
        raise SparringError(f"keep={keep:g} must be in (0,1] and block={block} at least 1")
    return _made(model, lambda: DropBlock(keep, block), at, size, weights, classes)


@MODELS("noisy")
def noisy(
    model: str,
    first: NonNegative = 0.2,
    inner: NonNegative = 0.1,
    size: Natural = 0,
    weights: str | None = None,
    classes: Classes = 10,
) -> Classifier:
    """A network with a Gaussian noise layer before every convolution (Random Self-Ensemble, Liu et al., arXiv:1712.00673).

    ``first``, ``inner``: standard deviations before the first and before all other convolutions. As a model on its own it
    answers without noise; the defense ``rse`` deploys it with noise and averages.
    """
    if first < 0 or inner < 0:
        raise SparringError("first and inner must not be negative")
    base, shapes = _shaped(model, size, classes)
    names = [n for n, m in base.network.named_modules() if isinstance(m, nn.Conv2d) and n in shapes]
    attach(base.network, names, lambda n, _s: NoiseLayer(inner if n else first), shapes, before=True)
    fill(base.network, weights)
    return base.eval()
