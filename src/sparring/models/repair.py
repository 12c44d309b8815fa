"""A network's forward with another gradient: rounding, stopped gradients, gradients of somebody's own and blunt endings passed by.

What a network returns stays what is judged; this is one more way for an attacker to differentiate it (BPDA, Athalye et al.,
arXiv:1802.00420, sec. 4.1). Nothing has to be declared: every torch call of the forward is seen while it runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sparring.core.losses import margin
from sparring.core.noise import Noise, image_keys

ALIKE = 0.99  # cosine of two gradients from which on they are one
AGREEMENT = 1e-3  # of the largest logit: how far a repaired forward may be from the network's own
NEARBY = 8 / 255  # of second points at which gradients are compared
ROUNDING = {
    "round",
    "round_",
    "floor",
    "floor_",
    "ceil",
    "ceil_",
    "trunc",
    "trunc_",
    "fix",
    "fix_",
    "sign",
    "sign_",
    "sgn",
    "heaviside",
}
REMAINDERS = {"remainder", "fmod", "__mod__", "frac"}
STOPS = {"detach", "detach_"}
LEAVES = {"requires_grad_"}
OUTSIDE = {"numpy", "__array__", "tolist", "item"}  # values that leave torch: refused where there is a gradient
INTEGERS = {"int", "long", "short", "byte", "char"}
# torch's gradient of these is 0 where the input is a bound, as all black and white pixels of x.clamp(0, 1) are, though nothing is cut off there
CLIPS = {"clamp", "clamp_", "clip", "clip_", "clamp_min", "clamp_max", "clamp_min_", "clamp_max_"}
RECTIFIERS = {"relu", "relu_", "relu6", "hardtanh", "hardtanh_", "threshold", "threshold_"}
COMPARISONS = {
    "gt": 1.0,
    "ge": 1.0,
    "lt": -1.0,
    "le": -1.0,
    "__gt__": 1.0,
    "__ge__": 1.0,
    "__lt__": -1.0,
    "__le__": -1.0,
}
FLOATS = {"float", "double", "half", "to", "type", "type_as"}


Value = Any  # what torch hands over and gets back
Call = Callable[..., Value]
DATA = inspect.getattr_static(Tensor, "data").__get__


def straight_through(value: Tensor, x: Tensor) -> Tensor:
    """``value`` with the gradient of ``x``, of which it is a blunt copy."""
    return x + (value - x).detach()


class _Repair(TorchFunctionMode):
    """Sees every torch call of a forward, and lets gradients through where the call stops them.

    ``heads``: outputs of as many rows as the images and ``classes`` columns, in order: logits on their way to the answer. ``alone``: those of one
    row, of a forward that takes its images one by one.
    """

    def __init__(self, x: Tensor, classes: int) -> None:
        super().__init__()
        self.rows, self.channels, self.classes = len(x), x.shape[1], classes
        self.heads: list[Tensor] = []
        self.alone: list[Tensor] = []
        self.compared: dict[int, tuple[Tensor, Tensor]] = {}  # by id of a bool tensor: itself, and what was compared

    def __torch_function__(
        self,
        func: Call,
        types: Sequence[type],
        args: Sequence[Value] = (),
        kwargs: Mapping[str, Value] | None = None,
    ) -> Value:
        name, kwargs = func.__name__, kwargs or {}
        if name == "_set_grad_enabled":  # no_grad around a part of the forward
            return None
        first = args[0] if args and isinstance(args[0], Tensor) else None
        if name in LEAVES:  # a leaf in the middle of a forward is for gradients of its own
            return first
        if first is None or not first.is_floating_point():
            return self._seen(self._unblunted(name, func, args, kwargs))
        if name in OUTSIDE:
            return func(first.detach(), *args[1:], **kwargs)
        if name in STOPS:
            return first
        if func == DATA:
            return first
        if name in REMAINDERS:
            return first - straight_through(first - func(*args, **kwargs), first)
        if name in ROUNDING or name in INTEGERS or (name == "to" and _to_integers(args, kwargs)):
            value = func(first.detach().clone(), *args[1:], **kwargs)
            return self._seen(straight_through(value.to(first.dtype), first))
        if name in CLIPS or name in RECTIFIERS:
            out = func(first.clone(), *args[1:], **kwargs)
            if name in CLIPS and self._is_picture(first):
                return straight_through(out, first)
            return self._seen(torch.where(out == first, first, out))
        if name in ("__floordiv__", "floor_divide"):
            return straight_through(func(*args, **kwargs), first / args[1])
        out = func(*args, **kwargs)
        if name == "bucketize" and isinstance(args[1], Tensor):  # numbers of levels
            levels = args[1].to(first.dtype)
            self.compared[id(out)] = (out, first * (len(levels) / (levels.max() - levels.min())))
        if name in COMPARISONS and isinstance(out, Tensor):
            self.compared[id(out)] = (out, COMPARISONS[name] * (first - args[1]))
        return self._seen(out)

    def _is_picture(self, value: Tensor) -> bool:
        """Does it look like the images, of whatever size? What is cut off there is known to the attacker, who passes it by, as rounding."""
        return value.dim() == 4 and value.shape[:2] == (self.rows, self.channels)

    def _unblunted(self, name: str, func: Call, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        """A comparison that becomes a number has the gradient of what was compared."""
        out = func(*args, **kwargs)
        if (
            name in FLOATS
            and isinstance(out, Tensor)
            and out.is_floating_point()
            and args
            and id(args[0]) in self.compared
        ):
            return straight_through(out, self.compared[id(args[0])][1].to(out.dtype))
        return out

    def _seen(self, out: Value) -> Value:
        if isinstance(out, Tensor) and out.shape == (self.rows, self.classes) and out.is_floating_point():
            self.heads.append(out)
        elif isinstance(out, Tensor) and out.shape in ((1, self.classes), (self.classes,)) and out.is_floating_point():
            self.alone.append(out.reshape(self.classes))
        return out

    def one_by_one(self) -> list[Tensor]:
        """The same as ``heads`` for logits (K,) of one image after the other; none where they are not as many for each."""
        each, left = divmod(len(self.alone), self.rows)
        return [torch.stack(self.alone[k::each]) for k in range(each)] if self.rows > 1 and not left else []


def _to_integers(args: Sequence[Value], kwargs: Mapping[str, Value]) -> bool:
    kinds = [a for a in (*args[1:], kwargs.get("dtype")) if isinstance(a, torch.dtype)]
    return bool(kinds) and not kinds[0].is_floating_point


class _Unread(SimpleNamespace):
    """What the forward of a custom autograd function writes to; nobody reads it, its backward is passed by."""

    needs_input_grad = (True,) * 64

    def save_for_backward(self, *tensors: Tensor) -> None:
        self.saved_tensors = tensors

    def _ignored(self, *anything: object) -> None: ...

    mark_dirty = mark_non_differentiable = set_materialize_grads = save_for_forward = _ignored


def _forward_alone(function: Value, *args: Value, **options: Value) -> Value:
    """A custom autograd function as what its forward computes."""
    if function.setup_context is torch.autograd.Function.setup_context:
        return function.forward(_Unread(), *args, **options)
    return function.forward(*args, **options)


@contextmanager
def repairing(x: Tensor, classes: int) -> Generator[_Repair]:
    """A forward on images ``x`` (B,C,H,W) inside runs repaired; yields what saw it."""
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        stack.enter_context(patch.object(torch.autograd.Function, "apply", classmethod(_forward_alone)))
        yield stack.enter_context(_Repair(x, classes))


class Repaired(nn.Module):
    """``network`` with the gradients that it stops or changes let through, and, with ``head``, its ``head``-th logits on the way to the answer
    in place of the answer: the same order of classes, before something blunt was done to them. ``alone``: of those that come image by image.
    """

    def __init__(
        self, network: Callable[[Tensor], Tensor], classes: int = 0, head: int | None = None, alone: bool = False
    ) -> None:
        super().__init__()
        self.network, self.classes, self.head, self.alone = network, classes, head, alone
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        if self.alone and len(x) == 1:  # what is of one image and what is of all would look alike
            return self(x.repeat(2, 1, 1, 1))[:1]
        grad = torch.is_grad_enabled()
        with repairing(x, self.classes) as seen:
            out = self.network(x)
        heads = seen.one_by_one() if self.alone else seen.heads
        if self.head is not None and self.head < len(heads):
            head = heads[self.head]
            # where what is blunt decides (two rounded logits are equal), it is the answer that counts
            blunt = (head.argmax(1) != out.argmax(1))[:, None]
            out = head + torch.where(blunt, out - head, 0.0).detach()
        return out if grad else out.detach()


class Mending:
    """What is asked of ``network`` at images ``x`` (B,C,H,W) and points near them to mend its gradient; each gradient is made once."""

    def __init__(self, network: nn.Module, x: Tensor) -> None:
        self.network, self.x = network, x
        self._differs: dict[tuple[int | None, bool], bool] = {}

    def repaired(self) -> Repaired | None:
        """``network`` with another gradient, as this file mends it; None where its own is alright, or cannot be mended."""
        try:
            answer, out, seen = self._watched(self.x)
            classes = answer.shape[1]
            if not _close(out.detach(), answer):
                return None
            head = next((i for i, h in enumerate(seen.heads) if _same_order(h.detach(), answer)), None)
            candidates = [] if head is None or seen.heads[head] is out else [Repaired(self.network, classes, head)]
            return next(filter(self._other, (*candidates, Repaired(self.network, classes))), None)
        except Exception:  # a forward that cannot run so has no other gradient
            return None

    def decider(self) -> Repaired | None:
        """``network`` with the gradient of what decides in it: the first logits on the way to the answer that have its label at the images and at
        points near them, and a gradient of their own. None where there are none: for a network that is asked because its answers
        change at once where its scores do not (S2), not for one whose scores may be believed, as the mean of several networks.
        """
        try:
            answer, out, seen = self._watched(self._points)
            classes = answer.shape[1]
            heads = [
                *((h, None if h is out else n, False) for n, h in enumerate(seen.heads)),
                *((h, n, True) for n, h in enumerate(seen.one_by_one())),
            ]
            candidates = (
                Repaired(self.network, classes, number, alone)
                for head, number, alone in heads
                if bool((head.argmax(1) == answer.argmax(1)).all())
            )
            return next(filter(self._other, candidates), None)
        except Exception:  # a forward that cannot run so shows nobody who decides
            return None

    def _watched(self, x: Tensor) -> tuple[Tensor, Tensor, _Repair]:
        """The network's own answer (B,K) to images, that of a repaired forward, and what saw it."""
        with torch.no_grad():
            answer = self.network(x)
        with repairing(x, answer.shape[1]) as seen:
            return answer, self.network(x), seen

    @cached_property
    def _points(self) -> Tensor:
        return _points(self.x)

    @cached_property
    def _own(self) -> Tensor:
        return _gradient(self.network, self._points)

    def _other(self, candidate: Repaired) -> bool:
        """Whether ``candidate`` has a gradient at all points, and another than the network's own."""
        asked = candidate.head, candidate.alone
        if asked not in self._differs:
            mended = _gradient(candidate, self._points)
            there = bool((mended.flatten(1).abs().sum(1) > 0).all())
            self._differs[asked] = there and not _one(self._own, mended)
        return self._differs[asked]


