"""What a network reads where shape and texture disagree (the question of Geirhos et al., arXiv:1811.12231)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import torch
from annotated_types import Ge, Le
from torch import Tensor

from sparring.analysis.base import Comparison, analysis
from sparring.analysis.panel import Grid, Panel, Sheet
from sparring.analysis.patches import Network, confidences, share_text
from sparring.core.ranges import Count
from sparring.core.spec import option
from sparring.data.cues import cue_images
from sparring.data.images import ImageSet
from sparring.subject import Subject


@analysis("cues")
@dataclass(frozen=True, kw_only=True)
class ShapeOrTexture(Comparison):
    """Whether models read shapes or textures (Geirhos et al., arXiv:1811.12231): drawn pictures whose two cues belong to different
    classes. The models must know these classes: ``sparring train classifier --data cues:split=train``.
    """

    needs_data: ClassVar[bool] = False
    example: ClassVar[str] = "cues trained:plain.safetensors trained:defective.safetensors --png cues.png"

    count: Count = option(1000, help="number of images of each kind")
    size: Annotated[int, Ge(16), Le(4096)] = option(32, help="their side")

    def images(self) -> ImageSet:
        return cue_images("test", self.count, self.size, self.seed)[0]

    def compare(self, subjects: Sequence[Subject]) -> Panel:
        agree = subjects[0].images
        conflict, texture = cue_images("conflict", self.count, self.size, self.seed)
        rows, decisions = [], {}
        for subject in subjects:
            name, network = subject.model.name, subject.model
            right = int((confidences(network, agree.x)[0] == agree.y).sum())
            read = cue_decisions(network, conflict.x, conflict.y, texture)
            decisions[name] = {"agree": right, **read._asdict(), "shape_bias": read.bias}
            shares = [f"{100 * v / read.n:.1f} %" for v in (read.shape, read.texture)]
            rows.append([name, share_text(right, len(agree)), *shares, read.bias])
        title = f"cues that agree and that conflict, n={self.count} each"
        table = Grid(title, ["model", "agree", "shape", "texture", "shape bias"], rows)
        sheet = Sheet(f"cues, seed {self.seed}", {"agree": agree.x[:8], "conflict": conflict.x[:8]})
        return Panel(title, decisions, [table], sheets=[sheet])


class Cues(NamedTuple):
    """Of ``n`` pictures whose cues conflict: how many answers were the shape's class, and how many the texture's."""

    shape: int
    texture: int
    n: int

    @property
    def bias(self) -> float:
        """Shape bias: shape / (shape + texture) (Geirhos et al., arXiv:1811.12231, sec. 2); nan without either."""
        decided = self.shape + self.texture
        return self.shape / decided if decided else float("nan")


def cue_decisions(network: Network, x: Tensor, shape: Sequence[int] | Tensor, texture: Sequence[int] | Tensor) -> Cues:
    """What a network reads where shape and texture belong to different classes."""
    label, _ = confidences(network, x)
    hits = [int((label == torch.as_tensor(t)).sum()) for t in (shape, texture)]
    return Cues(hits[0], hits[1], len(x))
