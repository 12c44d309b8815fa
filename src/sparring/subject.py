"""``Subject``: a model with its images and its defended systems, loaded and checked against each other, ready for questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn

from sparring.core.code import code_of, code_of_network
from sparring.core.errors import SparringError, one_line
from sparring.core.network import logits_of, tried
from sparring.core.noise import Noise, image_keys
from sparring.core.prepare import Prepared, prepare
from sparring.core.shown import many, shown
from sparring.data.images import ImageSet
from sparring.data.sources import Images, load_data
from sparring.defenses.base import Composition, Defended, DefenseLike, defense, name_of
from sparring.models.classifier import Classifier, weights_hash
from sparring.models.load import load_model, require_trained
from sparring.models.outputs import with_logits

EXAMPLES = 4  # images that a network is tried and prepared on
MENDED_ON = 16  # images on which its gradient is compared with a mended one
PROBED = 16  # images, and as many of noise, on which a resumed run's systems must answer as they did


@dataclass(frozen=True)
class Subject:
    """What an evaluation, a check or an analysis is about.

    ``model``: the classifier as given. ``prepared``: its frozen copy, which is what runs. ``systems``: the defended systems by the
    spec of their defense, "none" first. ``others``: other models for transfer. ``classes``: number of logits. ``notes``: what
    preparation did to each network that is evaluated, by defense. ``keys`` (N,): what keys each image's noise.
    ``own_code``: hashes of the user's own code in it, "" where there is none.
    """

    model: Classifier
    prepared: Prepared
    images: ImageSet
    systems: dict[str, Defended]
    others: list[Defended]
    classes: int
    notes: dict[str, str]
    keys: Tensor = field(repr=False, default_factory=lambda: torch.zeros(0))
    own_code: str = field(repr=False, default="")

    def __repr__(self) -> str:
        return shown(self, self.model.name, f"{many(len(self.images), 'image')} of {self.images.name}", *self.systems)

    @classmethod
    def of(
        cls,
        model: str | nn.Module,
        data: Images,
        defenses: Sequence[DefenseLike] = (),
        *,
        sources: Sequence[str | nn.Module] = (),
        limit: int | None = None,
        skip_bad: bool = False,
        device: str | None = None,
        mend: bool = True,
    ) -> Subject:
        """Load, check against each other, prepare, install. ``model``, ``data``, ``defenses``, ``sources``: spec texts, a module,
        tensors or an image set. ``limit``: the first so many images. ``device``: where the networks go; the images stay. ``mend``: look for gradients that stop on their
        way through the systems (see ``Defended.mended``), which whoever attacks these needs and whoever asks for their answers does not.

        Raises SparringError for anything that does not fit: the one place that says so.
        """
        if device is not None:
            _usable(device)
        classifier = require_trained(load_model(model))
        images = load_data(data, limit=limit, skip_bad=skip_bad, fitting=classifier.fitting)
        example = images.pixels(slice(EXAMPLES))
        require_shape(classifier, images)
        told = classifier.told
        classifier, says = with_logits(classifier, example)
        classes = fit(classifier, images)
        prepared = prepare(classifier, example)
        prepared = replace(prepared, note="; ".join(filter(None, (told, says, prepared.note))))
        base = _placed(Defended(prepared.model, id=_identity(classifier)), device)
        own_code = [code_of_network(classifier)]
        systems: dict[str, Defended] = {}
        notes = {"none": prepared.note}
        for name, given in {"none": "none", **{name_of(d): d for d in defenses}}.items():
            config = defense(given)
            code = code_of(*(type(part) for part in (config.parts if isinstance(config, Composition) else (config,))))
            system, note = _prepared(_staged(config.install(base), example), base, example)
            if code and system.network is not base.network:
                system = replace(system, id=system.id + code)
            own_code += [code, *(stage.fingerprint for stage in system.stages if code_of_network(stage))]
            systems[name] = _placed(system.mended(images.pixels(slice(MENDED_ON))) if mend else system, device)
            notes |= {name: note} if note else {}
        others: list[Defended] = []
        for other in (require_trained(load_model(s)) for s in sources):
            require_shape(other, images)
            other, _ = with_logits(other, example)
            fit(other, images)
            own_code.append(code_of_network(other))
            others.append(_placed(Defended(prepare(other, example).model, id=_identity(other)), device))
        return cls(
            classifier, prepared, images, systems, others, classes, notes, image_keys(images.ids), "".join(own_code)
        )

    def answers(self) -> dict[str, list[tuple[int, float]]]:
        """(label, its score) of each system and source on images of uniform noise and then on the first images, one fixed draw: what shows that a
        file, a variable or a module that the user's code reads has changed. A set that has grown gives the same answers, and more.
        """
        images = self.images.pixels(slice(PROBED))
        fields = torch.rand(PROBED, *images.shape[1:], generator=torch.Generator().manual_seed(0))
        noise = Noise.of(0, "answers", image_keys([str(i) for i in range(PROBED + len(images))]))
        said: dict[str, list[tuple[int, float]]] = {}
        asked = {**self.systems, **{f"source {i}": other for i, other in enumerate(self.others, 1)}}
        for name, defended in asked.items():
            with torch.no_grad():
                scores = defended.system().scores(torch.cat([fields.to(images), images]), noise)
            top = scores.nan_to_num().max(1)
            said[name] = [(int(label), float(score)) for label, score in zip(top.indices, top.values, strict=True)]
        return said


def require_shape(classifier: Classifier, images: ImageSet) -> None:
    """Raise SparringError where a classifier says that it takes other images: of other channels, or of another size."""
    channels, height, width = images.shape
    name, size = images.name, classifier.size
    if classifier.channels is not None and channels != classifier.channels:
        raise SparringError(
            f"{name}: images have {channels} channel(s), the model takes {classifier.channels}, as its mean and std or its spec say"
        )
    if size is not None and (height, width) != (size, size):
        raise SparringError(f"{name}: images are {height}x{width}, the model takes {size}x{size}; resize them first")


def fit(classifier: Classifier, images: ImageSet) -> int:
    """The number K of a classifier's classes, once it is sure that it takes these images: channels, size, logits (B,K) with
    K >= 2 for the first few of them, every label below K. Raises SparringError for the first thing that does not fit.
    """
    require_shape(classifier, images)
    name, example = images.name, images.pixels(slice(EXAMPLES))
    logits = logits_of(classifier, example, classifier.name)
    classes, low, high = logits.shape[1], int(images.y.min()), int(images.y.max())
    if low < 0 or high >= classes:
        label = high if high >= classes else low
        hint = "; labels that begin at 1?" if (low, high) == (1, classes) else ""
        raise SparringError(f"{name}: label {label} is outside the model's {classes} classes (0..{classes - 1}){hint}")
    return classes


def _staged(system: Defended, example: Tensor) -> Defended:
    """A system whose stages were seen to turn images into images of the same shape and type, finite ones. Raises SparringError."""
    noise, x = Noise.of(0, "prepare", torch.zeros(len(example), dtype=torch.int64)), example
    for i, stage in enumerate(system.stages):
        after = tried(partial(stage, noise=noise.child(f"stage{i}")), x, f"defense {system.name}: {stage.name}")
        if not isinstance(after, Tensor) or (after.shape, after.dtype) != (x.shape, x.dtype):
            got = f"{tuple(after.shape)} {after.dtype}" if isinstance(after, Tensor) else type(after).__name__
            raise SparringError(
                f"defense {system.name}: {stage.name} must return images of the shape and type that it is given, {tuple(x.shape)} {x.dtype}, got {got}"
            )
        if not bool(torch.isfinite(after).all()):
            raise SparringError(
                f"defense {system.name}: {stage.name} returns pixels that are not finite on the first images"
            )
        x = after
    return system


def _prepared(system: Defended, base: Defended, example: Tensor) -> tuple[Defended, str]:
    """A network that a defense put in the classifier's place, prepared like it, and what was done. A noisy one is left alone: tracing
    would lose its noise.
    """
    if system.network is base.network or system.noisy:
        return system, "left alone: it draws noise" if system.noisy else ""
    noise = Noise.of(0, "prepare", torch.zeros(len(example), dtype=torch.int64))
    with torch.no_grad():
        for stage in system.stages:
            example = stage(example, noise)
    tried(system.network, example, system.name)
    prepared = prepare(system.network, example)
    return replace(system, network=prepared.model), prepared.note


def _identity(classifier: Classifier) -> str:
    """Of a classifier in results: its weights, and its code where that is not ours or torch's."""
    return weights_hash(classifier) + code_of_network(classifier)


def _usable(device: str) -> None:
    """Raise SparringError where there is no such device."""
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise SparringError(f"device {device!r} is not there ({one_line(error)}); cpu always is") from None


def _placed(system: Defended, device: str | None) -> Defended:
    """The same system, its network and stages moved to ``device``."""
    for part in (system.network, *system.stages) if device else ():
        part.to(device)
    return system