def repaired_stage(stage: Callable[[Tensor], Tensor], x: Tensor) -> nn.Module | None:
    """The same for a map of images (B,C,H,W) to images: what to differentiate in its place, or None. Where its gradient is missing and cannot
    be mended that is the identity.
    """
    points = _points(x)
    weights = Noise.of(0, "repair", image_keys([str(i) for i in range(len(points))]).to(x.device))
    weight = weights.normal("weight", x.shape[1:]).to(x.dtype)

    def pulled(function: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.enable_grad():
            leaf = points.clone().requires_grad_(True)
            out = function(leaf)
            if not out.requires_grad:
                return torch.zeros_like(points)
            (grad,) = torch.autograd.grad((out * weight).sum(), leaf, allow_unused=True)
        return torch.zeros_like(points) if grad is None else grad.nan_to_num(0.0, 0.0, 0.0)

    own = pulled(stage)
    try:
        candidate = Repaired(stage)
        mended = pulled(candidate)
        with torch.no_grad():
            faithful = _close(candidate(points), stage(points))
        if faithful and bool(mended.any()):
            return None if _one(own, mended) else candidate
    except Exception:  # its forward cannot run so
        pass
    dead = (own.flatten(1).abs().sum(1) == 0).double().mean()
    return nn.Identity().eval() if dead > 0.01 else None


def _close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= AGREEMENT * b.abs().max().clamp_min(1e-12))


