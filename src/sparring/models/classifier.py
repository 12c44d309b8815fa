"""``Classifier``: any network with its mean and std inside, so that nothing else knows them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from sparring.core.errors import SparringError
from sparring.core.fitting import Fitting
from sparring.core.ranges import number

Stored: TypeAlias = "Tensor | tuple[Stored, ...] | float | str | None"  # an entry of a module's state
LARGEST = 2.0  # mean or std that pixels in [0,1] may have, with room for who scales to [-1,1]


class Classifier(nn.Module):
    """Images in [0,1] (B,C,H,W) -> logits (B,K). ``mean``/``std`` per channel are subtracted and divided inside.

    ``channels`` and ``size`` say which images it takes (None: any), ``fitting`` how pictures are brought to that size (None: nobody says);
    ``name`` is how it was asked for; ``untrained``: its weights were drawn and nobody asked for that;
    ``told``: what others have measured of it, in words.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        *,
        name: str = "model",
        channels: int | None = None,
        size: int | None = None,
        fitting: Fitting | None = None,
    ) -> None:
        super().__init__()
        mean, std = _per_channel("mean", mean), _per_channel("std", std)
        if len(mean) != len(std) or not mean or any(s <= 0 for s in std):
            raise SparringError(
                f"mean and std must have one value per channel and std must be positive, got {mean} and {std}"
            )
        self.untrained, self.told = False, ""
        self.network, self.name, self.channels, self.size = network, name, channels, size
        self.fitting = fitting
        if len(mean) > 1:
            self.channels = len(mean)
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(1, -1, 1, 1))
        self.training = network.training

    def forward(self, x: Tensor) -> Tensor:
        return self.network((x - self.mean) / self.std)


def statistic(name: str, text: str) -> list[float]:
    """Numbers of a spec, one per channel, joined by +: ``0.485+0.456+0.406``. Raises SparringError."""
    try:
        return [number(part) for part in text.split("+")]
    except ValueError:
        raise SparringError(
            f"{name}={text} is no list of numbers; write one per channel, joined by +: 0.485+0.456+0.406"
        ) from None


def _per_channel(name: str, values: Iterable[float] | float) -> list[float]:
    """Finite numbers of one statistic, in units of pixels in [0,1]."""
    try:
        numbers = [float(v) for v in values] if isinstance(values, Iterable) else [float(values)]
    except (TypeError, ValueError):
        raise SparringError(f"{name}={values!r:.80} is no list of numbers; give one per channel") from None
    if not all(map(math.isfinite, numbers)):
        raise SparringError(f"{name}={numbers} must be finite numbers, one per channel")
    if max(numbers, default=0) > LARGEST:
        raise SparringError(
            f"{name}={numbers} looks like that of pixels in 0..255; images here are in [0,1]: divide it by 255"
        )
    return numbers


def weights_hash(module: nn.Module) -> str:
    """sha256 over names, shapes and bytes of all parameters and buffers: the identity of a model in results."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        for part in _parts(value):
            digest.update(name.encode() + part)
    digest.update(repr(module).encode())
    return digest.hexdigest()


def _parts(value: Stored) -> Iterator[bytes]:
    """What a state holds: a tensor's shape, type and bytes; of quantized layers tuples of them, and plain values."""
    if isinstance(value, tuple):
        for part in value:
            yield from _parts(part)
    elif not isinstance(value, Tensor):
        yield repr(value).encode()
    else:
        plain = value.detach().cpu()
        plain = (plain.dequantize() if plain.is_quantized else plain).contiguous()
        content = plain.flatten().view(torch.uint8).numpy().tobytes() if plain.numel() else b""
        yield f"{tuple(plain.shape)}{value.dtype}".encode() + content
