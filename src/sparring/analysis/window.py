"""From which noise on an adversarial image gets its label back, and up to which (the channels paper, sec. 4.3, Fig. 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparring.analysis.base import Analysis, analysis, attacked
from sparring.analysis.panel import Grid, Panel, per_image
from sparring.core.noise import Noise
from sparring.core.ranges import Count, Positive, Share
from sparring.core.spec import option
from sparring.subject import Subject

HALF = 0.5  # of the predictions: inside the window


@analysis("window")
@dataclass(frozen=True, kw_only=True)
class RecoveryWindow(Analysis):
    """Shares of predictions of the original, the adversarial and other classes under growing Gaussian noise, from adversarial images at growing distance
    from the clean one (channels paper, arXiv:1905.10907, Fig. 9). The window of an image: the strengths
    at which at least half its predictions are the original class.
    """

    pictures: ClassVar[bool] = False
    limit: ClassVar[int | None] = 20
    example: ClassVar[str] = "window MODEL --data test.npz --attack cw:steps=100 --stretches 1,2,4"

    attack: str = option(
        "cw:steps=100,searches=3", help="attack whose images are looked at, made on the undefended model"
    )
    stretches: tuple[Positive, ...] = option(
        (1.0, 2.0, 4.0, 8.0), help="how many times as far from the clean image they are put"
    )
    sigmas: tuple[Share, ...] = option(
        (0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2), help="std of the noise, in units of [0,1]"
    )
    draws: Count = option(20, help="predictions an image and strength")

    def panel(self, subject: Subject) -> Panel:
        images, network = subject.images, subject.prepared.model
        clean, y = images.x, images.y
        adversarial = attacked(subject, self.attack, self.seed)
        grids: list[Grid] = []
        data: dict[str, object] = {"sigmas": list(self.sigmas)}
        for stretch in self.stretches:
            x = (clean + stretch * (adversarial - clean)).clamp(0, 1)
            with torch.no_grad():
                fooled = (network(clean).argmax(1) == y) & (network(x).argmax(1) != y)
                wrong = network(x).argmax(1)
            distance = (x - clean)[fooled].flatten(1).norm(dim=1)
            noise = Noise.of(self.seed, "window", subject.keys).at(fooled.nonzero()[:, 0])
            said = [self._shares(network, x[fooled], y[fooled], wrong[fooled], s, noise) for s in self.sigmas]
            shares = [share.mean(0).tolist() if len(share) else [float("nan")] * 3 for share in said]
            inside = torch.stack([share[:, 0] >= HALF for share in said]).sum(0)
            ids = [images.ids[i] for i in fooled.nonzero()[:, 0].tolist()]
            window = per_image(ids, inside.tolist())
            n, far = int(fooled.sum()), float(distance.median()) if int(fooled.sum()) else None
            title = f"{stretch:g} times the distance of {self.attack}, n={n} of {len(y)}, median L2 {far or 0:.3f}"
            rows = [[f"{s:g}", *share] for s, share in zip(self.sigmas, shares, strict=True)]
            grids.append(Grid(title, ["sigma", "original", "adversarial", "other"], rows))
            data[f"{stretch:g}"] = {"n": n, "distance": far, "shares": shares, "window": window}
        return Panel(f"recovery windows of {subject.model.name}", data, grids)

    def _shares(
        self, network: torch.nn.Module, x: Tensor, y: Tensor, wrong: Tensor, sigma: float, noise: Noise
    ) -> Tensor:
        """(N,3) shares of an image's predictions that are the original, the adversarial or another class."""
        counts = torch.zeros(len(x), 2)
        for draw in range(self.draws):
            with torch.no_grad():
                z = (x + sigma * noise.child(f"draw{draw}").normal("field", x.shape[1:])).clamp(0, 1)
                said = network(z).argmax(1)
            counts += torch.stack([said == y, said == wrong], 1)
        return torch.cat([counts, self.draws - counts.sum(1, keepdim=True)], 1) / self.draws
