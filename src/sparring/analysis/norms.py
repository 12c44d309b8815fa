"""How steep the loss is at clean, noisy and adversarial images (the channels paper, sec. 4.5, Fig. 4 and 15 to 17)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparring.analysis.base import Analysis, analysis, attacked
from sparring.analysis.gradients import class_loss
from sparring.analysis.panel import Grid, Panel, per_image
from sparring.core.noise import Noise
from sparring.core.ranges import Share
from sparring.core.spec import option
from sparring.subject import Subject


@analysis("norms")
@dataclass(frozen=True, kw_only=True)
class GradientNorms(Analysis):
    """L2 norms of the input gradient of the cross-entropy, at the clean and at the adversarial image under growing Gaussian noise, for the original,
    the adversarial and a random other class (channels paper, arXiv:1905.10907, Fig. 4, 15 to 17). With a defense also apart for images whose label it
    recovers and those that it does not.
    """

    pictures: ClassVar[bool] = False
    limit: ClassVar[int | None] = 100
    example: ClassVar[str] = "norms MODEL --data test.npz --attack cw:steps=100 --defense gauss:std=0.02"

    attack: str = option(
        "cw:steps=100,searches=3", help="attack whose images are looked at, made on the undefended model"
    )
    defense: str = option("none", help="defense that recovers some of them")
    sigmas: tuple[Share, ...] = option(
        (0.0, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3), help="std of the noise, in units of [0,1]"
    )

    @property
    def defenses(self) -> Sequence[str]:
        return (self.defense,)

    def panel(self, subject: Subject) -> Panel:
        images, network = subject.images, subject.prepared.model
        clean, y, noise = images.x, images.y, Noise.of(self.seed, "norms", subject.keys)
        adversarial = attacked(subject, self.attack, self.seed)
        with torch.no_grad():
            right, wrong = network(clean).argmax(1) == y, network(adversarial).argmax(1)
            behind = subject.systems[self.defense].system().scores(adversarial, noise.child("judge")).argmax(1)
        kept = right & (wrong != y)  # what the attack fooled
        classes = {"original": y, "adversarial": wrong, "random": self._other(y, wrong, subject.classes, noise)}
        starts = {"clean": clean, "adversarial": adversarial}
        levels: dict[str, dict[str, dict[str, Tensor]]] = {start: {} for start in starts}
        for start, x in starts.items():
            steps = [(x + sigma * noise.normal(f"at {start}", x.shape[1:])).clamp(0, 1) for sigma in self.sigmas]
            for name, labels in classes.items():
                norms = [gradient_norms(network, z[kept], labels[kept]) for z in steps]
                levels[start][name] = {f"{sigma:g}": n for sigma, n in zip(self.sigmas, norms, strict=True)}
        fate = {"all": kept, "recovered": kept & (behind == y), "not recovered": kept & (behind != y)}
        at = {
            f"{start} image, {name} class": gradient_norms(network, x, classes[name])
            for start, x in starts.items()
            for name in ("original", "adversarial")
        }
        n = int(kept.sum())
        title = f"input gradient norms of {subject.model.name}, mean of the {n} of {len(y)} images that {self.attack} fooled"
        grids = [
            Grid(f"from the {start} image", ["sigma", *levels[start]], self._rows(levels[start])) for start in starts
        ]
        if subject.systems[self.defense] is not subject.systems["none"]:
            counts = ", ".join(f"{which} n={int(mask.sum())}" for which, mask in fate.items())
            rows = [[name, *(mean(norms[mask]) for mask in fate.values())] for name, norms in at.items()]
            grids.append(Grid(f"behind {self.defense}: {counts}", ["norm", *fate], rows))
        data: dict[str, object] = {"n": n, "sigmas": list(self.sigmas)}
        data["levels"] = {
            start: {name: {s: _of(images.ids, kept, v) for s, v in by.items()} for name, by in classes.items()}
            for start, classes in levels.items()
        }
        data["apart"] = {
            name: {which: _of(images.ids, mask, norms[mask]) for which, mask in fate.items()}
            for name, norms in at.items()
        }
        return Panel(title, {**data, "recovered": int(fate["recovered"].sum())}, grids)

    def _rows(self, levels: dict[str, dict[str, Tensor]]) -> list[list[object]]:
        sigmas = [f"{sigma:g}" for sigma in self.sigmas]
        return [[sigma, *(mean(norms[sigma]) for norms in levels.values())] for sigma in sigmas]

    def _other(self, y: Tensor, wrong: Tensor, classes: int, noise: Noise) -> Tensor:
        """(N,) a class that is neither, where there are three."""
        weights = noise.uniform("class", (classes,))
        index = torch.arange(len(y))
        weights[index, y] = weights[index, wrong] = -1.0
        return weights.argmax(1)


def gradient_norms(network: torch.nn.Module, x: Tensor, labels: Tensor, batch: int = 64) -> Tensor:
    """(N,) L2 norms of d cross-entropy(network(x), labels) / d x."""
    loss = class_loss(network, labels)
    norms = [torch.zeros(0)]
    for part in (x[i : i + batch] for i in range(0, len(x), batch)):
        with torch.enable_grad():
            leaf = part.detach().requires_grad_(True)
            (grad,) = torch.autograd.grad(loss(leaf).sum(), leaf)
        norms.append(grad.flatten(1).norm(dim=1))
    return torch.cat(norms)


def _of(ids: Sequence[str], mask: Tensor, values: Tensor) -> dict[str, object]:
    """Values of the images in ``mask`` (N,)."""
    return per_image([i for i, there in zip(ids, mask.tolist(), strict=True) if there], values.tolist())


def mean(values: Tensor) -> float | None:
    """The mean of what is there, None of nothing."""
    return float(values.mean()) if len(values) else None
