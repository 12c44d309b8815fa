"""Would a network see its images better otherwise: normalized, with a normalization undone, in 0..255, with colors in another order?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from sparring.checks.relabel import ERROR, Better, beats

IMAGES = 64  # looked at: what is wrong so shows on few
ENOUGH = 0.95  # accuracy above which nothing is wrong
# what networks are commonly normalized by
STATISTICS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "ImageNet's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CIFAR-10's": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "MNIST's": ((0.1307,), (0.3081,)),
    "0.5's": ((0.5,), (0.5,)),
}


def better_input(network: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Better | None:
    """The change of the images x (n,C,H,W) in [0,1] with labels y (n,) under which a network's answers are right far more often, if there is
    one: less than half of the error is left, beyond an exact test of the images that only one of the two gets right (Bonferroni over the changes).
    """
    x, y = x[:IMAGES], y[:IMAGES].cpu()
    labels = y.numpy()
    before = _right(network, x, y)
    if before is None or before.mean() >= ENOUGH:
        return None
    tried = {
        name: right for name, change in _changes(x).items() if (right := _right(network, change(x), y)) is not None
    }
    for name, right in sorted(tried.items(), key=lambda pair: -pair[1].mean()):
        fewer = 2 * (~right).sum() < (~before).sum()
        if fewer and beats(before, right, labels, ERROR / len(tried)):
            accuracy = float(right.mean())
            shares = f"{100 * accuracy:.1f} % in place of {100 * before.mean():.1f} % of the first {len(labels)} images"
            return Better(f"{name} would give {shares}", accuracy)
    return None


def _changes(x: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    changes: dict[str, Callable[[Tensor], Tensor]] = {"pixels in 0..255 (mean=0, std=1/255)": lambda u: 255 * u}
    if x.shape[1] == 3:
        changes["colors in the order blue, green, red"] = lambda u: u.flip(1)
    for name, statistics in STATISTICS.items():
        if len(statistics[0]) in (1, x.shape[1]):
            mean, std = (x.new_tensor(part)[:, None, None] for part in statistics)
            changes[f"images normalized by {name} mean and std"] = partial(_normalized, mean=mean, std=std)
            changes[f"images whose normalization by {name} mean and std is undone (is it applied twice?)"] = partial(
                _undone, mean=mean, std=std
            )
    return changes


def _normalized(u: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return (u - mean) / std


def _undone(u: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return u * std + mean


def _right(network: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> np.ndarray | None:
    """(n,) bool: which answers are right; None of a network that refuses such images."""
    try:
        with torch.no_grad():
            return torch.cat([network(part).argmax(1).cpu() for part in x.split(8)]).eq(y).numpy()
    except Exception:
        return None
