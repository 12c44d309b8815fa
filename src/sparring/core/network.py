"""What a network must be for anything here to be true of it: its answer is logits, and its images stay as they are."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from sparring.core.errors import SparringError, one_line

Said = TypeVar("Said")


def asked(network: Callable[[Tensor], Said], x: Tensor, name: str) -> Said:
    """The network's answer on a copy of ``x`` (B,C,H,W), or one line that it cannot take such images."""
    try:
        return network(x.clone())
    except SparringError:
        raise
    except (Exception, SystemExit) as error:
        what = f"images of shape {tuple(x.shape[1:])}"
        if len(x) > 1 and _takes_one(network, x[:1]):
            what = f"more than one image at a time, which it must; torch.export and ONNX need a dynamic batch (docs/guide.md). With {len(x)}"
        raise SparringError(f"{name} cannot take {what}: {one_line(error)}") from None


def _takes_one(network: Callable[[Tensor], object], x: Tensor) -> bool:
    try:
        network(x.clone())
    except (Exception, SystemExit):
        return False
    return True


def tried(network: Callable[[Tensor], object], example: Tensor, name: str) -> object:
    """The same without gradient."""
    with torch.no_grad():
        return asked(network, example, name)


def logits_of(network: Callable[[Tensor], object], example: Tensor, name: str) -> Tensor:
    """The logits (B,K) of ``example`` (B,C,H,W), without gradient. Raises SparringError as ``require_logits`` does."""
    return require_logits(tried(network, example, name), len(example), name)


def require_logits(logits: object, count: int, name: str) -> Tensor:
    """An answer on ``count`` images, if it is logits (B,K). Raises SparringError for an answer of another kind, and for numbers that are not finite:
    no attack finds anything there, which would read as robustness.
    """
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != count or logits.shape[1] < 2:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise SparringError(f"{name} must return logits (B,K) with K >= 2, got {shape} for {count} images")
    if not logits.is_floating_point():
        raise SparringError(
            f"{name} must return floating-point logits, got {logits.dtype}: labels or codes have no gradient"
        )
    if not bool(torch.isfinite(logits).all()):
        raise SparringError(
            f"{name} returns logits that are not finite on the first images: damaged weights, or a wrong input range"
        )
    return logits


def off_probabilities(logits: Tensor) -> float:
    """How far answers (B,K) are from probabilities: the most that an entry is below zero, or that a row's sum is from one."""
    return max(float((-logits).clamp_min(0).max()), float((logits.sum(1) - 1).abs().max()))


def try_gradient(output: Tensor, leaf: Tensor) -> None:
    """Take the gradient of ``output`` (a sum) at ``leaf`` and forget it. Raises SparringError where the network's own code keeps autograd from it."""
    try:
        torch.autograd.grad(output, leaf, allow_unused=True)
    except RuntimeError as error:
        if "memory" in str(error):  # says itself what is missing
            raise
        raise SparringError(f"the network's input gradient cannot be computed: {one_line(error)}") from None


class OnCopies(nn.Module):
    """A network that is handed copies of images, because it may write into them (``x.sub_(mean)``): they are the attacker's. Its first answer must be
    logits of classes that hold the labels ``y``; to try it beforehand would be a query that nobody counts.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], y: Tensor, name: str) -> None:
        super().__init__()
        self.network, self.y, self.name = network, y, name
        self.believed = False
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        logits = asked(self.network, x, self.name)
        if not self.believed:
            classes = require_logits(logits, len(x), self.name).shape[1]
            if bool(((self.y < 0) | (self.y >= classes)).any()):
                bad = int(self.y.min()) if int(self.y.min()) < 0 else int(self.y.max())
                raise SparringError(f"y: label {bad} is outside the model's {classes} classes (0..{classes - 1})")
            self.believed = True
        return logits


def private_copy(module: nn.Module) -> nn.Module:
    """A deep copy to work on: the user's own module is never changed, not even if something fails half-way."""
    try:
        copied = copy.deepcopy(module)
    except Exception as error:
        raise SparringError(f"the model cannot be copied ({error}); pass a module that copy.deepcopy accepts") from None
    for parameter in copied.parameters():
        if not parameter.is_leaf:  # TorchScript copies them in the graph
            parameter.detach_()
    return copied
