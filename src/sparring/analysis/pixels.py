"""Which single pixel changes labels (ACE, Fig. 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from sparring.analysis.base import Analysis, analysis
from sparring.analysis.gradients import class_loss, class_shares, gradient_maps, shares_text
from sparring.analysis.panel import Map, Panel, per_image
from sparring.core.errors import SparringError
from sparring.core.ranges import Part
from sparring.core.spec import option
from sparring.models.overlap import gradient_overlap, top_pixels
from sparring.subject import Subject


@analysis("pixels")
@dataclass(frozen=True, kw_only=True)
class Pixels(Analysis):
    """Which single pixel, made white, changes labels (ACE paper, Fig. 2), and how gradients spread over pixel classes. With ``share`` also whether these are
    the pixels that most parameters are tied to.
    """

    limit: ClassVar[int | None] = 50
    example: ClassVar[str] = "pixels MODEL --data test.npz --limit 50 --png pixels.png"

    share: Part | None = option(
        None, help="p of G(p), the most tied pixels: of how many of them, and of the others, white changes a label"
    )

    def panel(self, subject: Subject) -> Panel:
        x, y, network = subject.images.x, subject.images.y, subject.prepared.model
        changed, right = white_pixels(network, x, y)
        if not bool(right.any()):
            raise SparringError(
                f"pixels: the model is wrong on all {len(x)} images as they are; give images it gets right"
            )
        shares = class_shares(gradient_maps(class_loss(network, y), x)[:, None]).flatten()
        flips = changed.double().mean(0)
        mean, most = float(flips.mean()), float(flips.max())
        title = f"P(label changes | pixel white), n={len(x)}"
        text = f"a white pixel changes {100 * mean:.2f} % of right labels, at worst {100 * most:.1f} % (n={len(x)})"
        data: dict[str, object] = {"mean": mean, "max": most, "class_shares": shares.tolist(), "n": len(x)}
        maps, lines = [Map(title, flips)], [text, f"share of gradient: {shares_text(shares)}"]
        if self.share is not None:
            if x.shape[-2] != x.shape[-1]:
                raise SparringError(
                    f"pixels: share= asks for the overlap, which is of squares; images of {tuple(x.shape[1:])} are no squares"
                )
            overlap = gradient_overlap(subject.model, x.shape[1], x.shape[-1])
            tied = top_pixels(overlap, self.share)
            ids = [i for i, there in zip(subject.images.ids, right.tolist(), strict=True) if there]
            parts = {"tied": changed[:, tied], "others": changed[:, ~tied]}
            means = {name: part.double().mean(1) for name, part in parts.items()}
            data |= {name: per_image(ids, values.tolist()) for name, values in means.items()}
            maps.append(Map(f"gradient overlap of {subject.model.name}", overlap / overlap.max()))
            said = ", ".join(f"{100 * float(values.mean()):.2f} % of the {name}" for name, values in means.items())
            lines.append(f"a white pixel changes a label at {said} (the {100 * self.share:g} % most tied)")
        return Panel(title, data, maps=maps, text=lines)


def white_pixels(network: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(n,H,W) bool: is the label of an image wrong once that pixel is white, of the n images (N,C,H,W) that are right before (ACE, Fig. 2); and which
    these are, (N,) bool.
    """
    with torch.no_grad():
        right = network(x).argmax(1) == y
        x, y = x[right], y[right]
        changed = torch.zeros(len(x), *x.shape[-2:], dtype=torch.bool)
        for row in range(x.shape[-2] if len(x) else 0):
            for column in range(x.shape[-1]):
                white = x.clone()
                white[..., row, column] = 1
                changed[:, row, column] = network(white).argmax(1) != y
    return changed, right
