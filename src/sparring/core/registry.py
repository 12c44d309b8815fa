"""Names of things: one table per kind, filled by decorators, discovered by importing the kind's package."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from sparring.core.errors import SparringError

T = TypeVar("T")


class Registry:
    """A table name -> class or function. Duplicates raise; unknown names are refused with suggestions.

    ``package``: where the kind lives; every module in it is imported on first use, so a new file is enrolled
    by existing.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self._entries: dict[str, Any] = {}
        self._loaded = False

    def __call__(self, name: str) -> Callable[[T], T]:
        """Decorator: enrol a class or function under ``name``."""

        def enrol(entry: T) -> T:
            if name in self._entries and self._entries[name] is not entry:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = entry
            if isinstance(entry, type):
                entry.spec_name = name  # type: ignore[attr-defined]
            return entry

        return enrol

    def __getitem__(self, name: str) -> Any:
        self._load()
        if name not in self._entries:
            raise SparringError(f"unknown {self.kind} {name!r}{suggest(name, self._entries)}")
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._entries))

    def items(self) -> list[tuple[str, Any]]:
        """(name, entry) pairs, sorted by name."""
        return [(name, self._entries[name]) for name in self]

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        module = importlib.import_module(self.package)
        for found in pkgutil.iter_modules(getattr(module, "__path__", [])):
            importlib.import_module(f"{self.package}.{found.name}")


def suggest(name: str, known: Any) -> str:
    """'; did you mean a, b? (known: ...)' for an error line."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"{hint} (known: {', '.join(names)})"


ATTACKS = Registry("attack", "sparring.attacks")
DEFENSES = Registry("defense", "sparring.defenses")
THREATS = Registry("threat", "sparring.threats")
CHECKS = Registry("check", "sparring.evaluation.checks")
MODELS = Registry("model", "sparring.models")
DATA = Registry("data", "sparring.data")
ANALYSES = Registry("analysis", "sparring.analysis")
TASKS = Registry("training task", "sparring.training")
REGISTRIES = {
    "attacks": ATTACKS,
    "defenses": DEFENSES,
    "threats": THREATS,
    "checks": CHECKS,
    "models": MODELS,
    "data": DATA,
    "analyses": ANALYSES,
    "tasks": TASKS,
}
