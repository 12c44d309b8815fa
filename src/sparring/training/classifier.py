"""Train a classifier, plainly or adversarially (Madry et al., arXiv:1706.06083, eq. 2.1; Tramer et al., arXiv:1705.07204, sec. 3.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparring.attacks.attack import attack
from sparring.core.errors import SparringError
from sparring.core.ranges import Rate
from sparring.core.registry import TASKS
from sparring.core.spec import Spec, option, parse, without_folders
from sparring.data.images import ImageSet
from sparring.models.classifier import Classifier, weights_hash
from sparring.models.load import load_model, require_trained
from sparring.models.weights import RANDOM, Card, seeded
from sparring.training.base import Scales, Trained, Training, TrainingSpec, fitting
from sparring.training.loop import LoopConfig, Progress, Task, train


@dataclass(frozen=True)
class Hardening:
    """What replaces the images of adversarial training, also those held out: points of ``attack`` (spec text), run to its end on the network of
    the moment in eval mode.

    ``static``: trained classifiers on one of which, or on the network itself, each batch is attacked instead, drawn by chance; of the
    images held out each has its own among them, so that the epoch is not chosen by who hides its own gradient best. ``clean``: weight of
    the loss on the images themselves beside that on the attacked ones.
    """

    attack: str
    static: tuple[Classifier, ...] = ()
    clean: float = 0.0

    @property
    def card(self) -> Card:
        """What the card says of it."""
        card: Card = {"hardening": self.attack}
        if self.static:
            card["static"] = [without_folders(s.name) for s in self.static]
            card["static_hash"] = [weights_hash(s) for s in self.static]
        return card | ({"clean": self.clean} if self.clean else {})


class Classification(Task):
    """Cross-entropy of a classifier on labeled images.

    ``hardening``: None for plain training. ``augment``: random crop after padding by 4 and horizontal flip. ``smoothing``: the true class gets
    1 - smoothing and the others share the rest (Szegedy et al., arXiv:1512.00567, sec. 7; the defective paper shares among the K-1 others, as here).
    """

    def __init__(
        self,
        images: ImageSet,
        classifier: Classifier,
        card: Mapping[str, object],
        hardening: Hardening | None = None,
        augment: bool = False,
        smoothing: float = 0.0,
        seed: int = 0,
    ) -> None:
        if not 0 <= smoothing < 1:
            raise SparringError(f"smoothing={smoothing:g} must be in [0,1)")
        how = (hardening or Hardening("")).card | {"augment": augment, "smoothing": smoothing}
        super().__init__(classifier.network, images, {**card, **how})
        self.images, self.classifier = images, classifier
        self.hardening, self.augment, self.smoothing, self.seed = hardening, augment, smoothing, seed

    def losses(self, network: nn.Module, index: Tensor, epoch: int, train: bool) -> tuple[Tensor, Tensor]:
        x, y = self.images.pixels(index).to(self.device), self.images.y[index].to(self.device)
        if train and self.augment:
            x = augmented(x)
        if self.hardening is None:
            return self._cross_entropy(network, x, y, train)
        points = self._attacked(self.hardening, x, y, index, epoch, train)
        self.mode(network, train)
        loss, right = self._cross_entropy(network, points, y, train)
        if clean := self.hardening.clean:
            loss = (1 - clean) * loss + clean * self._cross_entropy(network, x, y, train)[0]
        return loss, right

    def _cross_entropy(self, network: nn.Module, x: Tensor, y: Tensor, train: bool) -> tuple[Tensor, Tensor]:
        z = network((x - self.classifier.mean) / self.classifier.std)
        loss = F.cross_entropy(z, y, reduction="none")
        if train and self.smoothing:
            log = z.log_softmax(1)
            others = (log.sum(1) - log.gather(1, y[:, None])[:, 0]) / (z.shape[1] - 1)
            loss = (1 - self.smoothing) * loss - self.smoothing * others
        return loss, z.argmax(1) == y

    def _attacked(self, hardening: Hardening, x: Tensor, y: Tensor, index: Tensor, epoch: int, train: bool) -> Tensor:
        """Points of the images x (b,C,H,W): a batch's of one network of the pool, those held out each of its own."""
        pool = (self.classifier, *hardening.static)
        source = index % len(pool)
        if train and len(pool) > 1:
            source = torch.randint(len(pool), ()).expand(len(index))
        points = x.clone()
        for number in source.unique().tolist():
            rows = (source == number).nonzero()[:, 0]
            own = rows.to(x.device)
            outcome = attack(hardening.attack).run(
                pool[number].to(self.device).eval(),
                x[own],
                y[own],
                ids=[self.images.ids[i] for i in index[rows].tolist()],
                seed=self.seed + epoch,
                slots=len(rows),
                stop="never",
            )
            points[own] = outcome.x.detach()
        return points


def augmented(x: Tensor) -> Tensor:
    """Each image (B,C,H,W) padded by 4, cropped at random and flipped by chance, from the loop's own seeded generator."""
    count, _, height, width = x.shape
    padded = F.pad(x, (4, 4, 4, 4))
    top, left = torch.randint(0, 9, (2, count), device="cpu")
    rows = (top[:, None] + torch.arange(height)).to(x.device)
    columns = torch.arange(width).expand(count, -1)
    columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns) + left[:, None]
    image = torch.arange(count, device=x.device)[:, None, None]
    return (
        padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns.to(x.device)[:, None, :]]
        .permute(0, 3, 1, 2)
        .contiguous()
    )


