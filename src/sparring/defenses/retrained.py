"""Defenses that are a network of their own, trained to resist: it replaces the classifier that is evaluated.

``weights`` come from ``sparring train classifier`` (or ``adversarial``); the card beside them says how. The oblivious attacker sees
the classifier that was evaluated, undefended; one who transfers needs ``--sources``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor, nn

from sparring.core.errors import SparringError
from sparring.core.noise import Noise
from sparring.core.registry import DEFENSES
from sparring.core.spec import parse, spec_text
from sparring.core.system import System
from sparring.defenses.base import Defended, Stage, Surrogate, joined
from sparring.models.classifier import Classifier, weights_hash
from sparring.models.coded import Quantizer
from sparring.models.defective import masks
from sparring.models.regularized import NoisyNetwork, ghosted
from sparring.models.trained import trained
from sparring.models.weights import read_card


@dataclass(frozen=True)
class Retrained:
    """What the family shares. ``kind``: the model its card must name, or empty; ``made_by`` may look at the card instead."""

    spec_name: ClassVar[str] = ""
    kind: ClassVar[str] = ""
    weights: str

    def made_by(self, card: Mapping[str, object]) -> bool:
        """Whether a card is of this defense."""
        return parse(str(card.get("model", "-"))).name == self.kind

    def install(self, system: Defended) -> Defended:
        card, name = read_card(self.weights), self.spec_name
        if not self.made_by(card):
            raise SparringError(
                f"{name}: {self.weights} holds {card.get('model', 'no classifier')}, not trained this way"
            )
        classifier = trained(self.weights).requires_grad_(False)
        retrained = replace(
            system,
            bare=system.bare or system.network,
            id=weights_hash(classifier),
            name=joined(system.name, spec_text(self)),
        )
        return self.edit(retrained, classifier)

    def edit(self, system: Defended, classifier: Classifier) -> Defended:
        """The system with its network replaced: here by ``classifier`` itself."""
        return replace(system, network=classifier)


@DEFENSES("defective")
@dataclass(frozen=True)
class Defective(Retrained):
    """Fixed random masks in the bottom layers (Luo et al., arXiv:1911.08432). Trained by ``sparring train classifier --model
    defective:model=resnet18,keep=0.1 --scale paper``.

    Deterministic and differentiable: its adaptive attack is autograd (PROTOCOL 4.2, D1). Its claims are about attackers
    without its mask: ``twin:phi=new`` (D2), ``transfer:ghost=0.3`` (D3), ``transfer`` (D4), ``decision:warm=transfer`` (D6).
    """

    kind: ClassVar[str] = "defective"


@DEFENSES("spatial-dropout")
@dataclass(frozen=True)
class SpatialDropout(Retrained):
    """SpatialDropout in training (Tompson et al., arXiv:1411.4280); a plain network once trained: autograd is exact."""

    kind: ClassVar[str] = "spatial_dropout"


@DEFENSES("dropblock")
@dataclass(frozen=True)
class DropBlocked(Retrained):
    """DropBlock in training (Ghiasi et al., arXiv:1810.12890); a plain network once trained: autograd is exact."""

    kind: ClassVar[str] = "dropblock"


@DEFENSES("band-limited")
@dataclass(frozen=True)
class BandLimitedNet(Retrained):
    """Convolutions without high frequencies, in training and test (Dziedzic et al., arXiv:1911.09287): autograd is exact."""

    kind: ClassVar[str] = "band_limited"


@DEFENSES("label-smoothing")
@dataclass(frozen=True)
class LabelSmoothing(Retrained):
    """Trained with smoothed labels (``--smoothing 0.1``, Szegedy et al., arXiv:1512.00567). Autograd is exact, but losses saturate
    elsewhere: read the margin attacks.
    """

    def made_by(self, card: Mapping[str, object]) -> bool:
        smoothing = card.get("smoothing")
        return isinstance(smoothing, float | int) and smoothing > 0


@DEFENSES("adversarial-training")
@dataclass(frozen=True)
class AdversariallyTrained(Retrained):
    """Trained on attacked images (``sparring train adversarial``; Madry et al., arXiv:1706.06083): autograd is exact."""

    def made_by(self, card: Mapping[str, object]) -> bool:
        return bool(card.get("hardening"))


@DEFENSES("thermometer")
@dataclass(frozen=True)
class ThermometerCode(Retrained):
    """Thermometer-coded pixels (Buckman et al., ICLR 2018; ``--model thermometer:model=resnet18``). Its adaptive attack is BPDA
    (Athalye et al., arXiv:1802.00420, sec. 5.4): levels are passed by as the identity, codes as ramps.

    Differs from the paper: theirs relaxes levels and code in one, here the gradient is that of the units at the pixel's level.
    """

    kind: ClassVar[str] = "thermometer"

    def edit(self, system: Defended, classifier: Classifier) -> Defended:
        assert isinstance(classifier.network, nn.Sequential)
        quantizer, code, network = classifier.network
        assert isinstance(quantizer, Quantizer)
        stage = LevelStage(quantizer)
        return replace(system, network=nn.Sequential(code, network).eval(), stages=(*system.stages, stage))


class LevelStage(Stage):
    def __init__(self, levels: Quantizer) -> None:
        why = "a staircase: autograd gives zero, so the identity stands in, and codes behind it are ramps"
        super().__init__("levels", Surrogate(backward={"identity": "identity"}, random=False, why=why))
        self.levels = levels

    def forward(self, x: Tensor, noise: Noise) -> Tensor:
        return self.levels(x)


@DEFENSES("rse")
@dataclass(frozen=True)
class RSE(Retrained):
    """Random Self-Ensemble (Liu et al., arXiv:1712.00673): noise before every convolution (``--model noisy:model=resnet18``), fresh at
    every answer; join it with ``mean-prob:samples=10`` for the paper's ensemble. Its adaptive attack is autograd averaged over draws.
    """

    kind: ClassVar[str] = "noisy"

    def edit(self, system: Defended, classifier: Classifier) -> Defended:
        return replace(system, network=NoisyNetwork(classifier).eval(), noisy=True)


def ghosts(system: System, keep: float) -> System:
    """A source of transfer whose early units come and go (PROTOCOL 4.2, D3): see ``models.regularized.ghosted``."""
    assert isinstance(system.network, nn.Module)
    return replace(system, network=ghosted(system.network, keep), noisy=True, id=f"{system.id}/ghost{keep:g}")


def install_masks(network: nn.Module) -> dict[str, bytes]:
    """What was drawn when a network was made and tells twins apart: its masks, as bytes."""
    return {n: b.cpu().numpy().tobytes() for n, b in masks(network).items()}
