"""Make a private, frozen, faster copy of a classifier for attacking: eval, BatchNorm folded, channels_last.

Folding and layout change nothing but round-off; the largest logit difference is measured and reported.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sparring.models.classifier import private_copy

FOLD_TOLERANCE = 1e-3  # relative to the largest logit; beyond it the fold is thrown away


@dataclass(frozen=True)
class Prepared:
    """The copy to attack, and what was done to it: BatchNorms folded, largest logit change, a note for the report."""

    model: nn.Module
    folded: int
    difference: float
    note: str


def prepare(model: nn.Module, example: Tensor, *, fold: bool = True, channels_last: bool = True) -> Prepared:
    """A frozen copy of ``model`` (already in eval mode); ``example`` (B,C,H,W) in [0,1] verifies that logits stay.

    A model that torch.fx cannot trace, or whose logits move by more than FOLD_TOLERANCE, is left alone, and the
    note says so.
    """
    copy = private_copy(model).eval().requires_grad_(False)
    with torch.no_grad():
        before = copy(example)
    result, folded, note = copy, 0, "BatchNorm folding off"
    if fold:
        result, folded, note = _fold(copy)
    if channels_last and example.shape[1] > 1:
        result = _ChannelsLast(result)
    with torch.no_grad():
        difference = float((result(example) - before).abs().max())
    scale = float(before.abs().max()) or 1.0
    if not difference <= FOLD_TOLERANCE * scale:
        return Prepared(copy, 0, 0.0, f"left alone: preparation moved logits by {difference:.2g}")
    return Prepared(result, folded, difference, f"{note}; logits moved by at most {difference:.1g}")


class _ChannelsLast(nn.Module):
    """The same network on channels_last tensors, which CPU and GPU convolutions prefer."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.contiguous(memory_format=torch.channels_last))


class _Tracer(fx.Tracer):
    """Convolutions are leaves, also a user's subclass (padding inside forward): folding replaces their weights
    only.
    """

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d) or super().is_leaf_module(m, module_qualified_name)


def _fold(model: nn.Module) -> tuple[nn.Module, int, str]:
    """Convolutions directly followed by BatchNorm become one convolution (torch.fx on the traced copy)."""
    try:
        graph = fx.GraphModule(model, _Tracer().trace(model))
    except Exception as error:
        reason = (str(error).splitlines() or ["unknown reason"])[0][:80]
        return model, 0, f"BatchNorm not folded: not traceable ({reason})"
    modules = dict(graph.named_modules())
    calls = Counter(node.target for node in graph.graph.nodes if node.op == "call_module")
    folded = 0
    for node in list(graph.graph.nodes):
        source = node.args[0] if node.args else None
        if node.op != "call_module" or not isinstance(source, fx.Node) or source.op != "call_module":
            continue
        norm, conv = modules[str(node.target)], modules[str(source.target)]
        if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or not isinstance(conv, nn.Conv2d):
            continue
        if len(source.users) > 1 or calls[source.target] > 1 or calls[node.target] > 1:
            continue
        parent, _, name = str(source.target).rpartition(".")
        setattr(graph.get_submodule(parent), name, fuse_conv_bn_eval(conv, norm))
        node.replace_all_uses_with(source)
        graph.graph.erase_node(node)
        folded += 1
    graph.graph.lint()
    graph.delete_all_unused_submodules()
    graph.recompile()
    graph.requires_grad_(False)  # fused layers are new parameters
    return graph, folded, f"{folded} BatchNorms folded"
