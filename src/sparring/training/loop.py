"""The one training loop: any network, any loss per image; resumable, seeded, selected on images held out of training.

Hugging Face Accelerate places it: one process needs no configuration, ``accelerate launch`` shares each batch between
processes, ``mixed_precision`` is its own setting. Nothing reads or moves the caller's global random state.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from sparring.core.errors import SparringError
from sparring.core.extras import need
from sparring.core.ranges import Count, Inner, Natural, NonNegative, Rate, Seed, Step
from sparring.core.spec import check_ranges, without_folders
from sparring.core.trackers import Log
from sparring.models.weights import Card, save_weights, seeded

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class LoopConfig:
    """``validation``: share of the images held out for choosing the epoch (never a test set). ``schedule``: of the rate:
    constant, onecycle (peak ``lr``), steps (a tenth after each epoch in ``drops``), plateau (a tenth after 2 epochs without a
    lower validation loss). ``keep``: the epoch with the least validation loss, or the last. ``ema``: decay of a moving average
    of the weights, which is then what is validated and kept; 0: off.
    """

    epochs: Count = 12
    batch: Count = 64
    lr: Step = 0.003
    optimizer: Literal["adam", "sgd"] = "adam"
    weight_decay: NonNegative = 0.0
    schedule: Literal["constant", "onecycle", "steps", "plateau"] = "onecycle"
    drops: tuple[Natural, ...] = ()
    validation: Inner = 0.1
    keep: Literal["best", "last"] = "best"
    ema: Rate = 0.0
    precision: Literal["no", "bf16", "fp16"] = "no"
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_ranges("training", self)


class Examples(Protocol):
    """What is trained on: a number of examples with a name and a content hash."""

    @property
    def name(self) -> str: ...
    @property
    def hash(self) -> str: ...
    def __len__(self) -> int: ...


class Task:
    """What is trained on what. ``network`` is trained, everything else a task uses it freezes itself. Subclasses write
    ``losses``.

    ``card``: written into the weights' card, with the examples' name. ``network`` may be called only through the argument of ``losses`` (it may be wrapped for
    several processes).
    """

    def __init__(self, network: nn.Module, examples: Examples, card: Mapping[str, object]) -> None:
        self.network, self.examples = network.requires_grad_(True), examples
        said = {**card, "data": examples.name}
        self.card: Card = {k: without_folders(v) if isinstance(v, str) else v for k, v in said.items()}

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def groups(self) -> Tensor:
        """(len,) int64: examples of one number are copies of one image. Here each is an image of its own."""
        return torch.arange(len(self.examples))

    def losses(self, network: nn.Module, index: Tensor, epoch: int, train: bool) -> tuple[Tensor, Tensor | None]:
        """Loss (b,) of the examples in ``index`` (b,), and whether each is right (b,) where that means something."""
        raise NotImplementedError

    def mode(self, network: nn.Module, train: bool) -> None:
        """Put the network in train or eval mode; a task that freezes part of it keeps that part in eval."""
        network.train(train)


def train(
    task: Task, config: LoopConfig, out: str | Path, progress: Progress | None = None, log: str | None = None
) -> Card:
    """Train, write OUT.safetensors, its card OUT.json and the curve OUT.csv; return the card. ``log``: a tracker (``core.trackers``), such as
    "tensorboard:logs", where the curve is drawn as it grows.

    After every epoch OUT.resume is written; a run killed at any time and started again with the same settings ends
    with the same curve and weights. Deterministic given the seed, on one machine. Raises SparringError if the file exists, or if
    OUT.resume belongs to other settings or data.
    """
    path = Path(out)
    if path.suffix != ".safetensors":
        raise SparringError(f"out={out}: weights are written as .safetensors")
    if path.exists():
        raise SparringError(f"{path} exists; delete it or choose another --out")
    try:  # before hours of work
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise SparringError(f"cannot write {path}: {error.strerror or error}; choose another --out") from None
    return _Training(task, config, path, progress, log).to_the_end()


class _Training:
    def __init__(self, task: Task, config: LoopConfig, path: Path, progress: Progress | None, log: str | None) -> None:
        self.task, self.config, self.path, self.progress = task, config, path, progress
        accelerate = need("accelerate", "train")
        try:
            self.accelerator = accelerate.Accelerator(
                mixed_precision=config.precision, cpu=not torch.cuda.is_available()
            )
        except ValueError as error:  # Accelerate keeps one state per process
            raise SparringError(f"precision={config.precision}: {str(error).splitlines()[0]}") from None
        self.tracker = None
        if log and self.accelerator.is_main_process:
            self.tracker = Log.of(log).begin(path.stem, {**task.card, **asdict(config)})
        self.held, self.rest = self._split()
        self.batches = -(-len(self.rest) // config.batch)
        trained = [p for p in task.network.parameters() if p.requires_grad]
        if config.optimizer == "adam":
            optimizer = torch.optim.Adam(trained, lr=config.lr, weight_decay=config.weight_decay)
        else:
            optimizer = torch.optim.SGD(trained, lr=config.lr, weight_decay=config.weight_decay, momentum=0.9)
        self.network, self.optimizer = self.accelerator.prepare(task.network, optimizer)
        self.average = {k: v.clone() for k, v in task.network.state_dict().items()} if config.ema else {}
        self.curve: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}
        self.seconds = 0.0

    def _split(self) -> tuple[Tensor, Tensor]:
        """Examples held out and examples trained on. Copies of one image (one ``group``) stay on one side."""
        group = self.task.groups
        count = int(group.max()) + 1
        order = np.random.default_rng(self.config.seed).permutation(count)
        held = max(1, int(self.config.validation * count))
        if held >= count:
            raise SparringError(f"{count} images are too few to hold {held} of them out")
        out = torch.isin(group, torch.from_numpy(order[:held]))
        return out.nonzero()[:, 0], (~out).nonzero()[:, 0]

    @property
    def identity(self) -> str:
        """Everything that decides the curve, but for the number of processes."""
        settings = {**asdict(self.config), "data": self.task.examples.hash, "card": dict(self.task.card)}
        return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()

    @property
    def resume_path(self) -> Path:
        return self.path.with_suffix(".resume")

    def to_the_end(self) -> Card:
        """All epochs that are left, then the chosen weights; the card."""
        self._resume()
        for epoch in range(len(self.curve), self.config.epochs):
            start = time.time()
            loss = self._train_epoch(epoch)
            row = {"epoch": epoch + 1, "loss": loss, **self._validate(epoch), "lr": self._rate(epoch, self.batches - 1)}
            self.seconds += time.time() - start
            self.curve.append({**row, "seconds": round(self.seconds, 1)})
            chosen = self.config.keep == "last" or self._best_epoch() == epoch
            if chosen:
                self.best = {k: v.detach().cpu().clone() for k, v in self._weights().items()}
            if self.accelerator.is_main_process:
                self._save(epoch)
            if self.progress:
                accuracy = row.get("validation_accuracy")
                shown = f"validation loss {row['validation_loss']:.4g}"
                shown += "" if accuracy is None else f", accuracy {100 * accuracy:.1f} %"
                self.progress(
                    (epoch + 1) * self.batches, self.config.epochs * self.batches, f"epoch {epoch + 1}: {shown}"
                )
        self.task.network.load_state_dict(self.best)
        card = self._card()
        if self.accelerator.is_main_process:
            save_weights(self.task.network, self.path, card)
            self.resume_path.unlink(missing_ok=True)
            if self.tracker:
                self.tracker.finish()
        self.accelerator.wait_for_everyone()
        self.task.mode(self.task.network, False)
        return card

    def _best_epoch(self) -> int:
        losses = [row["validation_loss"] for row in self.curve]
        return losses.index(min(losses))

    def _weights(self) -> dict[str, Tensor]:
        return self.average or self.task.network.state_dict()

    def _rate(self, epoch: int, batch: int) -> float:
        config = self.config
        if config.schedule == "onecycle":
            # cosines: from a 25th up to the peak in three tenths of the time, then down to nothing
            done = (epoch * self.batches + batch) / max(1, config.epochs * self.batches - 1)
            share = done / 0.3 if done < 0.3 else (1 - done) / 0.7
            low = 1 / 25 if done < 0.3 else 0.0
            return config.lr * (low + (1 - low) * (1 - math.cos(math.pi * share)) / 2)
        if config.schedule == "steps":
            return config.lr * 0.1 ** sum(epoch >= d for d in config.drops)
        if config.schedule == "plateau":
            drops, least, waited = 0, float("inf"), 0
            for row in self.curve[:epoch]:
                better = row["validation_loss"] < least
                least, waited = min(least, row["validation_loss"]), 0 if better else waited + 1
                if waited > 2:
                    drops, waited = drops + 1, 0
            return config.lr * 0.1**drops
        return config.lr

    def _mine(self, index: Tensor) -> Tensor:
        """This process's share of a batch; shares are of one length, as gathering needs."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        if world > 1:
            index = torch.cat([index, index[: -len(index) % world]])
        return index[rank::world]

    def _train_epoch(self, epoch: int) -> float:
        config = self.config
        self.task.mode(self.network, True)
        order = torch.from_numpy(np.random.default_rng((config.seed, epoch)).permutation(len(self.rest)))
        total = torch.zeros(2, device=self.accelerator.device)
        for number, part in enumerate(order.split(config.batch)):
            for group in self.optimizer.param_groups:
                group["lr"] = self._rate(epoch, number)
            index = self._mine(self.rest[part])
            with seeded(config.seed * 1_000_003 + epoch * self.batches + number), self.accelerator.autocast():
                loss, _ = self.task.losses(self.network, index, epoch, True)
            self.optimizer.zero_grad()
            self.accelerator.backward(loss.mean())
            self.optimizer.step()
            if not bool(torch.isfinite(loss).all()):
                raise SparringError(f"the training loss became {float(loss.mean())} in epoch {epoch + 1}; lower --lr")
            total += torch.stack([loss.detach().sum(), torch.tensor(float(len(index)), device=loss.device)])
            for key, value in self.task.network.state_dict().items() if config.ema else ():
                old = self.average[key]
                self.average[key] = old.lerp(value, 1 - config.ema) if value.is_floating_point() else value.clone()
            if self.progress and number % 10 == 9:
                mean = float(total[0] / total[1])
                self.progress(
                    epoch * self.batches + number + 1,
                    config.epochs * self.batches,
                    f"epoch {epoch + 1}: loss {mean:.4g}",
                )
        total = self.accelerator.reduce(total)
        return float(total[0] / total[1])

    def _validate(self, epoch: int) -> dict[str, float]:
        raw = {k: v.clone() for k, v in self.task.network.state_dict().items()} if self.average else {}
        if self.average:
            self.task.network.load_state_dict(self.average)
        self.task.mode(self.network, False)
        losses: list[Tensor] = []
        rights: list[Tensor] = []
        for part in self.held.split(self.config.batch):
            with torch.no_grad():
                loss, right = self.task.losses(self.task.network, part, epoch, False)
            losses.append(loss)
            if right is not None:
                rights.append(right)
        if raw:
            self.task.network.load_state_dict(raw)
        means = {"validation_loss": float(torch.cat(losses).double().mean())}
        if rights:
            means["validation_accuracy"] = float(torch.cat(rights).double().mean())
        return means

    def _save(self, epoch: int) -> None:
        """What a resumed run needs: tensors and plain values, nothing that has to be unpickled."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "identity": self.identity,
            "network": self.task.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "best": self.best,
            "curve": self.curve,
            "seconds": self.seconds,
        }
        partial = self.path.with_suffix(".resume.partial")
        torch.save(state, partial)
        partial.replace(self.resume_path)
        table = self.path.with_suffix(".csv.partial")
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(self.curve[0]))
            writer.writeheader()
            writer.writerows(self.curve)
        table.replace(self.path.with_suffix(".csv"))
        if self.tracker:
            self.tracker.log({**self.curve[epoch]}, step=epoch + 1)

    def _resume(self) -> None:
        if not self.resume_path.exists():
            return
        try:
            state = torch.load(self.resume_path, map_location="cpu", weights_only=True)
        except Exception:
            raise SparringError(f"{self.resume_path} is damaged; delete it to start again") from None
        if state["identity"] != self.identity:
            raise SparringError(
                f"{self.resume_path} belongs to a training with other settings or data; delete it or choose another --out"
            )
        self.task.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = {k: v.to(self.accelerator.device) for k, v in state["average"].items()}
        self.best = state["best"]
        self.curve, self.seconds = state["curve"], state["seconds"]

    def _card(self) -> Card:
        from sparring.version import __version__

        return {
            **self.task.card,
            "data_hash": self.task.examples.hash,
            "config": asdict(self.config),
            "selected_by": "validation loss" if self.config.keep == "best" else "last epoch",
            "curve": self.curve,
            "seconds": round(self.seconds, 1),
            "torch": torch.__version__,
            "sparring": __version__,
        }


def scaled(config: LoopConfig, **given: object) -> LoopConfig:
    """``config`` with the values that are not None."""
    return replace(config, **{k: v for k, v in given.items() if v is not None})
