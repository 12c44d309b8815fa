"""P2 mode and purity."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from sparring.checks.base import Answer, Context, check
from sparring.checks.controls import CLASSES, context
from sparring.core.network import try_gradient
from sparring.core.proof import depends


def _batchnorm(training: bool) -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, CLASSES)).eval()
    return net.train() if training else net


def fingerprint(model: nn.Module) -> dict[str, str]:
    """What a forward pass must not change: values, flags and gradients of every parameter and buffer, every mode."""
    state = {f"mode of {n or 'model'}": str(m.training) for n, m in model.named_modules()}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        value = hashlib.sha256(
            tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        ).hexdigest()
        state[name] = f"{value}{tensor.requires_grad}{tensor.grad is None}"
    return state


@check(
    "P2",
    "mode and purity",
    "J",
    "FATAL",
    fires=lambda: context(_batchnorm(True)),
    silent=lambda: context(_batchnorm(False)),
)
def purity(c: Context) -> list[Answer]:
    """Raised if: a module is in train mode, or a forward pass or an input gradient changes parameters, buffers,
    modes or .grad. A failure of the attacks only: a forward that changes other things, asks a clock or whether gradients are on, or answers
    otherwise where they are.

    Why: with BatchNorm or dropout in train mode a prediction depends on the batch and on chance, and the model
    drifts while attacked.

    What to do: call model.eval() before evaluating; make dropout that is part of a defense a declared random stage.
    """
    training = [n or "the model" for n, m in c.model.named_modules() if m.training]
    if training:
        return [Answer(False, len(training), 0, f"module {training[-1]} is in train mode; call model.eval()")]
    before = fingerprint(c.network)
    with torch.enable_grad():
        leaf = c.x[:4].clone().requires_grad_(True)
        logits = c.network(leaf)
        if logits.requires_grad:  # whether it must is P10's question
            try_gradient(logits.sum(), leaf)
    changed = [k for k, v in fingerprint(c.network).items() if before.get(k) != v]
    if not changed and (reason := depends(c.model, c.x[:4])):
        return [
            Answer(
                False,
                1,
                0,
                f"{reason}: who attacks it may see another network than who judges it",
                severity="FAIL",
                scope="A",
            )
        ]
    message = f"{changed[0]} changed during inference" if changed else "nothing changes during inference"
    return [Answer(not changed, len(changed), 0, message)]
