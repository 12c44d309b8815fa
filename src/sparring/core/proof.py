"""What a prepared copy has to prove before it stands in for a user's network: nothing that tracing loses is in the network, and
logits *and* input gradients are the network's own.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from sparring.core.errors import SparringError
from sparring.core.losses import cross_entropy, margin
from sparring.core.noise import Noise, image_keys

NEARBY = 8 / 255  # of a second point at which gradients are compared; a third is plain noise


def obstacle(model: nn.Module, example: Tensor) -> str:
    """Why ``model`` must not be traced, in words, or "": hooks, and autograd functions of somebody's own, whose backward a trace forgets.

    What is done without gradient (``no_grad``, ``detach``) is seen while tracing.
    """
    for name, module in model.named_modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
        if any(hooks):
            return f"{name or 'the model'} has hooks"
    if reason := depends(model, example):
        return reason
    custom = sorted({type(node).__name__.removesuffix("Backward") for node in _graph(model, example) if _custom(node)})
    return f"custom autograd function {custom[0]}" if custom else ""


ASKED = {"torch.is_grad_enabled": torch, "torch.is_inference_mode_enabled": torch}
CLOCKS = ("time", "time_ns", "monotonic", "perf_counter", "process_time")


def depends(model: nn.Module, example: Tensor) -> str:
    """On what a forward looks beside the image, which a trace would take for fixed: whether gradients are on, clocks, global generators, what
    an earlier call left behind. In words, or "".
    """
    asked: set[str] = set()
    here = threading.get_ident()  # a progress bar reads clocks, too

    def noting(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if (
                threading.get_ident() == here and caller.split(".")[0] != "torch"
            ):  # torch's own layers ask, and answer the same either way
                asked.add(name)
            return function(*args, **options)

        return call

    before = _state(model)
    with ExitStack() as stack:
        for name in CLOCKS:
            stack.enter_context(patch.object(time, name, noting(f"time.{name}", vars(time)[name])))
        for path, module in ASKED.items():
            name = path.rpartition(".")[2]
            stack.enter_context(patch.object(module, name, noting(path, vars(module)[name])))
        with torch.no_grad():
            first = model(example)
    if asked:
        return f"its forward asks {sorted(asked)[0]}"
    if changed := [name for name, value in _state(model).items() if before.get(name) != value]:
        return f"its forward changes {changed[0]}"
    with torch.enable_grad():
        second = model(example)
    if not torch.equal(first, second.detach()) and float((first - second).abs().max()) > 1e-5 * float(
        first.abs().max()
    ):
        return "its forward gives another answer where gradients are on, or the second time"
    return ""


def _state(model: nn.Module) -> dict[str, object]:
    """The global generators, and what modules hold beside tensors and modules."""
    state: dict[str, object] = {
        "Python's random generator": random.getstate(),
        "numpy's random generator": _words(np.random.get_state(legacy=False)),
        "torch's random generator": torch.get_rng_state().numpy().tobytes(),
    }
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, bool | int | float | str | list | tuple | dict | set) and not key.startswith("_"):
                state[f"{name or 'the model'}.{key}"] = repr(value)[:10_000]
    return state


def _words(state: object) -> object:
    """A generator's state, its arrays as bytes."""
    if isinstance(state, dict):
        return {key: _words(value) for key, value in state.items()}
    return state.tobytes() if isinstance(state, np.ndarray) else state


def _custom(node: object) -> bool:
    return isinstance(node, torch.autograd.function.BackwardCFunction)


def _graph(model: nn.Module, example: Tensor) -> Iterator[object]:
    """The autograd nodes between logits and image."""
    with torch.enable_grad():
        logits = model(example.clone().requires_grad_(True))
    nodes, seen = [logits.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        nodes += [n for n, _ in node.next_functions]


class Difference(NamedTuple):
    """Between two networks: ``logits``, the largest change; ``share`` of it in the largest logit; ``gradient``, the largest change of an
    input gradient in shares of its own l2 length, over points and losses (nan where one is finite and the other is not)."""

    logits: float
    share: float
    gradient: float


def difference(network: nn.Module, copy: nn.Module, example: Tensor) -> Difference:
    """Compare ``copy`` with ``network`` at the ``example`` images (B,C,H,W), near them and at noise; by cross-entropy, margin and a
    random combination of logits.
    """
    noise = Noise.of(0, "prepare", image_keys([str(i) for i in range(len(example))]).to(example.device))
    near = example + NEARBY * noise.sign("near", example.shape[1:]).to(example.dtype)
    points = torch.cat([example, near.clamp(0, 1)[:2], noise.uniform("far", example.shape[1:]).to(example.dtype)[:2]])
    ours, theirs = _measured(network, points), _measured(copy, points)
    moved, scale = (ours.logits - theirs.logits).abs().max(), ours.logits.abs().max()
    length = ours.gradients.flatten(2).norm(dim=2)
    apart = (ours.gradients - theirs.gradients).flatten(2).norm(dim=2)
    changed = torch.where(apart == 0, 0.0, apart / length)
    return Difference(float(moved), float(moved / scale) if scale else float(moved), float(changed.max()))


class _Measured(NamedTuple):
    logits: Tensor  # (B,K)
    gradients: Tensor  # (losses,B,C,H,W)


def _measured(network: nn.Module, points: Tensor) -> _Measured:
    with torch.enable_grad():
        leaf = points.clone().requires_grad_(True)
        logits = network(leaf)
        if not logits.requires_grad:  # nothing differentiable at all: there is no gradient to lose
            return _Measured(logits, points.new_zeros(1, *points.shape))
        label = logits.argmax(1)
        mixed = torch.randn(logits.shape[1], generator=torch.Generator().manual_seed(0)).to(logits)
        losses = cross_entropy(logits, label), margin(logits, label), logits @ mixed
        gradients = [torch.autograd.grad(loss.sum(), leaf, retain_graph=True, allow_unused=True)[0] for loss in losses]
    none = torch.zeros_like(points)
    return _Measured(logits.detach(), torch.stack([none if g is None else g for g in gradients]))


class Refused(SparringError):
    """A network that must not be traced, and why."""