def train_classifier(
    images: ImageSet,
    config: LoopConfig,
    out: str | Path,
    progress: Progress | None = None,
    *,
    model: str = "small_cnn",
    hardening: Hardening | None = None,
    augment: bool = False,
    smoothing: float = 0.0,
    log: str | None = None,
) -> Classifier:
    """Train ``model`` (spec text without weights; its initial weights are drawn by the seed) on ``images``; see ``loop.train``.
    Raises SparringError for a static classifier that knows fewer classes than the images have.
    """
    spec = parse(model)
    if "weights" in spec.values:
        raise SparringError(f"{model}: a model to be trained has no weights= yet")
    sizes = {"channels": images.shape[0]} if spec.name == "small_cnn" else {}
    fields = {**spec.values, "classes": str(int(images.y.max()) + 1), **{k: str(v) for k, v in sizes.items()}}
    text = str(Spec(spec.name, fields))
    classifier = fitting(load_model(str(Spec(spec.name, {**fields, "weights": RANDOM}))), images)
    with seeded(config.seed):
        for module in classifier.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
    for other in hardening.static if hardening else ():
        with torch.no_grad():
            known = fitting(other.eval().requires_grad_(False), images)(images.pixels(slice(2))).shape[1]
        if known <= int(images.y.max()):
            raise SparringError(
                f"static={other.name} knows {known} classes, {images.name} has {int(images.y.max()) + 1}; give classifiers of these images"
            )
    card = {"model": text.replace(":", f":weights={Path(out).name},", 1)}
    task = Classification(images, classifier, card, hardening, augment, smoothing, config.seed)
    train(task, config, out, progress, log)
    classifier.name = card["model"]
    return classifier.eval().requires_grad_(False)


@TASKS("classifier")
@dataclass(frozen=True, kw_only=True)
class ClassifierTraining(Training):
    """A classifier from nothing. Scale fast: SGD, 30 epochs, rate up to .2 and down, crops and flips, last epoch; paper: the defective
    paper's (Luo et al., arXiv:1911.08432) SGD, 350 epochs, rate .1 divided by ten at 150 and 250, crops and flips, last epoch.
    """

    scales: ClassVar[Scales] = {
        "small": LoopConfig(),
        "fast": LoopConfig(
            epochs=30, batch=128, lr=0.2, optimizer="sgd", weight_decay=5e-4, validation=0.02, keep="last"
        ),
        "paper": LoopConfig(
            epochs=350,
            batch=128,
            lr=0.1,
            optimizer="sgd",
            weight_decay=5e-4,
            schedule="steps",
            drops=(150, 250),
            keep="last",
        ),
    }
    example: ClassVar[str] = "classifier --data mnist5k:split=train --out small_cnn.safetensors"

    model: str = option("small_cnn", help="small_cnn, cifar_resnet20, ace_resnet:depth=8,lam=10, timm:NAME, ...")
    attack: str = option("", help="adversarial training: spec of the attack, pgd:eps=0.1,steps=7")
    augment: bool = option(False, help="random crops and flips; on in every scale but small")
    smoothing: Rate = option(0.0, help="label smoothing: share of the other classes")

    def hardening(self) -> Hardening | None:
        """What replaces the images, if anything does."""
        return Hardening(self.attack) if self.attack else None

    def train(self, spec: TrainingSpec) -> Trained:
        trained = train_classifier(
            spec.images,
            spec.schedule.config(self.scales),
            spec.out,
            spec.progress,
            model=self.model,
            hardening=self.hardening(),
            augment=self.augment or spec.schedule.scale != "small",
            smoothing=self.smoothing,
            log=spec.log,
        )
        return Trained.of(spec.out, trained.name.replace(spec.out.name, str(spec.out)))


@TASKS("adversarial")
@dataclass(frozen=True, kw_only=True)
class AdversarialTraining(ClassifierTraining):
    """PGD adversarial training (Madry et al., arXiv:1706.06083): ``classifier`` with an attack. With ``static`` it is ensemble adversarial
    training (Tramer et al., arXiv:1705.07204), whose networks have a one-step attack and half of the loss on clean images:
    ``--attack fgsm:eps=16/255 --clean 0.5``. Differs from that paper: one eps for all images.
    """

    example: ClassVar[str] = (
        "adversarial --data mnist5k:split=train --out robust.safetensors --attack pgd:eps=0.15,steps=7,step_size=0.25"
    )

    attack: str = option("pgd:eps=8/255,steps=7,step_size=0.25", help="the attack whose points are trained on")
    static: tuple[str, ...] = option(
        (), help="trained classifiers: each batch is attacked on one of them or on the network itself, by chance"
    )
    clean: Rate = option(0.0, help="weight of the loss on clean images beside that on attacked ones")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.attack:
            raise SparringError("adversarial: attack= is empty; name one, or use: sparring train classifier")

    def hardening(self) -> Hardening:
        return Hardening(self.attack, tuple(require_trained(load_model(text)) for text in self.static), self.clean)
