"""What a user hands to ``Attack.run``: images, labels, a model; each is right, or one line says what is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sparring.core.errors import SparringError
from sparring.core.network import OnCopies

FLOATS = (torch.float32, torch.float64)  # in shorter ones, round-off is larger than what a budget is measured by


def images_of(x: object) -> Tensor:
    """Images (N,C,H,W) in [0,1], in float32 or float64, apart from any graph."""
    if not isinstance(x, Tensor):
        raise SparringError(
            f"x is of type {type(x).__name__}; pass a float tensor (N,C,H,W) in [0,1], such as torch.as_tensor(x)"
        )
    if not torch.is_floating_point(x) or x.dim() != 4:
        raise SparringError(f"x must be a float tensor (N,C,H,W) in [0,1], got {tuple(x.shape)} {x.dtype}")
    if len(x) and not x.numel():
        raise SparringError(f"x has no pixels: its shape is {tuple(x.shape)}")
    if min(x.shape[1:3]) > 4 and x.shape[3] in (1, 3, 4):
        raise SparringError(
            f"x has shape {tuple(x.shape)}, channels last; they come first: x.permute(0, 3, 1, 2).contiguous()"
        )
    if len(x) and not (bool(torch.isfinite(x).all()) and x.min() >= -1e-6 and x.max() <= 1 + 1e-6):
        fix = "move mean/std into the model"
        if not bool(torch.isfinite(x).all()):
            fix = "what is not finite is no pixel: look at where x comes from"
        elif x.min() >= 0 and 2 < x.max() <= 255:
            fix = "divide by 255"
        raise SparringError(f"x must be pixels in [0,1], got {x.min():.3g}..{x.max():.3g}; {fix}")
    return (x if x.dtype in FLOATS else x.float()).detach().clamp(0, 1)


def labels_of(y: object, x: Tensor) -> Tensor:
    """Class numbers (N,) int64 of the images ``x``, beside them."""
    if not isinstance(y, Tensor):
        raise SparringError(f"y is of type {type(y).__name__}; pass a tensor of class numbers (N,): torch.as_tensor(y)")
    if y.shape != x.shape[:1]:
        many = y.dim() == 2 and len(y) == len(x)
        fix = ("; y.argmax(1) of one-hot rows" if y.shape[-1] > 1 else "; y[:, 0]") if many else ""
        raise SparringError(f"{len(x)} images but labels of shape {tuple(y.shape)}; one class number per image{fix}")
    if y.dtype == torch.bool or y.is_floating_point() or y.is_complex():
        raise SparringError(f"y holds {y.dtype}, not class numbers; y.long() where they are whole")
    return y.to(x.device).long()


def mask_of(given: Tensor | None, x: Tensor) -> Tensor | None:
    """Pixels that may change: zeros and ones, of one or all channels."""
    mask = _beside(given, x, "mask", (1, x.shape[1]))
    if mask is not None and not bool(((mask == 0) | (mask == 1)).all()):
        raise SparringError("mask must be 0 or 1 everywhere: a pixel may change or not")
    return mask


def start_of(given: Tensor | None, x: Tensor) -> Tensor | None:
    """Points to begin at: images in [0,1] in the shape of ``x``."""
    start = _beside(given, x, "start", (x.shape[1],))
    if start is not None and not bool(((start >= 0) & (start <= 1)).all()):
        raise SparringError("start must be pixels in [0,1]; clamp it")
    return start


def _beside(given: Tensor | None, x: Tensor, what: str, channels: Sequence[int]) -> Tensor | None:
    """As many images as ``x``, with a number of channels that is among ``channels``."""
    if given is None:
        return None
    if not isinstance(given, Tensor) or given.shape not in [(len(x), c, *x.shape[2:]) for c in channels]:
        got = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
        raise SparringError(f"{what} must be a tensor of shape {(len(x), channels[-1], *x.shape[2:])}, got {got}")
    return given.to(x)


def network_of(model: nn.Module | Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> tuple[OnCopies, Tensor]:
    """A model of one's own, and the images in its floats; its first answer says whether the labels ``y`` are of its classes."""
    if isinstance(model, str):
        raise SparringError(f"model is a text; load it first: sparring.load_model({model!r})")
    if not callable(model) or isinstance(model, type):
        raise SparringError(f"model is {model!r:.80}, not an nn.Module; pass one that takes images and returns logits")
    name = "the model"
    if isinstance(model, nn.Module):
        if any(m.training for m in model.modules()):
            raise SparringError("the model is in train mode; call model.eval() first")
        kind = next((p.dtype for p in model.parameters() if p.is_floating_point()), x.dtype)
        if kind not in FLOATS:
            raise SparringError(f"the model computes in {kind}, coarser than a budget is measured; call model.float()")
        name, x = type(model).__name__, x.to(kind)
    return OnCopies(model, y, name), x
