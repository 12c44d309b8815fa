"""Where gradients and perturbations are, pixel by pixel (ACE, Fig. 3, 6, 7, 10, 11)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from sparring.analysis.base import Analysis, analysis, attacked
from sparring.analysis.gradients import class_shares, shares_text
from sparring.analysis.panel import Map, Panel
from sparring.core.errors import SparringError
from sparring.core.spec import option
from sparring.subject import Subject


@analysis("heatmap")
@dataclass(frozen=True, kw_only=True)
class Heatmap(Analysis):
    """Where the gradients are (ACE paper, Fig. 3, 6, 7), or where an attack's perturbation goes (Fig. 10, 11), pixel by pixel."""

    limit: ClassVar[int | None] = 100
    example: ClassVar[str] = "heatmap ace_resnet:weights=W,lam=10 --data test.npz --attack pgd:eps=8/255 --png heat.png"

    attack: str = option("", help="draw mean |x_adv - x| of this attack instead of gradients")
    layer: str = option("", help="gradients at the output of this module instead of the image")

    def panel(self, subject: Subject) -> Panel:
        x, y = subject.images.x, subject.images.y
        if self.attack:
            heat, what = (
                (attacked(subject, self.attack, self.seed) - x).abs().mean((0, 1)),
                f"mean |x_adv - x| of {self.attack}",
            )
        else:
            heat = gradient_heatmap(subject.model, x, y, self.layer)
            what = f"sum of |gradient| at {self.layer or 'the image'}"
        shares = class_shares(heat[None, None]).flatten()
        title = f"{what}, n={len(x)}"
        data = {"class_shares": shares.tolist(), "n": len(x)}
        return Panel(title, data, maps=[Map(title, heat)], text=[f"{what}: {shares_text(shares)}"])


def gradient_heatmap(network: nn.Module, x: Tensor, y: Tensor, layer: str = "") -> Tensor:
    """(H,W): sum over images and channels of |d CE / d a|, a the image or the output of module ``layer`` (ACE, app. B)."""
    seen: list[Tensor] = []
    modules = dict(network.named_modules())
    if layer and layer not in modules:
        raise SparringError(f"layer {layer!r} is not a module of the network")

    def note(module: nn.Module, inputs: object, output: Tensor) -> None:
        seen.append(output)

    hook = modules[layer].register_forward_hook(note) if layer else None
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
