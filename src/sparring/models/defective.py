"""Defective networks (Luo et al., "Defective Convolutional Networks", arXiv:1911.08432): fixed random masks over feature maps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from sparring.core.errors import SparringError
from sparring.core.ranges import Classes, Natural, Part, Seed
from sparring.core.registry import MODELS
from sparring.models.attach import attach, base_model, by_resolution, output_shapes, select
from sparring.models.classifier import Classifier
from sparring.models.weights import fill

Law = Literal["exact", "bernoulli"]


class Mask(nn.Module):
    """z' = M * z (eq. 5): one mask (1,C,H,W) of zeros and ones for every image, a buffer of the network's weights.

    ``draw``: a mask from a seed. ``fresh``: in training another mask for every batch. ``inplace``: z is overwritten, right where
    its maker does not need it for the gradient.
    """

    mask: Tensor

    def __init__(self, draw: Callable[[int], Tensor], seed: int, fresh: bool = False, inplace: bool = False) -> None:
        super().__init__()
        self.draw, self.seed, self.fresh, self.inplace = draw, seed, fresh, inplace
        self.register_buffer("mask", draw(seed))

    def reset(self) -> None:
        """The mask of the seed again, whatever was loaded."""
        self.mask.copy_(self.draw(self.seed))

    def forward(self, x: Tensor) -> Tensor:
        mask = self.mask
        if self.training and self.fresh:
            mask = self.draw(int(torch.randint(2**31, (), device="cpu"))).to(x.device)
        mask = mask.to(x.dtype)
        return x.mul_(mask) if self.inplace else x * mask


def draw_mask(
    shape: tuple[int, ...], keep: float, seed: int, number: int, law: Law, shared: bool, channels: bool
) -> Tensor:
    """(1,C,H,W) of zeros and ones for layer ``number``. exact: int((1-keep) N) of the N units are dropped, without replacement
    (the code); bernoulli: each is kept with probability ``keep`` (eq. 3). ``shared``: one (H,W) mask for all channels of a
    layer (SM); ``channels``: whole channels. Never rescaled.
    """
    drawn = (shape[0], 1, 1) if channels else (1, *shape[1:]) if shared else shape
    count = math.prod(drawn)
    rng = np.random.default_rng((seed, number))
    if law == "bernoulli":
        kept = rng.random(count) < keep
    else:
        kept = np.ones(count, bool)
        kept[rng.permutation(count)[: int((1 - keep) * count)]] = False
    return torch.from_numpy(kept.reshape(drawn)).float().expand(shape)[None].clone()


@MODELS("defective")
def defective(
    model: str,
    keep: Part = 0.5,
    keep_top: Part | None = None,
    position: Literal["bottom", "top", "both"] = "bottom",
    place: Literal["branch", "activation"] = "branch",
    law: Law = "exact",
    shared: bool = False,
    channels: bool = False,
    at: str = "",
    mask_seed: Seed = 0,
    fresh: bool = False,
    size: Natural = 0,
    weights: str | None = None,
    classes: Classes = 10,
) -> Classifier:
    """A network with defective layers: ``model`` is its spec without weights (``resnet18``, ``timm:NAME``, inner fields by ;).

    ``keep``: share of units that work; ``keep_top``: of the top layers' where ``position=both`` (default: ``keep``). ``place``:
    branch (the authors' code: behind BatchNorm, before ReLU and the residual sum) or activation (eq. 4: behind the activation,
    so that a block's output is masked too); the two agree where ReLU
    follows directly. ``law``: exact count (code) or bernoulli (paper). ``shared``: the same mask for all channels (SM).
    ``channels``: whole channels. ``at``: module-name patterns joined by ; instead of the architecture's places. ``size``: side
    of the images (default: the model's own). Masks are drawn by ``mask_seed``, kept in the weights file, and trained with:
    ``sparring train classifier --model defective:...``. ``fresh``: trained with another mask for every batch, a network for any
    mask: it wears that of ``mask_seed``, also where weights are loaded (an attacker's network, PROTOCOL 4.2, D2). The paper's
    DC is a narrow network without masks, ``resnet18:bottom=0.1``; its x2 is ``defective:model=resnet18:bottom=2,keep=0.5``.
    """
    if not 0 < keep <= 1:
        raise SparringError(f"keep={keep:g} must be in (0,1]")
    if keep_top is not None and (position != "both" or at):
        raise SparringError("keep_top is the top layers' share beside the bottom's: give position=both and no at=")
    if shared and channels:
        raise SparringError("shared and channels exclude each other")
    base = base_model(model, classes)
    side = size or base.size
    if not side:
        raise SparringError(f"{model} takes images of any size, but masks have one: give size=")
    network = base.network
    shapes = output_shapes(network, base.channels or 3, side)
    positions = ("bottom", "top") if position == "both" else (position,)
    names = select(network, at.split(";")) if at else _places(network, positions, place, shapes)
    top = [] if keep_top is None else _places(network, ("top",), place, shapes)

    def mask(number: int, shape: tuple[int, ...]) -> Mask:
        share = keep_top if keep_top is not None and names[number] in top else keep
        inplace = isinstance(network.get_submodule(names[number]), nn.Conv2d | nn.BatchNorm2d)
        return Mask(
            lambda seed: draw_mask(shape, share, seed, number, law, shared, channels), mask_seed, fresh, inplace
        )

    attach(network, names, mask, shapes)
    fill(network, weights)
    for layer in network.modules():
        if fresh and isinstance(layer, Mask):
            layer.reset()
    shares = f"keep={keep:g}" + ("" if keep_top is None else f",keep_top={keep_top:g}")
    base.size, base.name = side, f"defective:model={model},{shares}"
    return base.eval()


def _places(
    network: nn.Module, positions: tuple[str, ...], place: str, shapes: dict[str, tuple[int, ...]]
) -> list[str]:
    """The architecture's own places, else by resolution."""
    own = getattr(network, "places", None)
    if own is None and place == "activation":
        raise SparringError("this network has no known activations; name the modules to be masked with at=")
    patterns = [
        p for position in positions for p in (own or {}).get(position + "/activation" * (place == "activation"), [])
    ]
    if own is not None:
        return select(network, patterns)
    return [n for position in positions for n in by_resolution(shapes, network, position)]


def masks(network: nn.Module) -> dict[str, Tensor]:
    """The masks of a network by name."""
    return {n: b for n, b in network.named_buffers() if n.rpartition(".")[2] == "mask"}
