"""Pictures and figures of input gradients: similarity of sources (S2SNet, sec. 3.2), shares of pixel classes, maps (ACE)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sparring.core.errors import SparringError
from sparring.core.extras import need

Map = Callable[[Tensor], Tensor]


def gradient_maps(loss: Map, x: Tensor, batch: int = 64) -> Tensor:
    """(N,H,W) magnitudes of d loss / d x, largest over channels, each image's scaled to a maximum of 1.

    ``loss``: images (b,C,H,W) -> (b,).
    """
    found = []
    for part in x.split(batch):
        with torch.enable_grad():
            leaf = part.detach().requires_grad_(True)
            (grad,) = torch.autograd.grad(loss(leaf).sum(), leaf)
        found.append(grad.abs().amax(1))
    maps = torch.cat(found)
    return maps / maps.flatten(1).amax(1).clamp_min(1e-30)[:, None, None]


def class_loss(network: Map, y: Tensor) -> Map:
    """Cross-entropy (b,) of a classifier for labels y (N,), to be called on the images in order."""
    position = 0

    def loss(x: Tensor) -> Tensor:
        nonlocal position
        rows = y[position : position + len(x)]
        position += len(x)
        return nn.functional.cross_entropy(network(x), rows, reduction="none")

    return loss


def reconstruction_loss(network: Map) -> Map:
    """Mean squared error (b,) of an autoencoder to the image itself, which is held constant."""
    return lambda x: (network(x) - x.detach()).square().flatten(1).mean(1)


def ssim_matrix(maps: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Mean SSIM of every pair of sources' maps (N,H,W) in [0,1]: 11x11 Gaussian window, data range 1 (torchmetrics).

    Differs from the paper: it states neither window, channel reduction nor scaling; these are ours.
    """
    ssim = need("torchmetrics.functional.image", "analysis").structural_similarity_index_measure
    names = list(maps)
    if len({m.shape for m in maps.values()}) != 1:
        raise SparringError("gradient maps of different shapes cannot be compared")
    value = lambda a, b: float(ssim(maps[a][:, None], maps[b][:, None], data_range=1.0))  # noqa: E731
    return {a: {b: value(a, b) for b in names} for a in names}


def class_shares(grad: Tensor, period: int = 2) -> Tensor:
    """(period,period): the share of sum |g| on each class of pixel coordinates modulo ``period``, mean over images
    (N,C,H,W). Even shares: 1/period^2; a bait concentrates them (check G6).
    """
    size = grad.abs().sum(1)
    total = size.flatten(1).sum(1).clamp_min(1e-30)
    each = [
        [(size[:, r::period, c::period].flatten(1).sum(1) / total).mean() for c in range(period)] for r in range(period)
    ]
    return torch.tensor(each)


def gradient_heatmap(network: nn.Module, x: Tensor, y: Tensor, layer: str = "") -> Tensor:
    """(H,W): sum over images and channels of |d CE / d a|, a the image or the output of module ``layer`` (ACE, app. B)."""
    seen: list[Any] = []
    modules = dict(network.named_modules())
    if layer and layer not in modules:
        raise SparringError(f"layer {layer!r} is not a module of the network")
    hook = modules[layer].register_forward_hook(lambda module, inputs, output: seen.append(output)) if layer else None
    try:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            loss = nn.functional.cross_entropy(network(leaf), y, reduction="sum")
            (grad,) = torch.autograd.grad(loss, seen[0] if layer else leaf)
    finally:
        if hook:
            hook.remove()
    if grad.dim() != 4:
        raise SparringError(f"layer {layer!r} gives {tuple(grad.shape)}, not a map of pixels")
    return grad.abs().sum((0, 1))


def white_pixel_map(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """(H,W): share of images (N,C,H,W) whose label is wrong once that pixel is white, of those right before (ACE, Fig. 2)."""
    with torch.no_grad():
        right = network(x).argmax(1) == y
        x, y = x[right], y[right]
        found = torch.zeros(x.shape[-2:])
        for row in range(x.shape[-2]):
            for column in range(x.shape[-1]):
                changed = x.clone()
                changed[..., row, column] = 1
                found[row, column] = (network(changed).argmax(1) != y).double().mean()
    return found


def label_map(network: nn.Module, x: Tensor, grad: Tensor, mask: Tensor, reach: float, points: int = 41) -> Tensor:
    """(points,points) labels of x + i e_off + j e_on for i (rows), j (columns) in [-reach, reach] (ACE, Fig. 4 and 8).

    x (1,C,H,W); e_on and e_off: ``grad`` on and off the pixels in ``mask`` (H,W), each at l2 length 1. Not clipped, as there.
    """
    on, off = grad * mask, grad * ~mask
    on, off = on / on.norm().clamp_min(1e-30), off / off.norm().clamp_min(1e-30)
    steps = torch.linspace(-reach, reach, points)
    with torch.no_grad():
        rows = [network(x + i * off + steps[:, None, None, None] * on).argmax(1) for i in steps]
    return torch.stack(rows)
