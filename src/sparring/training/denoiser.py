"""The training task ``hgd``: the denoiser of HGD (arXiv:1712.02976)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Gt, Le

from sparring.core.errors import SparringError
from sparring.core.registry import TASKS
from sparring.core.spec import option
from sparring.defenses.learned import build_network
from sparring.models.load import load_model
from sparring.training.attacked import AttackedConfig, AttackedSet, OnlineSet
from sparring.training.base import Scales, Trained, Training, TrainingSpec, fitting
from sparring.training.frontends import Denoising, Tap
from sparring.training.loop import LoopConfig


@TASKS("hgd")
@dataclass(frozen=True, kw_only=True)
class HGDTraining(Training):
    """HGD's denoiser (Liao et al., arXiv:1712.02976). Scale paper: full width, Adam .001, a tenth on plateau, batch 60, 30 epochs."""

    scales: ClassVar[Scales] = {
        "small": LoopConfig(epochs=3, batch=60, lr=0.002),
        "paper": LoopConfig(epochs=30, batch=60, lr=0.001, schedule="plateau"),
    }
    widths: ClassVar[Mapping[str, float]] = {"small": 0.25, "paper": 1.0}
    example: ClassVar[str] = (
        "hgd --target cifar_resnet56:weights=W.safetensors --data train.npz --attacked attacked/ --out lgd.safetensors"
    )

    target: str = option(help="the classifier in whose front the network is to stand")
    attacked: str | None = option(None, help="folder of ``train attacked``, made from the same images")
    source: tuple[str, ...] = option((), help="instead of attacked: make the pairs online from these classifiers")
    tap: Tap = option("logits", help="what guides it: pixel (PGD), feature (FGD), logits (LGD), label (CGD)")
    feature: str = option("", help="module of the target whose output is tap=feature; default: its last feature map")
    width: Annotated[float, Gt(0), Le(8)] | None = option(
        None, help="width factor of the DUNET; default: .25 small, 1 paper"
    )
    levels: Literal[4, 5] | None = option(None, help="5, or 4 for 32x32 images; default: by the images")
    dae: bool = option(False, help="the paper's DAE: no laterals, no shortcut")

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.attacked is None) == (not self.source):
            raise SparringError(
                "hgd: give --attacked FOLDER (from: sparring train attacked) or --source MODEL, one of the two"
            )

    def train(self, spec: TrainingSpec) -> Trained:
        images, schedule = spec.images, spec.schedule
        network = {
            "kind": "dunet",
            "channels": images.shape[0],
            "width": self.width or self.widths[schedule.scale],
            "levels": self.levels or (4 if images.shape[2] <= 32 else 5),
            "lateral": not self.dae,
        }
        if self.attacked is not None:
            pairs = AttackedSet(self.attacked, images)
        else:
            pairs = OnlineSet(
                images, [fitting(load_model(m), images) for m in self.source], AttackedConfig(seed=schedule.seed)
            )
        net, card = build_network(network), {"network": network}
        task = Denoising(pairs, fitting(load_model(self.target), images), net, self.tap, card, self.feature)
        spec.fit(task, schedule.config(self.scales))
        return Trained.of(spec.out, f"hgd:weights={spec.out}")
