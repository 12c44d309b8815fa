"""Whether gradients of different sources look alike (S2SNet, arXiv:1803.07994, sec. 3.2 and Table 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparring.analysis.base import Analysis, analysis
from sparring.analysis.gradients import Function, class_loss, gradient_maps
from sparring.analysis.panel import Grid, Panel
from sparring.core.errors import SparringError
from sparring.core.extras import need
from sparring.core.spec import option
from sparring.defenses.learned import LearnedStage
from sparring.subject import Subject


@analysis("similarity")
@dataclass(frozen=True, kw_only=True)
class Similarity(Analysis):
    """SSIM of gradient magnitudes between the classifier, the classifier behind each defense, and the defense's own reconstruction; and
    between the true and another label (S2SNet, arXiv:1803.07994, sec. 3.2 and Table 1).
    """

    needs_defense: ClassVar[bool] = True
    pictures: ClassVar[bool] = False
    limit: ClassVar[int | None] = 100
    extra: ClassVar[str] = "analysis"
    example: ClassVar[str] = "similarity MODEL --data test.npz --defense s2snet:weights=s2s.safetensors"

    defense: tuple[str, ...] = option(help="defenses of one learned stage, comma-separated or repeated")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.defense:
            raise SparringError("similarity: defense names no defense; give one of a learned stage, such as hgd")

    @property
    def defenses(self) -> Sequence[str]:
        return self.defense

    def panel(self, subject: Subject) -> Panel:
        x, y, network = subject.images.x, subject.images.y, subject.prepared.model
        other = (y + 1 + (subject.keys % (subject.classes - 1))) % subject.classes
        maps = {"classifier": gradient_maps(class_loss(network, y), x)}
        labels = {"classifier": (maps["classifier"], gradient_maps(class_loss(network, other), x))}
        for spec in self.defense:
            stages = subject.systems[spec].stages
            if len(stages) != 1 or not isinstance(stages[0], LearnedStage):
                raise SparringError(
                    f"similarity: {spec} is not one learned stage; give a defense such as hgd or s2snet"
                )
            front = stages[0].network
            both = lambda u, front=front: network(front(u))  # noqa: E731
            maps[f"classifier behind {spec}"] = gradient_maps(class_loss(both, y), x)
            labels[spec] = (maps[f"classifier behind {spec}"], gradient_maps(class_loss(both, other), x))
            maps[f"{spec} alone"] = gradient_maps(reconstruction_loss(front), x)
        ssim = ssim_matrix(maps)
        between = {k: ssim_matrix({"true": a, "other": b})["true"]["other"] for k, (a, b) in labels.items()}
        rows = [[f"{i + 1} {a}", *(ssim[a][b] for b in maps)] for i, a in enumerate(maps)]
        title = f"mean SSIM of gradient magnitudes, n={len(x)}"
        text = "true against another label: " + ", ".join(f"{k} {v:.3f}" for k, v in between.items())
        table = Grid(title, ["source", *(str(i + 1) for i in range(len(maps)))], rows)
        return Panel(title, {"ssim": ssim, "true_against_other_label": between}, [table], text=[text])


def reconstruction_loss(network: Function) -> Function:
    """Mean squared error (b,) of an autoencoder to the image itself, which is held constant."""
    return lambda x: (network(x) - x.detach()).square().flatten(1).mean(1)


def ssim_matrix(maps: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Mean SSIM of every pair of sources' maps (N,H,W) in [0,1]: 11x11 Gaussian window, data range 1 (torchmetrics).

    Differs from the paper: it states neither window, channel reduction nor scaling; these are ours.
    """
    ssim = need("torchmetrics.functional.image", "analysis").structural_similarity_index_measure
    names = list(maps)
    if len({m.shape for m in maps.values()}) != 1:
        raise SparringError("gradient maps of different shapes cannot be compared")
    value = lambda a, b: float(ssim(maps[a][:, None], maps[b][:, None], data_range=1.0))  # noqa: E731
    return {a: {b: value(a, b) for b in names} for a in names}
