"""The training tasks ``s2snet`` and ``ace``: autoencoders before a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sparring.core.errors import SparringError
from sparring.core.ranges import Count, Step
from sparring.core.registry import TASKS
from sparring.core.spec import option
from sparring.defenses.learned import build_network
from sparring.models.load import load_model
from sparring.models.unet import SegNet
from sparring.models.weights import load_weights, read_card
from sparring.training.base import Scales, Trained, Training, TrainingSpec, fitting
from sparring.training.frontends import Reconstruction, StructureToSignal
from sparring.training.loop import LoopConfig


@TASKS("s2snet")
@dataclass(frozen=True, kw_only=True)
class S2SNetTraining(Training):
    """S2SNet (Folz et al., arXiv:1803.07994): an autoencoder without labels, then its decoder by the classifier's gradients.

    ``epochs``, ``batch``, ``lr`` and ``ema`` hold for both stages; ``tuning_epochs`` and ``tuning_lr`` for the decoder's stage alone, and
    win there. Without any, each stage has its scale's own (``scales``, ``tuning``).
    """

    scales: ClassVar[Scales] = {
        "small": LoopConfig(epochs=8, batch=64, lr=0.002),
        "paper": LoopConfig(epochs=1, batch=64, lr=0.001, schedule="constant"),
    }
    tuning: ClassVar[Scales] = {
        "small": LoopConfig(epochs=3, batch=64, lr=0.0005),
        "paper": LoopConfig(epochs=1, batch=64, lr=1e-4),
    }
    stages: ClassVar[Mapping[str, Sequence[Sequence[int]]]] = {
        "small": ((32, 32), (64, 64), (128, 128)),
        "paper": SegNet.FULL,
    }
    example: ClassVar[str] = (
        "s2snet --target cifar_resnet56:weights=W.safetensors --data train.npz --out s2s.safetensors"
    )

    target: str = option("", help="the classifier that tunes the decoder; without it: the plain autoencoder")
    start: str | None = option(None, help="autoencoder weights to begin at; default: trained first, as OUT-autoencoder")
    tuning_epochs: Count | None = option(None, help="epochs of the decoder's stage; default: --epochs, or the scale's")
    tuning_lr: Step | None = option(None, help="rate of the decoder's stage; default: --lr, or the scale's")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.target and (self.start, self.tuning_epochs, self.tuning_lr) != (None, None, None):
            raise SparringError(
                "s2snet: start, tuning_epochs and tuning_lr are of the decoder's stage; it needs target"
            )

    def train(self, spec: TrainingSpec) -> Trained:
        images, schedule, out = spec.images, spec.schedule, spec.out
        tuning = schedule.config(self.tuning, epochs=self.tuning_epochs, lr=self.tuning_lr)
        stages = [list(s) for s in self.stages[schedule.scale]]
        network = {"kind": "segnet", "channels": images.shape[0], "stages": stages}
        first = Path(self.start) if self.start else out.with_name(f"{out.stem}-autoencoder.safetensors")
        first = first if self.target else out
        if not self.target or not (self.start or first.exists()):
            plain = Reconstruction(images, build_network(network), {"network": network})
            spec.fit(plain, schedule.config(self.scales), first)
        if self.target:
            network = read_card(first).get("network", network)
            net = build_network(network)
            load_weights(net, first)
            card = {"network": network, "start": first.name}
            spec.fit(StructureToSignal(images, fitting(load_model(self.target), images), net, card), tuning)
        return Trained.of(out, f"s2snet:weights={out}")


@TASKS("ace")
@dataclass(frozen=True, kw_only=True)
class ACETraining(Training):
    """ACE's plug-in: a caged U-Net autoencoder for any trained model (ACE paper, sec. 3). Jointly with a classifier:
    ``train classifier --model ace_resnet``.
    """

    scales: ClassVar[Scales] = {
        "small": LoopConfig(epochs=8, batch=64, lr=0.002),
        "paper": LoopConfig(epochs=30, batch=64, lr=0.001),
    }
    widths: ClassVar[Mapping[str, Sequence[int]]] = {"small": (16, 32, 64), "paper": (32, 64, 128, 256)}
    example: ClassVar[str] = "ace --data train.npz --out ace.safetensors"

    def train(self, spec: TrainingSpec) -> Trained:
        widths = list(self.widths[spec.schedule.scale])
        network = {"kind": "caged_unet", "channels": spec.images.shape[0], "widths": widths}
        task = Reconstruction(spec.images, build_network(network), {"network": network})
        spec.fit(task, spec.schedule.config(self.scales))
        return Trained.of(spec.out, f"shift+ace:weights={spec.out}")
