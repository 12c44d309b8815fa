"""Train a network in front of a frozen classifier: HGD's denoiser, S2SNet's autoencoder, ACE's plug-in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparring.core.errors import SparringError
from sparring.core.prepare import prepare
from sparring.core.registry import suggest
from sparring.data.images import ImageSet
from sparring.models.classifier import Classifier, weights_hash
from sparring.training.attacked import AttackedSet, OnlineSet
from sparring.training.loop import Task

Tap = Literal["pixel", "feature", "logits", "label"]
# the last feature map before pooling, by the name of its module, for architectures we know
FEATURES = ("layer4", "layer3", "Mixed_7c", "features", "conv_head", "conv2")


class Tapped(nn.Module):
    """A frozen classifier that also hands out one of its feature maps: x -> (logits, feature map of module ``name``)."""

    def __init__(self, classifier: Classifier, name: str = "") -> None:
        super().__init__()
        self.classifier = classifier.eval().requires_grad_(False)
        modules = dict(classifier.network.named_modules())
        name = name or next((f for f in FEATURES if f in modules), "")
        if name not in modules or not name:
            raise SparringError(
                f"feature={name!r} is not a module of {classifier.name}{suggest(name, [m for m in modules if m.count('.') < 1 and m])}"
            )
        self.name = name
        self._seen: Tensor | None = None
        modules[name].register_forward_hook(self._note)

    def _note(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        self._seen = output

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.classifier(x)
        seen, self._seen = self._seen, None
        assert seen is not None, f"{self.name} was not called in the forward pass"
        return logits, seen


def flipped(*images: Tensor) -> list[Tensor]:
    """Each row of the images (b,C,H,W) flipped by chance, the same rows of all, from the loop's own seeded generator."""
    flip = (torch.rand(len(images[0])) < 0.5).to(images[0].device)[:, None, None, None]
    return [torch.where(flip, x.flip(-1), x) for x in images]


class Denoising(Task):
    """HGD (arXiv:1712.02976, sec. 3.2): bring the denoised image's ``tap`` near that of the clean image.

    pixel: mean |x' - x| (PGD, pixel guided). feature: mean L1 of the last feature map (FGD). logits: mean L1 of the logits
    (LGD). label: cross-entropy of the denoised image (CGD). The classifier is frozen, BatchNorm statistics included. Differs
    from the paper: its norm is not stated, L1 means are what its code did; ``flip``: the pair is flipped together, as there.
    """

    def __init__(
        self,
        pairs: AttackedSet | OnlineSet,
        target: Classifier,
        network: nn.Module,
        tap: Tap,
        card: Mapping[str, object],
        feature: str = "",
        flip: bool = True,
    ) -> None:
        super().__init__(network, pairs, card)
        self.pairs, self.tap, self.flip = pairs, tap, flip
        self.target = Tapped(target, feature)
        # where no feature map is needed the folded copy gives the same logits faster
        self.logits = prepare(target, pairs.images.pixels(slice(2))).model
        self.card |= {
            "tap": tap,
            "feature": self.target.name,
            "target": target.name,
            "target_hash": weights_hash(target),
        }

    @property
    def groups(self) -> Tensor:
        return self.pairs.groups

    def losses(self, network: nn.Module, index: Tensor, epoch: int, train: bool) -> tuple[Tensor, Tensor | None]:
        noisy, clean, y = (t.to(self.device) for t in self.pairs.batch(index))
        self.target.to(self.device)
        self.logits.to(self.device)
        if train and self.flip:
            noisy, clean = flipped(noisy, clean)
        out = network(noisy)
        if self.tap == "pixel":
            return (out - clean).abs().flatten(1).mean(1), None
        if self.tap == "feature":
            logits, features = self.target(out)
            with torch.no_grad():
                _, wanted = self.target(clean)
            return (features - wanted).abs().flatten(1).mean(1), logits.argmax(1) == y
        logits = self.logits(out)
        right = logits.argmax(1) == y
        if self.tap == "label":
            return F.cross_entropy(logits, y, reduction="none"), right
        with torch.no_grad():
            wanted = self.logits(clean)
        return (logits - wanted).abs().mean(1), right


class Reconstruction(Task):
    """A plain autoencoder: mean squared error per image. S2SNet's first stage, ACE's plug-in (needs no labels)."""

    def __init__(self, images: ImageSet, network: nn.Module, card: Mapping[str, object]) -> None:
        super().__init__(network, images, {**card, "objective": "reconstruction"})
        self.images = images

    def losses(self, network: nn.Module, index: Tensor, epoch: int, train: bool) -> tuple[Tensor, Tensor | None]:
        x = self.images.pixels(index).to(self.device)
        if train:
            (x,) = flipped(x)
        return (network(x) - x).square().flatten(1).mean(1), None


class StructureToSignal(Reconstruction):
    """S2SNet's second stage (arXiv:1803.07994, sec. 3.1): only the decoder is trained, by cross-entropy of the frozen
    classifier on the reconstruction. The encoder stays in eval mode, BatchNorm statistics too.

    Differs from the paper: it names no loss, cross-entropy with the true label is our reading.
    """

    def __init__(self, images: ImageSet, target: Classifier, network: nn.Module, card: Mapping[str, object]) -> None:
        super().__init__(images, network, card)
        self.target = prepare(target, images.pixels(slice(2))).model
        network.get_submodule("encoder").requires_grad_(False)
        self.card |= {
            "objective": "classifier's cross-entropy, decoder only",
            "target": target.name,
            "target_hash": weights_hash(target),
        }

    def mode(self, network: nn.Module, train: bool) -> None:
        super().mode(network, train)
        self.network.get_submodule("encoder").eval()

    def losses(self, network: nn.Module, index: Tensor, epoch: int, train: bool) -> tuple[Tensor, Tensor]:
        x, y = self.images.pixels(index).to(self.device), self.images.y[index].to(self.device)
        if train:
            (x,) = flipped(x)
        z = self.target.to(self.device)(network(x))
        return F.cross_entropy(z, y, reduction="none"), z.argmax(1) == y
