"""Which single pixel changes labels (ACE, Fig. 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from sparring.analysis.base import Analysis, analysis
from sparring.analysis.gradients import class_loss, class_shares, gradient_maps, shares_text
from sparring.analysis.panel import Map, Panel
from sparring.core.errors import SparringError
from sparring.subject import Subject


@analysis("pixels")
@dataclass(frozen=True, kw_only=True)
class Pixels(Analysis):
    """Which single pixel, made white, changes labels (ACE paper, Fig. 2), and how gradients spread over pixel classes."""

    limit: ClassVar[int | None] = 50
    example: ClassVar[str] = "pixels MODEL --data test.npz --limit 50 --png pixels.png"

    def panel(self, subject: Subject) -> Panel:
        x, y, network = subject.images.x, subject.images.y, subject.prepared.model
        flips = white_pixel_map(network, x, y)
        if bool(flips.isnan().any()):
            raise SparringError(
                f"pixels: the model is wrong on all {len(x)} images as they are; give images it gets right"
            )
        shares = class_shares(gradient_maps(class_loss(network, y), x)[:, None]).flatten()
        mean, most = float(flips.mean()), float(flips.max())
        title = f"P(label changes | pixel white), n={len(x)}"
        text = f"a white pixel changes {100 * mean:.2f} % of right labels, at worst {100 * most:.1f} % (n={len(x)})"
        data = {"mean": mean, "max": most, "class_shares": shares.tolist(), "n": len(x)}
        return Panel(title, data, maps=[Map(title, flips)], text=[text, f"share of gradient: {shares_text(shares)}"])


def white_pixel_map(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """(H,W): share of images (N,C,H,W) whose label is wrong once that pixel is white, of those right before (ACE, Fig. 2)."""
    with torch.no_grad():
        right = network(x).argmax(1) == y
        x, y = x[right], y[right]
        flips = torch.zeros(x.shape[-2:])
        for row in range(x.shape[-2]):
            for column in range(x.shape[-1]):
                changed = x.clone()
                changed[..., row, column] = 1
                flips[row, column] = (network(changed).argmax(1) != y).double().mean()
    return flips
