"""Input gradients: what several analyses measure of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Function = Callable[[Tensor], Tensor]


def gradient_maps(loss: Function, x: Tensor, batch: int = 64) -> Tensor:
    """(N,H,W) magnitudes of d loss / d x, largest over channels, each image's scaled to a maximum of 1.

    ``loss``: images (b,C,H,W) -> (b,).
    """
    magnitudes = []
    for part in x.split(batch):
        with torch.enable_grad():
            leaf = part.detach().requires_grad_(True)
            (grad,) = torch.autograd.grad(loss(leaf).sum(), leaf)
        magnitudes.append(grad.abs().amax(1))
    maps = torch.cat(magnitudes)
    return maps / maps.flatten(1).amax(1).clamp_min(1e-30)[:, None, None]


def class_loss(network: Function, y: Tensor) -> Function:
    """Cross-entropy (b,) of a classifier for labels y (N,), to be called on the images in order."""
    position = 0

    def loss(x: Tensor) -> Tensor:
        nonlocal position
        rows = y[position : position + len(x)]
        position += len(x)
        return nn.functional.cross_entropy(network(x), rows, reduction="none")

    return loss


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


def shares_text(shares: Tensor) -> str:
    """The four shares of period 2 as a line, class by class."""
    values = ", ".join(f"{100 * float(s):.1f} %" for s in shares.flatten())
    return f"shares of (even row, even column), (even, odd), (odd, even), (odd, odd): {values}"
