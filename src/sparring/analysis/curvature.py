"""How curved the loss is at clean and adversarial images (the channels paper, sec. 4.5 and C.12, Fig. 3, 18 and 19)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from sparring.analysis.base import Analysis, analysis, attacked
from sparring.analysis.panel import Grid, Panel, per_image
from sparring.core.errors import SparringError
from sparring.core.ranges import Count
from sparring.core.spec import option
from sparring.subject import Subject

Loss = Callable[[Tensor], Tensor]


@analysis("curvature")
@dataclass(frozen=True, kw_only=True)
class Curvature(Analysis):
    """The largest eigenvalues of the Hessian of the cross-entropy with respect to the image, at the clean image for its class and at the adversarial
    one for the class that it is given (channels paper, arXiv:1905.10907, Fig. 3, 18, 19): Hessian-vector products, Lanczos by scipy.
    """

    pictures: ClassVar[bool] = False
    limit: ClassVar[int | None] = 20
    example: ClassVar[str] = "curvature MODEL --data test.npz --attack cw:steps=100 --count 5"

    attack: str = option(
        "cw:steps=100,searches=3", help="attack whose images are looked at, made on the undefended model"
    )
    count: Count = option(5, help="eigenvalues an image")

    def panel(self, subject: Subject) -> Panel:
        images, network = subject.images, subject.model
        clean, y = images.x, images.y
        adversarial = attacked(subject, self.attack, self.seed)
        with torch.no_grad():
            right, wrong = network(clean).argmax(1) == y, network(adversarial).argmax(1)
        kept = (right & (wrong != y)).nonzero()[:, 0].tolist()
        if not kept:
            raise SparringError(f"curvature: {self.attack} fooled none of the {len(y)} images; give a stronger attack")
        spectra = {
            name: np.stack([top_eigenvalues(_loss(network, labels[i]), x[i], self.count, self.seed) for i in kept])
            for name, x, labels in (("clean", clean, y), ("adversarial", adversarial, wrong))
        }
        ids = [images.ids[i] for i in kept]
        higher = (spectra["adversarial"][:, 0] > spectra["clean"][:, 0]).astype(float)
        rows = [
            [f"{i + 1}", *(float(np.median(values[:, i])) for values in spectra.values())] for i in range(self.count)
        ]
        title = f"top eigenvalues of the input Hessian of {subject.model.name}, median of the {len(kept)} of {len(y)} images that {self.attack} fooled"
        by_rank = {
            name: {f"{i + 1}": per_image(ids, values[:, i].tolist(), "median") for i in range(self.count)}
            for name, values in spectra.items()
        }
        data = {"n": len(kept), "spectra": by_rank, "higher": per_image(ids, higher.tolist(), "share")}
        text = f"the largest is larger at the adversarial image of {100 * higher.mean():.1f} % of n={len(kept)} images"
        return Panel(title, data, [Grid(title, ["eigenvalue", *spectra], rows)], text=[text])


def _loss(network: torch.nn.Module, label: Tensor) -> Loss:
    return lambda x: torch.nn.functional.cross_entropy(network(x[None]), label[None])


class _Hessian(LinearOperator):
    """Products of the Hessian of a loss at an image with vectors (C*H*W,), in the precision of the image."""

    def __init__(self, loss: Loss, x: Tensor) -> None:
        super().__init__(np.float32, (x.numel(), x.numel()))
        with torch.enable_grad():
            self.x = x.detach().requires_grad_(True)
            (self.grad,) = torch.autograd.grad(loss(self.x), self.x, create_graph=True)

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        if not self.grad.requires_grad:  # nothing is curved
            return np.zeros(self.x.numel(), np.float32)
        direction = torch.as_tensor(x, dtype=self.x.dtype).reshape(self.x.shape)
        product = torch.autograd.grad(
            self.grad, self.x, direction, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return product[0].flatten().numpy()


def top_eigenvalues(loss: Loss, x: Tensor, count: int, seed: int = 0) -> np.ndarray:
    """(count,) the algebraically largest eigenvalues of the Hessian of ``loss`` (image (C,H,W) -> a number) at x, the largest first."""
    start = np.random.default_rng(seed).standard_normal(x.numel()).astype(np.float32)
    hessian = _Hessian(loss, x)
    if not hessian.matvec(start).any():  # a plane, of which Lanczos makes nothing
        return np.zeros(count)
    largest = eigsh(hessian, k=count, which="LA", v0=start, return_eigenvectors=False)
    return np.sort(largest)[::-1]
