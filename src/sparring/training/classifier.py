"""Train the small CNN, plainly (the embedded digits in under a minute on two cores) or adversarially (a few minutes)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from sparring.attacks.base import attack
from sparring.core.errors import SparringError
from sparring.data.images import ImageSet
from sparring.models.classifier import Classifier
from sparring.models.small import SmallCNN
from sparring.models.weights import save_weights, seeded


@dataclass(frozen=True)
class ClassifierConfig:
    """Adam with a one-cycle rate; ``validation``: share of the training images held out (never the test set).

    ``attack``: spec of the attack whose points replace the training and validation images (Madry et al.,
    arXiv:1706.06083, eq. 2.1), run to its end on the network of the moment; empty: none.
    """

    epochs: int = 12
    batch: int = 64
    lr: float = 0.003
    validation: float = 0.1
    seed: int = 0
    attack: str = ""

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1 or self.lr <= 0 or not 0 < self.validation < 1:
            raise SparringError("epochs and batch must be at least 1, lr positive, validation in (0,1)")


def train_classifier(
    images: ImageSet,
    config: ClassifierConfig,
    out: str | Path,
    progress: Callable[[int, int, str], None] | None = None,
) -> Classifier:
    """Train on ``images``, keep the epoch with the least validation loss, write OUT.safetensors and its card
    OUT.json.

    Deterministic given the seed, on one machine. Raises SparringError if the file exists.
    """
    path = Path(out)
    if path.suffix != ".safetensors":
        raise SparringError(f"out={out}: weights are written as .safetensors")
    if path.exists():
        raise SparringError(f"{path} exists; delete it or choose another --out")
    from sparring import __version__

    classes = int(images.y.max()) + 1
    rng = np.random.default_rng(config.seed)
    order = torch.from_numpy(rng.permutation(len(images)))
    held = max(1, int(config.validation * len(images)))
    validation, training = order[:held], order[held:]
    with seeded(config.seed):
        network = SmallCNN(images.x.shape[1], classes)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.lr)
    batches = -(-len(training) // config.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=config.epochs * batches)
    curve: list[dict[str, float]] = []
    best, best_loss = {k: v.clone() for k, v in network.state_dict().items()}, float("inf")
    start = time.time()
    for epoch in range(config.epochs):
        total = 0.0
        for part in torch.from_numpy(rng.permutation(len(training))).split(config.batch):
            index = training[part]
            x = _hardened(network, images, index, config, epoch)
            loss = F.cross_entropy(network.train()(x), images.y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(index)
        network.eval()
        hard = _hardened(network, images, validation, config, epoch)
        with torch.no_grad():
            z = network(hard)
            loss_held = float(F.cross_entropy(z, images.y[validation]))
            accuracy = float((z.argmax(1) == images.y[validation]).double().mean())
        curve.append(
            {
                "epoch": epoch + 1,
                "loss": total / len(training),
                "validation_loss": loss_held,
                "validation_accuracy": accuracy,
            }
        )
        if loss_held < best_loss:
            best, best_loss = {k: v.clone() for k, v in network.state_dict().items()}, loss_held
        if progress:
            progress(epoch + 1, config.epochs, f"validation accuracy {100 * accuracy:.1f} %")
    network.load_state_dict(best)
    card = {
        "model": f"small_cnn:weights={path.name},classes={classes},channels={images.x.shape[1]}",
        "data": images.name,
        "data_hash": images.hash,
        "config": asdict(config),
        "selected_by": "validation loss",
        "curve": curve,
        "seconds": round(time.time() - start, 1),
        "sparring": __version__,
    }
    save_weights(network.eval(), path, card)
    return Classifier(network.eval(), name=card["model"], channels=images.x.shape[1])


def _hardened(
    network: SmallCNN, images: ImageSet, index: torch.Tensor, config: ClassifierConfig, epoch: int
) -> torch.Tensor:
    """The images in ``index``, or the points an attack makes of them on the network in eval mode."""
    x = images.x[index]
    if not config.attack:
        return x
    ids = [images.ids[i] for i in index.tolist()]
    found = attack(config.attack).run(
        network.eval(), x, images.y[index], ids=ids, seed=config.seed + epoch, slots=len(x), stop="never"
    )
    return found.x
