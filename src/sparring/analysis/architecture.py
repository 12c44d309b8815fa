"""What a network is made of, layer by layer (the ACE paper, app. A, Table 6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from sparring.analysis.base import Analysis, analysis
from sparring.analysis.panel import Grid, Panel
from sparring.subject import Subject

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
POOLINGS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
FIELDS = ("kind", "in", "out", "kernel", "stride", "padding", "output", "parameters")


@analysis("architecture")
@dataclass(frozen=True, kw_only=True)
class Architecture(Analysis):
    """The layers of a network in the order in which one image passes them: kind, channels or features in and out, kernel, stride, padding, shape of the
    output (C,H,W), parameters (ACE paper, app. A, Table 6). A layer is a module without modules inside, or with parameters of its own.

    Names are those that ``--layer`` takes; the ``at=`` of a model leaves the first ``network.`` out. What runs outside of modules (an addition, a
    reshape, ``functional.relu``) is not seen. A module that is called twice has two rows, and its parameters count once in the total. One that the
    pass does not call is named apart; whoever holds it may still read its weights.
    """

    pictures: ClassVar[bool] = False
    limit: ClassVar[int | None] = 1
    example: ClassVar[str] = "architecture ace_toy:weights=random --data cues:count=1"

    def panel(self, subject: Subject) -> Panel:
        network, image = subject.model, subject.images.x[:1]
        layers = {n: m for n, m in network.named_modules() if n and (_own(m) or next(m.children(), None) is None)}
        rows: dict[str, dict[str, object]] = {}
        calls: Counter[str] = Counter()
        for name, output in _outputs(network, layers, image):
            calls[name] += 1
            label = name if calls[name] == 1 else f"{name} (call {calls[name]})"
            rows[label] = {**_about(layers[name]), "output": output}
        idle = {name: _about(m) for name, m in layers.items() if name not in calls}
        kinds: dict[str, dict[str, int]] = {}
        for name in calls:
            of_kind = kinds.setdefault(type(layers[name]).__name__, {"calls": 0, "parameters": 0})
            of_kind["calls"] += calls[name]
            of_kind["parameters"] += _own(layers[name])
        total = sum(p.numel() for p in network.parameters())
        size = "x".join(map(str, image.shape[1:]))
        title = f"{network.name}: {len(rows)} calls of layers by an image of {size}, {total:,} parameters"
        table = Grid(title, ["layer", *FIELDS], [[n, *(_told(row, f) for f in FIELDS)] for n, row in rows.items()])
        text = ["calls: " + ", ".join(f"{of_kind['calls']} {kind}" for kind, of_kind in kinds.items())]
        text += [f"not called: {n} ({row['kind']}, {row['parameters']:,} parameters)" for n, row in idle.items()]
        data = {"layers": rows, "kinds": kinds, "not called": idle, "parameters": total}
        return Panel(title, data, [table], text=text)


def _own(module: nn.Module) -> int:
    """Parameters that a module holds itself."""
    return sum(p.numel() for p in module.parameters(recurse=False))


def _about(module: nn.Module) -> dict[str, object]:
    """What a module says of itself; a field that its kind does not have is left out."""
    about: dict[str, object] = {"kind": type(module).__name__, "parameters": _own(module)}
    if isinstance(module, CONVOLUTIONS):
        about |= {"in": module.in_channels, "out": module.out_channels}
    if isinstance(module, nn.Linear):
        about |= {"in": module.in_features, "out": module.out_features}
    if isinstance(module, (*CONVOLUTIONS, *POOLINGS)):
        sides = {"kernel": module.kernel_size, "stride": module.stride, "padding": module.padding}
        about |= {name: _side(value) for name, value in sides.items()}
    return about


def _side(value: object) -> object:
    """One number where all sides have it, else a list; a word (padding "same") as it is."""
    if not isinstance(value, tuple):
        return value
    return value[0] if len(set(value)) == 1 else list(value)


def _outputs(network: nn.Module, layers: Mapping[str, nn.Module], image: Tensor) -> list[tuple[str, list[int] | None]]:
    """Each call of a layer, as it returns, with the shape of what came out without the batch's dimension; None where that is no tensor."""
    seen: list[tuple[str, list[int] | None]] = []

    def note(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            seen.append((name, list(output.shape[1:]) if isinstance(output, Tensor) else None))

        return hook

    hooks = [module.register_forward_hook(note(name)) for name, module in layers.items()]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _told(row: Mapping[str, object], field: str) -> object:
    """A field as a table shows it: sides and shapes joined by x, "" where it is not there."""
    value = row.get(field)
    if isinstance(value, list):
        return "x".join(map(str, value))
    return "" if value is None else value
