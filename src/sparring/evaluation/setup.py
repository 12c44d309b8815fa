"""Before the first attack: load, check against each other, prepare, install."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from sparring.attacks.attack import Attack
from sparring.core.errors import SparringError
from sparring.core.noise import Noise, image_keys
from sparring.data.images import ImageSet
from sparring.data.sources import check_against, load_data
from sparring.defenses.base import Defended, defense
from sparring.evaluation.checks.base import Context
from sparring.models.classifier import Classifier, weights_hash
from sparring.models.load import load_model
from sparring.models.prepare import Prepared, prepare

PREFLIGHT_IMAGES = {"quick": 32, "standard": 128, "thorough": 128}
CHECK_BUDGET = 32 * 3072 * 8  # input elements of the preflight subset: large images get fewer of them


@dataclass(frozen=True)
class SetUp:
    """A model, prepared, with its images and defended systems: everything before the first attack."""

    model: Classifier
    prepared: Prepared
    images: ImageSet
    systems: dict[str, Defended]
    others: list[Defended]
    classes: int
    notes: dict[str, str]  # what preparation did to each network that is evaluated, by defense
    keys: Tensor = field(repr=False, default_factory=lambda: torch.zeros(0))

    def context(self, attacks: Sequence[Attack], tier: str, expected_clean: float | None, seed: int) -> Context:
        """What the preflight checks look at: the first images of the set, every defended system."""
        count = max(4, min(PREFLIGHT_IMAGES[tier], CHECK_BUDGET // self.images.x[0].numel()))
        part = slice(0, min(count, len(self.images)))
        return Context(
            model=self.model,
            network=self.prepared.model,
            x=self.images.x[part],
            y=self.images.y[part],
            ids=self.images.ids[part],
            systems=list(self.systems.values()),
            attacks=attacks,
            expected_clean=expected_clean,
            all_x=self.images.x,
            all_y=self.images.y,
            seed=seed,
        )


def set_up(
    model: str | nn.Module,
    data: Any,
    defenses: Sequence[str],
    *,
    sources: Sequence[str | nn.Module] = (),
    limit: int | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    device: str | None = None,
) -> SetUp:
    """Load, check against each other, prepare and install. Raises SparringError for anything that does not fit.

    ``seed`` here draws nothing: a subset is drawn by the data spec's own seed=.
    """
    images = load_data(data, limit=limit, skip_bad=skip_bad)
    classifier = load_model(model)
    base, prepared, classes = _install(classifier, images, device)
    check_against(images, None, None, classes)
    names = list(dict.fromkeys(["none", *defenses]))
    systems, notes = {}, {"none": prepared.note}
    for name in names:
        systems[name], note = _quick(defense(name).install(base), base, images.x[:4])
        notes |= {name: note} if note else {}
        for part in (systems[name].network, *systems[name].stages) if device else ():
            part.to(device)
    others = [_install(load_model(s), images, device)[0] for s in sources]
    return SetUp(classifier, prepared, images, systems, others, classes, notes, image_keys(images.ids))


def _quick(system: Defended, base: Defended, example: Tensor) -> tuple[Defended, str]:
    """A network that a defense put in the classifier's place, prepared like it, and what was done. A noisy one is left alone: tracing
    would lose its noise.
    """
    if system.network is base.network or system.noisy:
        return system, "left alone: it draws noise" if system.noisy else ""
    noise = Noise.of(0, "prepare", torch.zeros(len(example), dtype=torch.int64))
    with torch.no_grad():
        for stage in system.stages:
            example = stage(example, noise)
        try:
            system.network(example)
        except RuntimeError as error:
            shape, reason = tuple(example.shape[1:]), str(error).splitlines()[0]
            raise SparringError(f"{system.name} cannot take images of shape {shape}: {reason}") from None
    prepared = prepare(system.network, example)
    return replace(system, network=prepared.model), prepared.note


def _install(classifier: Classifier, images: ImageSet, device: str | None) -> tuple[Defended, Prepared, int]:
    check_against(images, classifier.channels, classifier.size)
    example = images.x[:4]
    try:
        with torch.no_grad():
            z = classifier(example)
    except RuntimeError as error:
        raise SparringError(
            f"{classifier.name} cannot take images of shape {tuple(example.shape[1:])}: {str(error).splitlines()[0]}"
        ) from None
    if not isinstance(z, Tensor) or z.dim() != 2 or len(z) != len(example) or z.shape[1] < 2:
        shape = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
        raise SparringError(
            f"{classifier.name} must return logits (B,K) with K >= 2, got {shape} for {len(example)} images"
        )
    prepared = prepare(classifier, example)
    if device:
        prepared.model.to(device)
    return Defended(prepared.model, id=weights_hash(classifier)), prepared, z.shape[1]
