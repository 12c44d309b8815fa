"""Make a private, frozen, faster copy of a classifier for attacking: eval, BatchNorm folded, ReLU and sums in place, channels_last.

Folding and layout change nothing but round-off, working in place nothing at all. A copy is used only where that is proved: logits and
input gradients are compared (``proof``), and a network that holds what tracing loses is not traced.
"""

from __future__ import annotations

import copy
import operator
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sparring.core.errors import one_line
from sparring.core.network import private_copy
from sparring.core.proof import Refused, difference, obstacle

LOGIT_TOLERANCE = 1e-3  # of the largest logit; a copy beyond it is thrown away
GRADIENT_TOLERANCE = 1e-2  # of an input gradient's own length: rounding may flip a few ReLUs


@dataclass(frozen=True)
class Prepared:
    """The copy to attack, and what was done to it: BatchNorms folded, largest logit change, a note for the report. ``alone``: why it is
    the user's network as it is, or ""."""

    model: nn.Module
    folded: int
    difference: float
    note: str
    alone: str = ""


def prepare(model: nn.Module, example: Tensor, *, fold: bool = True, channels_last: bool = True) -> Prepared:
    """A frozen copy of ``model`` (already in eval mode); ``example`` (B,C,H,W) in [0,1] verifies that logits and gradients stay.

    A network with hooks, custom autograd functions, ``no_grad`` or ``detach``, one that torch.fx cannot trace, or whose logits or input
    gradients move, is left as it is, and the note says why.
    """
    own = private_copy(model).eval().requires_grad_(False)
    result, folded, note, alone = own, 0, "BatchNorm folding off", ""
    if fold:
        result, folded, note, alone = _fold(own, example)
    traced = isinstance(result, fx.GraphModule)
    if traced:
        if channels_last:
            _order_behind_one_channel(result)
        # two rows: what is added to one alone may be as long as it
        result = _in_place(result, torch.cat([example[:1], example[-1:]]))
    if channels_last and (traced or example.shape[1] > 1):
        result = _ChannelsLast(result)
    # the layout is set on shared parameters: compare with a copy that nothing was done to
    try:
        change = difference(private_copy(model).eval().requires_grad_(False), result, example)
    except RuntimeError as error:  # of a copy that cannot what the network can: it is no copy
        failed = f"preparation does not run ({one_line(error)})"
        return Prepared(private_copy(model).eval().requires_grad_(False), 0, 0.0, f"left alone: {failed}", failed)
    if not (change.share <= LOGIT_TOLERANCE and change.gradient <= GRADIENT_TOLERANCE):
        moved = f"preparation moved logits by {change.logits:.2g}, input gradients by {100 * change.gradient:.2g} %"
        return Prepared(private_copy(model).eval().requires_grad_(False), 0, 0.0, f"left alone: {moved}", moved)
    return Prepared(result, folded, change.logits, f"{note}; logits moved by at most {change.logits:.1g}", alone)


class _ChannelsLast(nn.Module):
    """The same network on channels_last tensors, which CPU and GPU convolutions prefer."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.contiguous(memory_format=torch.channels_last))


def _order_behind_one_channel(graph: fx.GraphModule) -> None:
    """A tensor of one channel has no order, so what a convolution makes of it is put in order."""
    modules = dict(graph.named_modules())
    for node in list(graph.graph.nodes):
        layer = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(layer, nn.Conv2d) and layer.in_channels == 1 < layer.out_channels:
            with graph.graph.inserting_after(node):
                ordered = graph.graph.call_method("contiguous", (node,), {"memory_format": torch.channels_last})
            node.replace_all_uses_with(ordered, lambda user, kept=ordered: user is not kept)
    graph.recompile()


class _Tracer(fx.Tracer):
    """Convolutions are leaves, also a user's subclass (padding inside forward): folding replaces their weights
    only.
    """

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d) or super().is_leaf_module(m, module_qualified_name)

    def create_node(self, *args: Any, **options: Any) -> fx.Node:
        node = super().create_node(*args, **options)
        if not torch.is_grad_enabled():  # a trace would compute this with gradient
            raise Refused(f"no_grad around {node.name}")
        if node.target in _STOPS or (node.target is getattr and node.args[1] == "data"):
            raise Refused(f"{node.name} stops the gradient")
        return node


_STOPS = {"detach", "detach_", "requires_grad_", torch.detach, torch.detach_}


def _fold(model: nn.Module, example: Tensor) -> tuple[nn.Module, int, str, str]:
    """Convolutions directly followed by BatchNorm become one convolution (torch.fx on the traced copy): the network, how many, a note,
    and why it was left alone.
    """
    try:
        with torch.enable_grad():
            if reason := obstacle(model, example):
                raise Refused(reason)
            graph = fx.GraphModule(model, _Tracer().trace(model))
    except Refused as refusal:
        return model, 0, f"BatchNorm not folded: {refusal}", str(refusal)
    except Exception as error:
        reason = (str(error).splitlines() or ["unknown reason"])[0][:80]
        return model, 0, f"BatchNorm not folded: not traceable ({reason})", f"not traceable ({reason})"
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
    return graph, folded, f"{folded} BatchNorms folded", ""


_FRESH_LAYERS = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
_SUMS = {operator.add, torch.add}
_FRESH_CALLS = {*_SUMS, operator.mul, torch.mul}
_PASSING_ON = {"contiguous", "mul_", "add_", operator.iadd, operator.imul}  # the same tensor comes out, or a new one
_RELUS = {F.relu, torch.relu}


def _in_place(graph: fx.GraphModule, example: Tensor) -> fx.GraphModule:
    """ReLU and residual sums written over what they read, where nobody else reads it and its maker does not need it for the
    gradient: a pass over memory less for each. The same bits, or the graph is returned as it was.
    """
    modules = dict(graph.named_modules())

    def asks_type(user: fx.Node) -> bool:
        return user.target is getattr and user.args[1] in ("dtype", "device", "shape")

    def free(node: object) -> bool:
        """Whether ``node`` is a new tensor that only its one reader sees."""
        if not isinstance(node, fx.Node) or sum(not asks_type(u) for u in node.users) > 1:
            return False
        if node.target in _PASSING_ON:
            return free(node.args[0])
        layer = node.op == "call_module" and isinstance(modules[str(node.target)], _FRESH_LAYERS)
        return layer or (node.op == "call_function" and node.target in _FRESH_CALLS)

    rewritten = copy.deepcopy(graph)
    for node in rewritten.graph.nodes:
        relu = (node.op == "call_function" and node.target in _RELUS) or (
            node.op == "call_module" and isinstance(modules[str(node.target)], nn.ReLU)
        )
        if relu and free(node.args[0]):
            node.op, node.target, node.args, node.kwargs = "call_function", F.relu, node.args[:1], {"inplace": True}
        elif node.op == "call_function" and node.target in _SUMS and free(node.args[0]) and not node.kwargs:
            node.target = operator.iadd
    rewritten.recompile()
    try:
        before, after = (_logits_and_gradient(m, example) for m in (graph, rewritten))
    except RuntimeError:
        return graph
    return rewritten if all(torch.equal(a, b) for a, b in zip(before, after, strict=True)) else graph


def _logits_and_gradient(model: nn.Module, example: Tensor) -> tuple[Tensor, Tensor]:
    leaf = example.clone().requires_grad_(True)
    logits = model(leaf)
    (gradient,) = torch.autograd.grad(logits.logsumexp(1).sum() - logits[:, 0].sum(), leaf)
    return logits.detach(), gradient
