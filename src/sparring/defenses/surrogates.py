"""Backwards that an informed attacker may put in a learned stage's place (PROTOCOL 4.1, 4.3, 4.5).

Each is a module whose *gradient* is the point: handed out as a ``Surrogate.backward`` it stands in for the stage's Jacobian
at the actual intermediate, while the forward value stays the deployed one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparring.core.geometry import Ball, distance, per_row
from sparring.core.noise import Noise
from sparring.core.system import Map, vjp, with_pullback


class Backward(nn.Module):
    """A stand-in given by its vector-Jacobian product. Subclasses write ``pull(u, v) -> (B,C,H,W)``."""

    def pull(self, u: Tensor, v: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, u: Tensor) -> Tensor:
        return with_pullback(u, u.detach(), self.pull)


def unit(g: Tensor) -> Tensor:
    """Each row at l2 length 1."""
    return g / per_row(distance(g, "l2").clamp_min(1e-20), g)


class Mixed(Backward):
    """``share`` of the exact gradient's direction and the rest of the identity's: share g/|g| + (1-share) v/|v| (card S3)."""

    def __init__(self, function: Map, share: float = 0.5) -> None:
        super().__init__()
        self.function, self.share = function, share

    def pull(self, u: Tensor, v: Tensor) -> Tensor:
        return self.share * unit(vjp(self.function, u, v)) + (1 - self.share) * unit(v)


class Smoothed(Backward):
    """Mean exact gradient over ``samples`` neighbours at standard deviation ``std`` (card S5). The neighbours' offsets are
    the same for all images and calls, so that answers do not depend on company.
    """

    def __init__(self, function: Map, std: float = 4 / 255, samples: int = 8) -> None:
        super().__init__()
        self.function, self.std, self.samples = function, std, samples

    def pull(self, u: Tensor, v: Tensor) -> Tensor:
        keys = torch.arange(self.samples, device=u.device)
        offsets = Noise.of(0, "smoothed", keys).normal("offset", u.shape[1:])
        return torch.stack([vjp(self.function, u + self.std * n, v) for n in offsets]).mean(0)


class Residual(Backward):
    """The gradient of what the stage *adds*, d(x) = s(x) - x, alone: J_s^T v - v. Ascent on it lets a denoiser write the
    perturbation (card H3).
    """

    def __init__(self, function: Map) -> None:
        super().__init__()
        self.function = function

    def pull(self, u: Tensor, v: Tensor) -> Tensor:
        return vjp(self.function, u, v) - v


class Idle(Backward):
    """The exact gradient of loss - beta * mean |s(x) - x|: points that the stage leaves alone (card H2)."""

    def __init__(self, function: Map, beta: float) -> None:
        super().__init__()
        self.function, self.beta = function, beta

    def pull(self, u: Tensor, v: Tensor) -> Tensor:
        exact = vjp(self.function, u, v)
        with torch.enable_grad():
            leaf = u.detach().requires_grad_(True)
            work = (self.function(leaf) - leaf).abs().flatten(1).mean(1).sum()
            return exact - self.beta * torch.autograd.grad(work, leaf)[0].detach()


class PerClass(Backward):
    """The exact gradient, each class of pixel coordinates modulo ``period`` at l2 length 1 (card A6): a bait on one class
    no longer outshouts the others. Without ``function`` the identity's gradient is treated so.
    """

    def __init__(self, function: Map | None = None, period: int = 2) -> None:
        super().__init__()
        self.function, self.period = function, period

    def pull(self, u: Tensor, v: Tensor) -> Tensor:
        g = v if self.function is None else vjp(self.function, u, v)
        out = torch.zeros_like(g)
        for row in range(self.period):
            for column in range(self.period):
                at = (..., slice(row, None, self.period), slice(column, None, self.period))
                if out[at].numel():
                    out[at] = unit(g[at])
        return out


class Blocks:
    """x' = clean + delta constant on 2x2 blocks (card A3): whatever parity is read, it reads the same field."""

    def emit(self, v: Tensor, clean: Tensor, ball: Ball) -> Tensor:
        return ball.project(clean + self._mean(v - clean), clean)

    def pullback(self, grad: Tensor, v: Tensor, clean: Tensor, ball: Ball) -> Tensor:
        return self._mean(grad)

    @staticmethod
    def _mean(d: Tensor) -> Tensor:
        height, width = d.shape[-2:]
        pooled = nn.functional.avg_pool2d(d, 2, ceil_mode=True)
        return pooled.repeat_interleave(2, -2).repeat_interleave(2, -1)[..., :height, :width]

    def __repr__(self) -> str:
        return "Blocks()"


class Through:
    """x' = projection of s(v) on ball and box: the attacker moves on the stage's own range (threat T9, card S6)."""

    def __init__(self, function: Map) -> None:
        self.function = function

    def emit(self, v: Tensor, clean: Tensor, ball: Ball) -> Tensor:
        with torch.no_grad():
            return ball.project(self.function(v), clean)

    def pullback(self, grad: Tensor, v: Tensor, clean: Tensor, ball: Ball) -> Tensor:
        return vjp(self.function, v, grad)

    def __repr__(self) -> str:
        return "Through(stage)"
