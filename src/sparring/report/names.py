"""What classes are called: as the data say, and where they do not, after ImageNet's 1,000."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from sparring.core.columns import Json
from sparring.core.losses import NO_LABEL

IMAGENET = 1000  # classes


@dataclass(frozen=True)
class ClassNames:
    """``given``: names by label, "" where there is none. ``guessed``: are some of them ImageNet's, because the model has as many classes?"""

    given: tuple[str, ...]
    guessed: bool = False

    @classmethod
    def of(cls, record: Json) -> ClassNames:
        """The names that a run's record holds. Those that lack are ImageNet's where the model has 1,000 classes and timm, which knows them, is installed."""
        given = tuple(record.get("class_names", ()))
        whole = len(given) == IMAGENET and all(given)
        if whole or record.get("classes") != IMAGENET or find_spec("timm") is None:
            return cls(given)
        from timm.data.imagenet_info import ImageNetInfo

        table = ImageNetInfo()
        known = [table.index_to_description(label).split(",")[0] for label in range(IMAGENET)]
        known = [f"{name} ({label})" if known.count(name) > 1 else name for label, name in enumerate(known)]
        padded = (*given, *[""] * (IMAGENET - len(given)))
        return cls(tuple(name or other for name, other in zip(padded, known, strict=True)), guessed=True)

    def of_label(self, label: int) -> str:
        """What a label is called: its number where nobody knows a name."""
        if label == NO_LABEL:
            return "no answer"
        return self.given[label] or str(label) if label < len(self.given) else str(label)
