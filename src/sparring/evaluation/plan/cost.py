"""What a network call costs on this machine, measured: the unit of a dry run's estimate."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from sparring.core.access import Access, offered
from sparring.core.network import try_gradient

TIMED = 8  # images that a call is timed on


def time_per_call(network: nn.Module, x: Tensor) -> tuple[float, float]:
    """Seconds per image of one forward and of one forward plus input gradient, measured on a few images (n,C,H,W); of a network without
    gradients the first twice.
    """
    timings = []
    kinds = (False, True) if offered(network) is Access.GRADIENT else (False,)
    for gradient in kinds:
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            if gradient:
                leaf = x.clone().requires_grad_(True)
                try_gradient(network(leaf).sum(), leaf)
            else:
                with torch.no_grad():
                    network(x)
            best = min(best, time.perf_counter() - start)
        timings.append(best / len(x))
    return timings[0], timings[-1]
