"""P7 gradients inside the forward."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from sparring.checks.base import Answer, Context, check
from sparring.checks.controls import context, linear_net


class _Purified(nn.Module):
    """Takes three steps that make a linear classifier surer, then asks it."""

    def __init__(self) -> None:
        super().__init__()
        self.network = linear_net()

    def forward(self, x: Tensor) -> Tensor:
        point = x.detach()
        for _ in range(3):
            with torch.enable_grad():
                leaf = point.clone().requires_grad_(True)
                loss = -self.network(leaf).logsumexp(1).sum()
                point = leaf - 0.001 * torch.autograd.grad(loss, leaf)[0].sign()
        return self.network(point.detach() + x - x.detach())


@check(
    "P7",
    "gradients inside the forward",
    "A",
    "WARN",
    fires=lambda: context(_Purified()),
    silent=context,
)
def inner_gradients(c: Context) -> list[Answer]:
    """Raised if: a forward pass without gradients runs a backward pass of its own: it optimizes, or purifies, before it answers.

    Why: gradients through an inner optimization are often cut off, unstable or too long for memory, and a standard suite is then weak on it
    (Croce et al., arXiv:2202.13711).

    What to do: read S1 and PL on whether the attack's gradients lead anywhere; attack the network without its inner loop and with the loop unrolled, too.
    """
    answers: list[Answer] = []
    for defended in c.systems:
        backwards = _backwards(partial(defended.system().logits, c.x[:4], c.noise().at(torch.arange(len(c.x[:4]))), 1))
        text = "runs no backward pass of its own"
        if backwards:
            text = "runs a backward pass inside its forward: an inner optimization is not what standard attacks differentiate"
        answers.append(Answer(not backwards, float(backwards), 0, text, defended.name, defense=defended.name))
    return answers


def _backwards(forward: Callable[[], object]) -> bool:
    """Is a graph read again that was recorded inside a forward pass? Outside none is recorded. torch.func refuses to be watched: that says it, too."""
    read: list[Tensor] = []

    def unpack(saved: Tensor) -> Tensor:
        read.append(saved)
        return saved

    with torch.no_grad():
        try:
            with saved_tensors_hooks(lambda saved: saved, unpack):
                forward()
        except RuntimeError:
            forward()  # what is broken unwatched, too, raises here
            return True
    return bool(read)
