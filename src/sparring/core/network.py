"""What a network must be for anything here to be true of it: its answer is logits, and its images stay as they are."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sparring.core.errors import SparringError, one_line


def tried(network: Callable[[Tensor], object], example: Tensor, name: str) -> object:
    """The network's answer on a copy of ``example`` (B,C,H,W), or one line that it cannot take such images."""
    try:
        with torch.no_grad():
            return network(example.clone())
    except SparringError:
        raise
    except (Exception, SystemExit) as error:
        shape = tuple(example.shape[1:])
        raise SparringError(f"{name} cannot take images of shape {shape}: {one_line(error)}") from None


def logits_of(network: Callable[[Tensor], object], example: Tensor, name: str) -> Tensor:
    """The logits (B,K) of ``example`` (B,C,H,W). Raises SparringError for an answer of another kind, and for numbers that are not finite: no
    attack finds anything there, which would read as robustness.
    """
    logits = tried(network, example, name)
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(example) or logits.shape[1] < 2:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise SparringError(f"{name} must return logits (B,K) with K >= 2, got {shape} for {len(example)} images")
    if not logits.is_floating_point():
        raise SparringError(
            f"{name} must return floating-point logits, got {logits.dtype}: labels or codes have no gradient"
        )
    if not bool(torch.isfinite(logits).all()):
        raise SparringError(
            f"{name} returns logits that are not finite on the first images: damaged weights, or a wrong input range"
        )
    return logits


class OnCopies(nn.Module):
    """A network that is handed copies of images, because it may write into them (``x.sub_(mean)``): they are the attacker's."""

    def __init__(self, network: Callable[..., Tensor]) -> None:
        super().__init__()
        self.network = network
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.clone())
