"""``defend()``: a classifier behind a defense as one ``nn.Module``, drawing its own noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sparring.core.errors import SparringError
from sparring.core.noise import Noise
from sparring.defenses.base import Defended, DefenseLike, defense, name_of
from sparring.models.load import ModelLike, load_model, require_trained

LARGEST_KEY = 2**62


def defend(model: ModelLike, defended_by: DefenseLike = "none") -> DefendedModule:
    """The model behind a defense (spec text such as ``cd:bits=4+gauss:std=0.02+vote:samples=8``, or a config, module or function) as one module.

    Raises SparringError for an untrained model or a defense that does not fit.
    """
    classifier = require_trained(load_model(model))
    return DefendedModule(
        defense(defended_by).install(Defended(classifier)), f"{classifier.name} + {name_of(defended_by)}"
    )


class DefendedModule(nn.Module):
    """Images in [0,1] (B,C,H,W) -> scores (B,K) whose largest is the deployed label: the logits of one draw, or what the readout makes of its draws
    (log-probabilities, shares of votes).

    Each image draws noise of its own at each call, from torch's generator or from ``generator`` (its state decides; None: torch's). It never
    depends on the other images. Its gradient is that of the first backward that each stage declares, so that a gradient attack from elsewhere
    does not mistake rounding for robustness; it is weaker than ``sparring.evaluate``, which tries them all.
    """

    def __init__(self, defended: Defended, name: str) -> None:
        super().__init__()
        self.defended_network, self.stages = defended.network, nn.ModuleList(defended.stages)
        self.system, self.random, self.name = defended.system(), defended.random, name
        self.generator: torch.Generator | None = None
        self.eval()

    def train(self, mode: bool = True) -> DefendedModule:
        """What is deployed has no train mode. Raises SparringError for ``mode=True``."""
        if mode:
            raise SparringError(
                f"{self.name} is a deployed model, which has no train mode; train the network that it holds"
            )
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_exporting():
            plain = tuple(replace(part, backward="exact") for part in self.system.parts)
            return replace(self.system, parts=plain).scores(x, Drawn.like(x))
        device = torch.device("cpu") if self.generator is None else self.generator.device
        keys = torch.randint(LARGEST_KEY, (len(x),), generator=self.generator, device=device)
        return self.system.scores(x, Noise.of(0, "deployed", keys.to(x.device)))


@dataclass(frozen=True)
class Drawn(Noise):
    """Noise of torch's own random operators, which a file of torch.export or ONNX can hold; the same laws as ``Noise``."""

    @classmethod
    def like(cls, x: Tensor) -> Drawn:
        """For the images ``x`` (B,C,H,W)."""
        none = x[:, 0, 0, 0] * 0
        return cls(none, none, none, none)

    def repeat(self, draws: int, first: int = 0) -> Drawn:
        none = self.key.repeat_interleave(draws, 0)
        return replace(self, key=none, step=none, draw=none, image=none)

    def uniform(self, tag: str, shape: Sequence[int]) -> Tensor:
        return torch.rand_like(self._blank(shape))

    def normal(self, tag: str, shape: Sequence[int]) -> Tensor:
        return torch.randn_like(self._blank(shape))

    def laplace(self, tag: str, shape: Sequence[int]) -> Tensor:
        u = self.uniform(tag, shape).clamp(2**-25, 1 - 2**-25) - 0.5
        return -u.sign() * torch.log1p(-2 * u.abs())

    def sign(self, tag: str, shape: Sequence[int]) -> Tensor:
        return 1 - 2 * (self.uniform(tag, shape) < 0.5).float()

    def integers(self, tag: str, high: int, shape: Sequence[int]) -> Tensor:
        return (self.uniform(tag, shape) * high).long().clamp(0, high - 1)

    def bits(self, tag: str, count: int) -> Tensor:
        raise SparringError(f"{self.path or 'the network'} draws random bits, which no file can hold")

    def _blank(self, shape: Sequence[int]) -> Tensor:
        return self.key.reshape(-1, *(1 for _ in shape)).expand(-1, *shape)
