"""Small layers put behind (or before) chosen layers of any network: masks, dropout, noise."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sparring.core.errors import SparringError
from sparring.core.registry import MODELS, suggest
from sparring.core.spec import PYTHON, Spec, parse, signature
from sparring.models.classifier import Classifier
from sparring.models.load import load_model
from sparring.models.weights import RANDOM

Make = Callable[[int, tuple[int, ...]], nn.Module]


def base_model(model: str, classes: int) -> Classifier:
    """The untrained network inside another spec: ``resnet18``, ``timm:NAME``, ``resnet10:width=32;bottom=2`` (fields by ;)."""
    spec = parse(model.replace(";", ","))
    if spec.name == PYTHON:  # it knows its own classes
        return load_model(str(spec))
    takes = signature(MODELS[spec.name])
    values = dict(spec.values)
    if "classes" in takes:
        values["classes"] = str(classes)
    if "weights" in takes:
        values.setdefault("weights", RANDOM)  # the outer spec's weights fill all of it
    return load_model(str(Spec(spec.name, values)))


def output_shapes(network: nn.Module, channels: int, size: int) -> dict[str, tuple[int, ...]]:
    """Shape (C,H,W) of what each inner module gives for one image, from a dry run; only modules that give feature maps."""
    shapes: dict[str, tuple[int, ...]] = {}
    hooks = []
    for name, module in network.named_modules():

        def record(_m: nn.Module, _i: object, out: object, name: str = name) -> None:
            if isinstance(out, Tensor) and out.dim() == 4:
                shapes[name] = tuple(out.shape[1:])

        hooks.append(module.register_forward_hook(record))
    try:
        with torch.no_grad():
            network(torch.zeros(1, channels, size, size))
    finally:
        for hook in hooks:
            hook.remove()
    return shapes


def select(network: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Names of the modules that match, in the network's order. ``*`` stands for anything within one part of a dotted name.

    Raises SparringError for a pattern that matches nothing.
    """
    names = [n for n, _ in network.named_modules() if n]
    chosen: set[str] = set()
    for pattern in patterns:
        parts = pattern.split(".")
        hits = [
            n
            for n in names
            if len(own := n.split(".")) == len(parts)
            and all(fnmatch.fnmatchcase(o, p) for o, p in zip(own, parts, strict=True))
        ]
        if not hits:
            raise SparringError(f"no module matches {pattern!r}{suggest(pattern, names[:40])}")
        chosen.update(hits)
    return [n for n in names if n in chosen]


def by_resolution(shapes: dict[str, tuple[int, ...]], network: nn.Module, position: str) -> list[str]:
    """Where masks go in a network without places of its own: its BatchNorms (else its convolutions) in the half of its
    resolutions that is finer (bottom) or coarser (top).
    """
    for kind in (nn.BatchNorm2d, nn.Conv2d):
        layers = [n for n, m in network.named_modules() if isinstance(m, kind) and n in shapes]
        if layers:
            break
    else:
        raise SparringError("the network has no BatchNorm or convolution with a feature map; name modules with at=")
    sides = sorted({shapes[n][-1] for n in layers}, reverse=True)
    bottom = set(sides[: max(1, len(sides) // 2)])
    return [n for n in layers if (shapes[n][-1] in bottom) == (position == "bottom")]


def attach(
    network: nn.Module,
    names: Sequence[str],
    make: Make,
    shapes: dict[str, tuple[int, ...]],
    *,
    before: bool = False,
) -> None:
    """Replace each named module m by Sequential(m, make(number, shape)); ``before``: the other way around. ``number`` counts
    in the order of ``names``. Changes ``network``.
    """
    for number, name in sorted(enumerate(names), key=lambda n: -n[1].count(".")):  # inner modules first
        if name not in shapes:
            raise SparringError(f"module {name} gives no feature map (B,C,H,W) for an image, nothing can be attached")
        parent, _, own = name.rpartition(".")
        holder, layer = network.get_submodule(parent), network.get_submodule(name)
        extra = make(number, shapes[name])
        setattr(holder, own, nn.Sequential(extra, layer) if before else nn.Sequential(layer, extra))
