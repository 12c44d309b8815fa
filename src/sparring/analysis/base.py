"""The kind ``analysis``: a question to a subject, with its options, answered by a ``Panel``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

from sparring.analysis.panel import Panel, plain
from sparring.attacks.attack import attack
from sparring.core.errors import SparringError
from sparring.core.ranges import Limit, Seed
from sparring.core.registry import ANALYSES
from sparring.core.spec import check_fields, check_ranges, convert, option, signature
from sparring.data.images import ImageSet
from sparring.data.sources import Images, load_data
from sparring.defenses.base import Defended
from sparring.subject import Subject
from sparring.version import __version__

C = TypeVar("C", bound="type[Analysis]")


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """A question, its options as fields. Subclasses write ``panel`` and declare what they need.

    ``needs_data``: the user gives the images; else ``images`` brings them. ``pictures``: the panel holds something to draw. ``limit``: how
    many of the user's images are looked at unless another number is given. ``extra``: the optional packages it needs, or "".
    ``example``: words after ``sparring analyze``.
    """

    spec_name: ClassVar[str] = ""
    needs_data: ClassVar[bool] = True
    needs_defense: ClassVar[bool] = False
    many: ClassVar[bool] = False
    pictures: ClassVar[bool] = True
    limit: ClassVar[int | None] = None
    extra: ClassVar[str] = ""
    example: ClassVar[str]

    seed: Seed = option(0, help="seed of all randomness")

    def __post_init__(self) -> None:
        """Its options are within their ranges. An analysis with a check of its own calls this one first."""
        check_ranges(self.spec_name or type(self).__name__, self)

    @property
    def defenses(self) -> Sequence[str]:
        """Defenses the subject is to have, by spec."""
        return ()

    @property
    def sources(self) -> Sequence[str]:
        """Other models the subject is to have, by spec."""
        return ()

    def images(self) -> ImageSet:
        """The images of an analysis that does not need the user's."""
        raise NotImplementedError

    def panel(self, subject: Subject) -> Panel:
        """The answer about one model. Provenance is added by ``analyze``."""
        raise NotImplementedError

    def answer(self, subjects: Sequence[Subject]) -> Panel:
        """The answer about the subjects: one, unless the analysis compares ``many``."""
        if len(subjects) != 1:
            raise SparringError(f"{self.spec_name} is about one model, got {len(subjects)}")
        return self.panel(subjects[0])


@dataclass(frozen=True, kw_only=True)
class Comparison(Analysis):
    """A question to one or more models that see the same images. Subclasses write ``compare``."""

    many: ClassVar[bool] = True

    def compare(self, subjects: Sequence[Subject]) -> Panel:
        raise NotImplementedError

    def panel(self, subject: Subject) -> Panel:
        return self.compare([subject])

    def answer(self, subjects: Sequence[Subject]) -> Panel:
        return self.compare(subjects)


def analysis(name: str) -> Callable[[C], C]:
    """Decorator: enrol a frozen dataclass, an ``Analysis``, under ``name``."""
    return ANALYSES(name)


def analyze(
    name: str | Analysis,
    model: str | nn.Module | Sequence[str | nn.Module],
    data: Images | None = None,
    *,
    limit: int | None = None,
    **options: object,
) -> Panel:
    """Ask a question: ``analyze("pixels", model, data, limit=50)``.

    ``name``: of a registered analysis, or one with its options. ``model``: a spec text or module, several where the analysis compares.
    ``data``: what ``load_data`` takes. ``limit``: the first so many images; default: the analysis's own. ``options``: its fields, typed or
    as spec texts. Raises SparringError for an unknown name or option, missing or superfluous data, and models that do not fit.
    """
    if isinstance(name, str):
        entry = ANALYSES[name]
        asked: Analysis = entry(**check_fields(name, options, signature(entry)))
    else:
        asked = replace(name, **options)
    label = asked.spec_name
    limit = convert(label, "limit", Limit, limit)
    models = [model] if isinstance(model, str | nn.Module) else list(model)
    if not models:
        raise SparringError(f"{label}: no model is given")
    if asked.needs_data and data is None:
        raise SparringError(f"{label} looks at images; pass data (--data)")
    if not asked.needs_data and (data is not None or limit is not None):
        raise SparringError(f"{label} brings its own images; leave data and limit out")
    images = asked.images() if data is None else load_data(data, limit=limit, otherwise=asked.limit)
    subjects = [Subject.of(m, images, asked.defenses, sources=asked.sources, mend=False) for m in models]
    names = [s.model.name for s in subjects]
    if len(set(names)) < len(names):
        raise SparringError(f"{label}: two models have the name {max(names, key=names.count)}; give each its own")
    return replace(asked.answer(subjects), provenance=_provenance(asked, subjects))


def _provenance(asked: Analysis, subjects: Sequence[Subject]) -> dict[str, object]:
    """What decides the numbers of an answer, as plain values."""
    images = subjects[0].images
    return {
        "analysis": asked.spec_name,
        "options": plain(asdict(asked)),
        "seed": asked.seed,
        "models": [{"name": s.model.name, "hash": s.systems["none"].id} for s in subjects],
        **({"sources": [other.id for other in subjects[0].others]} if subjects[0].others else {}),
        "data": {"name": images.name, "hash": images.hash, "images": len(images)},
        "sparring": __version__,
        "torch": torch.__version__,
    }


def attacked(subject: Subject, spec: str, seed: int, on: Defended | None = None) -> Tensor:
    """Points (N,C,H,W) of an attack that is run to its end ``on`` a system; default: the undefended model."""
    images = subject.images
    victim = subject.prepared.model if on is None else on.system()
    return attack(spec).run(victim, images.x, images.y, ids=list(images.ids), seed=seed, stop="never").x
