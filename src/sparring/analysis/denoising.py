"""What a denoiser does: how a perturbation grows through the layers (HGD, Fig. 5) and how much of it is predicted (Fig. 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparring.core.errors import SparringError
from sparring.core.registry import suggest


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

    def note(name: str) -> Any:
        return lambda module, inputs, output: seen.__setitem__(name, output.detach())

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


@dataclass(frozen=True)
class Prediction:
    """``slope`` of the least-squares line through the origin of predicted on true perturbation values; ``histogram``
    (bins,bins) counts, rows true over [-reach, reach], columns predicted over [-predicted_reach, predicted_reach] (what lies
    outside is in the outermost column); ``n`` values."""

    slope: float
    histogram: Tensor
    reach: float
    predicted_reach: float
    n: int


def predicted_perturbation(clean: Tensor, noisy: Tensor, denoised: Tensor, bins: int = 64) -> Prediction:
    """Compares the true perturbation noisy - clean with the predicted one noisy - denoised, value by value, all (N,C,H,W).

    A slope below 1: the denoiser removes too little (HGD's PGD); above 1: it over-corrects (LGD).
    """
    true, guess = (noisy - clean).flatten().double(), (noisy - denoised).flatten().double()
    if not bool((true != 0).any()):
        raise SparringError("noisy and clean images are the same: there is no perturbation to predict")
    reach = float(true.abs().max())
    wide = max(reach, float(guess.abs().sort().values[int(0.99 * (len(guess) - 1))]))
    row = ((true / reach + 1) / 2 * bins).long().clamp(0, bins - 1)
    column = ((guess / wide + 1) / 2 * bins).long().clamp(0, bins - 1)
    histogram = torch.bincount(row * bins + column, minlength=bins * bins).reshape(bins, bins)
    return Prediction(float((true * guess).sum() / true.square().sum()), histogram, reach, wide, len(true))
