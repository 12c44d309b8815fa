"""The simplest channel: every pixel a little darker (the channels paper, sec. 4.4, Fig. 2)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sparring.core.noise import Noise
from sparring.core.ranges import Share
from sparring.core.registry import DEFENSES
from sparring.defenses.base import InputDefense, Stage, Surrogate
from sparring.defenses.channels import ChannelStage


class DarkenStage(ChannelStage):
    def __init__(self, by: float, clip: bool) -> None:
        why = "a constant is subtracted: the Jacobian is the identity, exactly"
        super().__init__("darken", Surrogate(backward={"exact": "exact"}, random=False, why=why), clip)
        self.by = by

    def channel(self, x: Tensor, noise: Noise) -> Tensor:
        return x - self.by


@DEFENSES("darken")
@dataclass(frozen=True)
class Darken(InputDefense):
    """Subtract ``by`` from every pixel (channels paper, arXiv:1905.10907, sec. 4.4): a comparison for channels that do more.

    Differs from the paper: it does not say how much.
    """

    by: Share = 0.05
    clip: bool = False

    def stage(self) -> Stage:
        return DarkenStage(self.by, self.clip)
