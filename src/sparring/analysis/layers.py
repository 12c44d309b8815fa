"""How a perturbation grows through the layers of a network (HGD, arXiv:1712.02976, Fig. 5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from sparring.analysis.base import Analysis, analysis, attacked
from sparring.analysis.panel import Grid, Panel
from sparring.attacks.attack import attack
from sparring.core.errors import SparringError
from sparring.core.noise import Noise
from sparring.core.registry import suggest
from sparring.core.spec import option
from sparring.subject import Subject


@analysis("layers")
@dataclass(frozen=True, kw_only=True)
class Layers(Analysis):
    """How a perturbation grows through the layers, before and after a defense, beside noise of the same eps (HGD, arXiv:1712.02976,
    Fig. 5).
    """

    pictures: ClassVar[bool] = False
    limit: ClassVar[int | None] = 30
    example: ClassVar[str] = "layers MODEL --data test.npz --attack bim:eps=8/255 --defense hgd:weights=lgd.safetensors"

    attack: str = option("bim:eps=8/255", help="attack whose perturbation is looked at, made on the undefended model")
    defense: str = option("none", help="defense whose stages the perturbed images go through as well")

    @property
    def defenses(self) -> Sequence[str]:
        return (self.defense,)

    def panel(self, subject: Subject) -> Panel:
        clean, adversarial = subject.images.x, attacked(subject, self.attack, self.seed)
        noise = Noise.of(self.seed, "layers", subject.keys)
        sign = attack(self.attack).budget * noise.sign("sign", clean.shape[1:])
        shown = {"adversarial": adversarial, "random noise": (clean + sign).clamp(0, 1)}
        if self.defense != "none":
            out = adversarial
            for stage in subject.systems[self.defense].stages:
                out = stage(out, noise)
            shown[f"adversarial behind {self.defense}"] = out
        model = subject.model
        seen = lambda x: (x - model.mean) / model.std  # noqa: E731 (as the network inside the classifier sees images)
        levels = {name: perturbation_levels(model.network, seen(clean), seen(x)) for name, x in shown.items()}
        title = f"E_l of {self.attack} on {model.name}, mean of n={len(clean)}"
        rows = [[layer, *(growth[layer] for growth in levels.values())] for layer in levels["adversarial"]]
        return Panel(title, levels, [Grid(title, ["layer", *levels], rows)])


def perturbation_levels(
    network: nn.Module, clean: Tensor, other: Tensor, layers: Sequence[str] = ()
) -> dict[str, float]:
    """E_l = mean over images of |f_l(other) - f_l(clean)|_1 / |f_l(clean)|_1 for each named layer, in the order they run;
    "input" first. clean, other (N,C,H,W) in [0,1]. ``layers``: module names; default: the children of the outermost
    network that has at least two.

    Differs from the paper: its formula is lost in our copy; l1 is our reading. Raises SparringError for an unknown layer.
    """
    modules = dict(network.named_modules())
    names = list(layers) or _blocks(network)
    for name in names:
        if name not in modules:
            raise SparringError(f"layer {name!r} is not a module of the network{suggest(name, names)}")
    seen: dict[str, Tensor] = {}

    def note(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            seen[name] = output.detach()

        return hook

    hooks = [modules[n].register_forward_hook(note(n)) for n in names]
    try:
        with torch.no_grad():
            network(clean)
            first = {"input": clean, **seen}
            seen.clear()
            network(other)
            second = {"input": other, **seen}
    finally:
        for hook in hooks:
            hook.remove()
    size = lambda t: t.flatten(1).abs().sum(1)  # noqa: E731
    return {n: float((size(second[n] - first[n]) / size(first[n]).clamp_min(1e-12)).mean()) for n in first}


def _blocks(network: nn.Module) -> list[str]:
    for name, module in network.named_modules():
        children = [n for n, c in module.named_children() if any(True for _ in c.parameters())]
        if len(children) >= 2:
            return [f"{name}.{c}" if name else c for c in children]
    return [n for n, m in network.named_modules() if n and next(m.parameters(recurse=False), None) is not None]
