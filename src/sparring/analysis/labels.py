"""Labels around one image (ACE, Fig. 4 and 8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from torch import Tensor

from sparring.analysis.base import Analysis, analysis
from sparring.analysis.gradients import class_loss
from sparring.analysis.panel import Map, Panel
from sparring.core.errors import SparringError
from sparring.core.noise import Noise
from sparring.core.ranges import Natural, Positive
from sparring.core.spec import option, without_folders
from sparring.models.overlap import bait_pixels
from sparring.subject import Subject


@analysis("labels")
@dataclass(frozen=True, kw_only=True)
class Labels(Analysis):
    """Labels around one image along its gradient on and off the bait pixels, of the model or of a system that defends it (ACE paper, Fig. 4 and 8)."""

    example: ClassVar[str] = "labels MODEL --data test.npz --image 3 --reach 20 --png labels.png"

    image: Natural = option(0, help="number of the image in the set")
    reach: Positive = option(10.0, help="how far to go along each axis, l2")
    defense: str | None = option(
        None, help="defense whose system is asked, one draw for all points; its gradient is the declared one"
    )
    points: Annotated[int, Ge(1), Le(10**4)] = option(41, help="points along each axis")

    @property
    def defenses(self) -> Sequence[str]:
        return [self.defense] if self.defense else []

    def panel(self, subject: Subject) -> Panel:
        images, system = subject.images, subject.systems[self.defense or "none"].system()
        if self.image >= len(images):
            raise SparringError(f"labels: image={self.image}, but the set has {len(images)} images")
        x, y = images.x[self.image : self.image + 1], images.y[self.image : self.image + 1]
        keys = subject.keys[self.image : self.image + 1]

        def network(points: Tensor) -> Tensor:
            return system.scores(points, Noise.of(self.seed, "labels", keys.expand(len(points))))

        with torch.enable_grad():
            leaf = x.clone().requires_grad_(True)
            (grad,) = torch.autograd.grad(class_loss(network, y)(leaf).sum(), leaf)
        if not bool(grad.any()):
            raise SparringError(
                f"labels: {self.defense or subject.model.name} gives no gradient at {images.ids[self.image]}, so there is no direction to go along"
            )
        labels = label_map(network, x, grad, bait_pixels(*x.shape[-2:]), self.reach, self.points)
        middle = self.points // 2
        same = (labels == labels[middle, middle]).double()
        kept, on, off = float(same.mean()), float(same[middle].mean()), float(same[:, middle].mean())
        behind = f" behind {without_folders(self.defense)}" if self.defense else ""
        title, reach = f"labels around {images.ids[self.image]}{behind}", (self.reach, self.reach)
        picture = Map(title, labels, "along the gradient on bait pixels", "off bait pixels", reach, "labels")
        text = f"{title}: {100 * kept:.1f} % of the map keeps the label at its center, {100 * on:.1f} % along bait pixels alone, {100 * off:.1f} % along the others"
        return Panel(
            title,
            {"kept": kept, "on_bait": on, "off_bait": off, "labels": labels.tolist()},
            maps=[picture],
            text=[text],
        )


def label_map(
    network: Callable[[Tensor], Tensor],
    x: Tensor,
    grad: Tensor,
    mask: Tensor,
    reach: Positive,
    points: Annotated[int, Ge(1), Le(10**4)] = 41,
) -> Tensor:
    """(points,points) labels of x + i e_off + j e_on for i (rows), j (columns) in [-reach, reach] (ACE, Fig. 4 and 8).

    x (1,C,H,W); e_on and e_off: ``grad`` on and off the pixels in ``mask`` (H,W), each at l2 length 1. Not clipped, as there.
    """
    on, off = grad * mask, grad * ~mask
    on, off = on / on.norm().clamp_min(1e-30), off / off.norm().clamp_min(1e-30)
    steps = torch.linspace(-reach, reach, points)
    with torch.no_grad():
        rows = [network(x + i * off + steps[:, None, None, None] * on).argmax(1) for i in steps]
    return torch.stack(rows)