def _same_order(early: Tensor, answer: Tensor) -> bool:
    """Whether ``early`` (B,K) puts the classes in the order of ``answer``, as far as that has one."""
    pairs = answer[:, :, None] - answer[:, None, :]
    mine = early[:, :, None] - early[:, None, :]
    sure = pairs > 1e-6 * (answer.amax(1) - answer.amin(1)).clamp_min(1e-12)[:, None, None]
    return bool((mine[sure] > 0).all()) and bool((early.argmax(1) == answer.argmax(1)).all())


def _points(x: Tensor) -> Tensor:
    """Images, and points near them."""
    noise = Noise.of(0, "repair", image_keys([str(i) for i in range(len(x))]).to(x.device))
    near = x + NEARBY * noise.sign("near", x.shape[1:]).to(x.dtype)
    return torch.cat([x, near.clamp(0, 1)])


def _gradient(network: nn.Module, x: Tensor) -> Tensor:
    """Of the margin, at points (B,C,H,W); zero where there is none."""
    with torch.enable_grad():
        leaf = x.clone().requires_grad_(True)
        z = network(leaf)
        if not z.requires_grad:
            return torch.zeros_like(x)
        loss = margin(z, z.detach().argmax(1)).sum()
        (grad,) = torch.autograd.grad(loss, leaf, allow_unused=True)
    return torch.zeros_like(x) if grad is None else grad.nan_to_num(0.0, 0.0, 0.0)


def _one(a: Tensor, b: Tensor) -> bool:
    """Whether two gradients (B,C,H,W) point the same way at nearly all points."""
    alike = torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1), eps=1e-30)
    return bool((alike < ALIKE).double().mean() <= 0.1)
