"""Shape against texture: shuffled patches (defective paper, sec. 4.1), stylized images, pictures whose cues conflict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sparring.core.errors import SparringError
from sparring.core.noise import Noise

Network = Callable[[Tensor], Tensor]


def patch_shuffle(x: Tensor, k: int, noise: Noise) -> Tensor:
    """Images (B,C,H,W) cut into k x k patches that change places, by one permutation per image (the same for every model).

    Raises SparringError where k does not divide height and width.
    """
    count, channels, height, width = x.shape
    if height % k or width % k:
        raise SparringError(f"{k} x {k} patches do not divide images of {height} x {width}")
    order = noise.uniform(f"patches{k}", (k * k,)).argsort(1)
    patches = x.reshape(count, channels, k, height // k, k, width // k).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    moved = patches.gather(1, order[:, :, None, None, None].expand_as(patches))
    return moved.unflatten(1, (k, k)).permute(0, 3, 1, 4, 2, 5).reshape(x.shape)


def confidences(network: Network, x: Tensor, batch: int = 128) -> tuple[Tensor, Tensor]:
    """Labels (N,) and their softmax probabilities (N,)."""
    with torch.no_grad():
        found = [network(part).softmax(1).max(1) for part in x.split(batch)]
    return torch.cat([f.indices for f in found]), torch.cat([f.values for f in found])


def right_for_all(models: Mapping[str, Network], x: Tensor, y: Tensor, confidence: float = 0.0) -> Tensor:
    """(N,) bool: every model is right, with at least ``confidence`` (the defective paper's code: .99). CC(all) of PROTOCOL 2.3."""
    kept = torch.ones(len(x), dtype=torch.bool)
    for network in models.values():
        label, sure = confidences(network, x)
        kept &= (label == y) & (sure >= confidence)
    return kept


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
