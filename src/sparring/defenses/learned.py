"""Defenses that put a trained image-to-image network in front of the classifier: HGD, S2SNet, ACE's plug-in.

The weights file (``sparring train``) has a JSON card beside it that says which network it fills; ``weights=random`` is the
untrained network (seed 0), which is of use in tests only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from sparring.core.errors import SparringError
from sparring.core.noise import Noise
from sparring.core.ranges import Count, Share
from sparring.core.registry import DEFENSES
from sparring.core.system import Reparametrisation
from sparring.defenses.base import Backward, InputDefense, Stage, Surrogate
from sparring.defenses.surrogates import Blocks, Idle, Mixed, PerClass, Residual, Smoothed, Through
from sparring.models.unet import DUNET, CagedUNet, SegNet
from sparring.models.weights import RANDOM, load_weights, read_card, seeded

NETWORKS: dict[str, Callable[..., nn.Module]] = {"dunet": DUNET, "segnet": SegNet, "caged_unet": CagedUNet}


def build_network(config: Mapping[str, object]) -> nn.Module:
    """An untrained network (seed 0, eval mode, frozen) from {"kind": dunet | segnet | caged_unet, its options}."""
    options = dict(config)
    kind = options.pop("kind", None)
    if not isinstance(kind, str) or kind not in NETWORKS:
        raise SparringError(f"network kind {kind!r} is not one of {', '.join(NETWORKS)}")
    with seeded(0):
        return NETWORKS[kind](**options).eval().requires_grad_(False)


def load_network(weights: str, kind: str) -> nn.Module:
    """The trained network of a weights file; its card must say it is of this ``kind``."""
    if weights == RANDOM:
        return build_network({"kind": kind})
    config = read_card(weights).get("network", {})
    if config.get("kind") != kind:
        raise SparringError(
            f"weights file {weights} holds a {config.get('kind', 'network of unknown kind')}, not a {kind}"
        )
    network = build_network(config)
    load_weights(network, weights)
    return network


class LearnedStage(Stage):
    """A network as a stage. Deterministic; ``network`` is frozen and in eval mode, so that gradients flow but nothing moves."""

    def __init__(
        self,
        name: str,
        network: nn.Module,
        surrogate: Surrogate,
        reparametrisations: Mapping[str, Reparametrisation] | None = None,
    ) -> None:
        super().__init__(name, surrogate, reparametrisations)
        self.network = network.eval().requires_grad_(False)

    def forward(self, x: Tensor, noise: Noise) -> Tensor:
        return self.network(x)


class _Stronger(nn.Module):
    """x + strength * (n(x) - x)."""

    def __init__(self, network: nn.Module, strength: float) -> None:
        super().__init__()
        self.network, self.strength = network, strength

    def forward(self, x: Tensor) -> Tensor:
        return x + self.strength * (self.network(x) - x)


@DEFENSES("hgd")
@dataclass(frozen=True)
class HGD(InputDefense):
    """High-level representation guided denoiser (Liao et al., arXiv:1712.02976): a DUNET before the classifier.

    ``weights``: from ``sparring train hgd``. ``strength``: how much of the predicted noise is removed; 2 is the paper's PGDx2
    (app. B). Its adaptive attack (PROTOCOL 4.5): end-to-end gradients (H1), points the denoiser leaves alone (H2), the
    denoiser steered to write the perturbation (H3).
    """

    weights: str
    strength: Annotated[float, Ge(0), Le(10)] = 1.0

    def stage(self) -> Stage:
        network = load_network(self.weights, "dunet")
        if self.strength != 1:
            network = _Stronger(network, self.strength)
        why = "smooth and differentiable end to end: autograd is exact (published break: 0 % at linf 4/255)"
        backward: dict[str, Backward] = {
            "exact": "exact",
            "idle1": Idle(network, 1.0),
            "idle10": Idle(network, 10.0),
            "steer": Residual(network),
        }
        return LearnedStage("hgd", network, Surrogate(backward=backward, random=False, why=why))


@DEFENSES("s2snet")
@dataclass(frozen=True)
class S2SNet(InputDefense):
    """Structure-to-signal autoencoder (Folz et al., arXiv:1803.07994): a SegNet whose decoder was tuned by the classifier.

    ``weights``: from ``sparring train s2snet`` (both stages; a plain autoencoder is the first stage alone). Its adaptive attack
    (PROTOCOL 4.3): identity at the true point (S2), exact and identity mixed (S3), soft switches (S4), smoothed (S5), moving on
    the autoencoder's range (S6).
    """

    weights: str

    def stage(self) -> Stage:
        network = load_network(self.weights, "segnet")
        why = "max-unpooling passes argmax positions without gradient: autograd is finite but locally unrepresentative"
        backward: dict[str, Backward] = {
            "mixed": Mixed(network),
            "exact": "exact",
            "identity": "identity",
            "soft": _Soft(network, 0.1),
            "smoothed": Smoothed(network),
        }
        surrogate = Surrogate(backward=backward, random=False, why=why)
        return LearnedStage("s2snet", network, surrogate, reparametrisations={"range": Through(network)})


class _Soft(nn.Module):
    """The SegNet with soft switches."""

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network, self.temperature = network, temperature

    def forward(self, u: Tensor) -> Tensor:
        return self.network(u, temperature=self.temperature)


class _Mix(nn.Module):
    """share F(x) + (1 - share) x."""

    def __init__(self, network: nn.Module, share: float) -> None:
        super().__init__()
        self.network, self.share = network, share

    def forward(self, x: Tensor) -> Tensor:
        return self.share * self.network(x) + (1 - self.share) * x


@DEFENSES("ace")
@dataclass(frozen=True)
class ACE(InputDefense):
    """ACE plugged in front of a trained classifier (ACE paper, sec. 5): lam F(x) + (1-lam) x, F a caged autoencoder.

    It only attracts perturbations to one pixel class; the defense is the shift that dodges them: ``shift+ace:weights=...``. The
    jointly trained version is the model ``ace_resnet``. ``lam`` in [0,1].
    """

    weights: str
    lam: Share = 0.99

    def stage(self) -> Stage:
        network = _Mix(load_network(self.weights, "caged_unet"), self.lam)
        why = "differentiable end to end, but one pixel class carries most of the gradient: also tried class by class"
        backward: dict[str, Backward] = {"exact": "exact", "per-class": PerClass(network)}
        return LearnedStage("ace", network, Surrogate(backward=backward, random=False, why=why))


SIDES = ("left", "right", "up", "down")


def shift(x: Tensor, size: int, side: str) -> Tensor:
    """Zeros of width ``size`` padded at one side, as much cropped at the other: the image moves away from ``side``."""
    out, (height, width) = torch.zeros_like(x), x.shape[-2:]
    size = min(size, width if side in ("left", "right") else height)
    into: dict[str, tuple[slice, slice]] = {
        "left": (slice(None), slice(size, None)),
        "right": (slice(None), slice(0, width - size)),
        "up": (slice(size, None), slice(None)),
        "down": (slice(0, height - size), slice(None)),
    }
    of = {"left": "right", "right": "left", "up": "down", "down": "up"}[side]
    out[(..., *into[side])] = x[(..., *into[of])]
    return out


class ShiftStage(Stage):
    def __init__(self, size: int, side: str) -> None:
        random = side == "random"
        why = "linear, and its few directions are enumerated: all of them are fooled at once"
        backward: dict[str, Backward] = {"exact": "exact", "per-class": PerClass()}
        if not random:
            backward["per-class"] = PerClass(partial(shift, size=size, side=side))
        surrogate = Surrogate(backward=backward, random=random, why=why, atoms=len(SIDES) if random else 0)
        super().__init__("shift", surrogate, reparametrisations={"blocks": Blocks()})
        self.size, self.side = size, side

    def forward(self, x: Tensor, noise: Noise) -> Tensor:
        if self.side != "random":
            return shift(x, self.size, self.side)
        chosen = noise.choice("side", len(SIDES))[:, None, None, None]
        out = x
        for number, side in enumerate(SIDES):
            out = torch.where(chosen == number, shift(x, self.size, side), out)
        return out


@DEFENSES("shift")
@dataclass(frozen=True)
class Shift(InputDefense):
    """ACE's padding defense (sec. 4.3 and Fig. 1): ``size`` rows or columns of zeros at one ``side``, as many dropped opposite.

    ``side``: left, right, up, down, or random (one of the four at each call). Its adaptive attack (PROTOCOL 4.1): all shifts
    enumerated (A1), block-constant perturbations (A3), class-normalised gradients (A6). A2 needs no run of its own: with a sign
    step the enumerated mean already gives each pixel class the direction of the shifts that read it.
    """

    size: Count = 1
    side: str = "left"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.side not in (*SIDES, "random"):
            raise SparringError(f"side={self.side} must be one of {', '.join(SIDES)}, random")

    def stage(self) -> Stage:
        return ShiftStage(self.size, self.side)
