"""The six lossy channels of "A Perturbation Analysis of Input Transformations for Adversarial Attacks" (sec. 3,
app. B).

All work on pixels in [0,1] and do not clip their output unless ``clip=true``. Differs from the paper: the authors'
code works in mean/std-normalised space; FC commutes with that, the others are stated here in pixel units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from sparring.core.errors import SparringError
from sparring.core.geometry import Ball, per_row
from sparring.core.noise import Noise
from sparring.core.ranges import Rate, Share
from sparring.core.registry import DEFENSES
from sparring.core.system import Reparametrisation
from sparring.defenses.base import Backward, InputDefense, Stage, Surrogate


class ChannelStage(Stage):
    """Shared by the channels: optional clipping of the output to [0,1]."""

    def __init__(
        self,
        name: str,
        surrogate: Surrogate,
        clip: bool,
        reparametrisations: Mapping[str, Reparametrisation] | None = None,
    ) -> None:
        super().__init__(name, surrogate, reparametrisations)
        self.clip = clip

    def channel(self, x: Tensor, noise: Noise) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor, noise: Noise) -> Tensor:
        out = self.channel(x, noise)
        return out.clamp(0, 1) if self.clip else out


@cache
def frequency_mask(height: int, width: int, rate: float) -> Tensor:
    """0/1 (H, W//2+1): which one-sided 2-D frequencies FC keeps (authors' code, complex_mask, "hyper").

    Kept are quarter-disks of radius r around the corners, r = floor(sqrt(2 (1-rate) H W_half / pi)), the corners
    being rows 0 and H-1, columns 0 and W-1 as in the code (so row H-1 counts as frequency 0). The kept
    fraction is not 1-rate.
    """
    half = width // 2 + 1
    radius = math.floor(math.sqrt(2 * (1 - rate) * height * half / math.pi))
    rows = torch.minimum(torch.arange(height), height - 1 - torch.arange(height))[:, None].double()
    columns = torch.arange(half)[None].double()
    # the right-hand corners lie outside the one-sided spectrum and reach into it only when r >= W/2
    across = torch.minimum(columns, width - 1 - columns)
    keep = (rows.square() + across.square()).sqrt() < radius
    return keep.float()


class FCStage(ChannelStage):
    def __init__(self, rate: float, clip: bool) -> None:
        why = "linear: autograd through the FFT is exact, and projects the gradient onto the passband"
        super().__init__("fc", Surrogate(backward={"exact": "exact"}, random=False, why=why), clip)
        self.rate = rate

    def channel(self, x: Tensor, noise: Noise) -> Tensor:
        mask = frequency_mask(x.shape[-2], x.shape[-1], self.rate).to(x)
        return torch.fft.irfft2(torch.fft.rfft2(x) * mask, s=x.shape[-2:])


@DEFENSES("fc")
@dataclass(frozen=True)
class FC(InputDefense):
    """Frequency compression: drop high 2-D frequencies per color channel (app. B.1; mask as in the authors' code).

    ``rate``: the paper's c/100. The kept share is larger than 1-rate at small rates (0.915 of a 32x32 image at
    0.01).
    """

    rate: Rate
    clip: bool = False

    def stage(self) -> Stage:
        return FCStage(self.rate, self.clip)


class Staircase(nn.Module):
    """Stand-in for rounding: a sum of sigmoids, one per threshold, slope in units of one level (PROTOCOL 4.4)."""

    def __init__(self, values: int, slope: float) -> None:
        super().__init__()
        self.values, self.slope = values, slope

    def forward(self, x: Tensor) -> Tensor:
        level = x * (self.values - 1)
        floor = level.detach().floor()
        return (floor + torch.sigmoid(self.slope * (level - floor - 0.5))) / (self.values - 1)


@dataclass(frozen=True)
class Levels:
    """Level reparametrisation (PROTOCOL 4.4, card L1): v in the ball picks each pixel's level among the reachable
    ones.

    v runs linearly over [lowest, highest] reachable level as v - clean runs over [-eps, eps]; h(v) is the value
    inside the ball, nearest to clean, that rounds to the chosen level, with a margin so that 8-bit storage keeps
    it. Defined for linf balls of finite eps; otherwise h is the identity.
    """

    values: int
    margin: float = 1 / 255

    def _reach(self, clean: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        top = self.values - 1
        low, high = (clean - eps).clamp(0, 1), (clean + eps).clamp(0, 1)
        return (low * top).round() / top, (high * top).round() / top

    def emit(self, v: Tensor, clean: Tensor, ball: Ball) -> Tensor:
        if ball.norm != "linf":
            return v
        eps, top = per_row(ball.eps, v), self.values - 1
        low, high = self._reach(clean, eps)
        share = ((v - clean) / (2 * eps).clamp_min(1e-12) + 0.5).clamp(0, 1)
        level = ((low + share * (high - low)) * top).round() / top
        # the values that round to this level, shrunk by the margin where the cell is wide enough
        inset = min(self.margin, 0.25 / top)
        start, end = level - 0.5 / top + inset, level + 0.5 / top - inset
        point = torch.minimum(torch.maximum(clean, start), end)
        return torch.where(torch.isfinite(eps), ball.project(point, clean), v)

    def pullback(self, grad: Tensor, v: Tensor, clean: Tensor, ball: Ball) -> Tensor:
        if ball.norm != "linf":
            return grad
        low, high = self._reach(clean, per_row(ball.eps, v))
        return grad * (high - low)  # d level / d v up to 1/(2 eps), a constant of the row


class CDStage(ChannelStage):
    def __init__(self, values: int, clip: bool) -> None:
        why = "piecewise constant: autograd gives zero; rounding is close to the identity and to a steep staircase"
        backward: dict[str, Backward] = {
            "identity": "identity",
            "staircase10": Staircase(values, 10.0),
            "staircase50": Staircase(values, 50.0),
        }
        surrogate = Surrogate(backward=backward, random=False, why=why)
        super().__init__("cd", surrogate, clip, {"levels": Levels(values)})
        self.values = values

    def channel(self, x: Tensor, noise: Noise) -> Tensor:
        return (x * (self.values - 1)).round() / (self.values - 1)


@DEFENSES("cd")
@dataclass(frozen=True)
class CD(InputDefense):
    """Color-depth reduction: round(v (values-1)) / (values-1), half to even (sec. 3.1). Give ``values`` or
    ``bits``.

    The authors' code calls the number of *values* its parameter: "CD 32" is 5 bits.
    """

    values: Annotated[int, Ge(2), Le(2**16)] | None = None
    bits: Annotated[int, Ge(1), Le(16)] | None = None
    clip: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.values is None) == (self.bits is None):
            raise SparringError("give values= or bits=, one of the two")

    def stage(self) -> Stage:
        return CDStage(self.values or 2 ** (self.bits or 1), self.clip)


def _truncate(x: Tensor, keep: int, frozen: bool) -> Tensor:
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    if frozen:  # constant projectors U U^T x V V^T: the Jacobian without the basis' own derivative
        left, right = u[..., :keep].detach(), v[..., :keep, :].detach()
        return left @ (left.mT @ x @ right.mT) @ right
    return (u[..., :keep] * s[..., None, :keep]) @ v[..., :keep, :]


class FrozenBasis(nn.Module):
    """Stand-in for SVD truncation: the projector onto the leading singular spaces at x, held constant."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return _truncate(x, _kept(self.rate, x), frozen=True)


def _kept(rate: float, x: Tensor) -> int:
    return max(1, int(round((1 - rate) * x.shape[-2], 6)))


class SVDStage(ChannelStage):
    def __init__(self, rate: float, clip: bool) -> None:
        why = "a data-dependent projector; autograd through the basis has 1/(s_i^2 - s_j^2) terms and overflows"
        backward: dict[str, Backward] = {"frozen": FrozenBasis(rate), "identity": "identity"}
        super().__init__("svd", Surrogate(backward=backward, random=False, why=why), clip)
        self.rate = rate

    def channel(self, x: Tensor, noise: Noise) -> Tensor:
        return _truncate(x, _kept(self.rate, x), frozen=False)


@DEFENSES("svd")
@dataclass(frozen=True)
class SVD(InputDefense):
    """Keep the int((1-rate) H) largest singular values of each color channel (authors' code, svd2d).

    ``rate`` counts singular values, not storage. Differs from the code: pixels, not normalised values (SVD does not
    commute).
    """

    rate: Rate
    clip: bool = False

    def stage(self) -> Stage:
        return SVDStage(self.rate, self.clip)


class NoiseStage(ChannelStage):
    def __init__(self, law: str, std: float, clip: bool) -> None:
        why = "additive: the Jacobian is the identity, exactly; average over draws (EOT)"
        super().__init__(law, Surrogate(backward={"exact": "exact"}, random=std > 0, why=why), clip)
        self.law, self.std = law, std

    def channel(self, x: Tensor, noise: Noise) -> Tensor:
        if self.std == 0:  # declared deterministic: nothing is drawn
            return x
        shape = x.shape[1:]
        if self.law == "gauss":
            unit = noise.normal("channel", shape)
        elif self.law == "uniform":
            unit = math.sqrt(3) * (2 * noise.uniform("channel", shape) - 1)
        elif self.law == "sign":
            unit = noise.sign("channel", shape)
        else:
            unit = noise.laplace("channel", shape) / math.sqrt(2)
        return x + self.std * unit.to(x)


@dataclass(frozen=True)
class AdditiveNoise(InputDefense):
    """Fresh noise at every call. Give ``std`` (standard deviation in pixel units) or the paper's ``eps``
    convention.
    """

    std: Share | None = None
    eps: Annotated[float, Ge(0), Le(2)] | None = None
    clip: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.std is None) == (self.eps is None):
            raise SparringError("give std= (standard deviation) or eps= (the paper's convention), one of the two")

    def std_of(self, eps: float) -> float:
        """Standard deviation of the paper's eps."""
        return eps / math.sqrt(3)

    def stage(self) -> Stage:
        std = self.std if self.std is not None else self.std_of(self.eps or 0.0)
        return NoiseStage(self.spec_name, std, self.clip)


@DEFENSES("gauss")
@dataclass(frozen=True)
class Gauss(AdditiveNoise):
    """Gaussian noise. The paper's ``eps`` means std = eps/sqrt(3) (authors' code; the text says sigma = eps, Fig.
    10 disagrees).
    """


@DEFENSES("uniform")
@dataclass(frozen=True)
class Uniform(AdditiveNoise):
    """Uniform noise on [-w,w]. The paper's ``eps`` is w, so std = eps/sqrt(3)."""


@DEFENSES("laplace")
@dataclass(frozen=True)
class Laplace(AdditiveNoise):
    """Laplace noise. The paper's ``eps`` means scale eps/sqrt(3), so std = sqrt(2/3) eps (authors' code)."""

    def std_of(self, eps: float) -> float:
        return eps * math.sqrt(2 / 3)


@DEFENSES("sign")
@dataclass(frozen=True)
class Sign(AdditiveNoise):
    """Sign noise, +-std with equal chance: the third noise that S2SNet puts before its network (sec. 4.2). ``eps``: the same."""

    def std_of(self, eps: float) -> float:
        return eps
