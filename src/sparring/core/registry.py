"""Names of things: one table per kind, filled by decorators, discovered by importing the kind's package, entry points, or a file."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from sparring.core.errors import SparringError

T = TypeVar("T")


class Registry:
    """A table name -> class or function. Duplicates raise; unknown names are refused with suggestions.

    ``package``: where the kind lives; every module in it is imported on first use, so a new file is enrolled by existing. ``group``: the
    entry points (``sparring.attacks``, ...) by which other packages add to it; each is imported when it is first asked for.
    """

    def __init__(self, kind: str, package: str, group: str) -> None:
        self.kind, self.package, self.group = kind, package, group
        self._entries: dict[str, Any] = {}
        self._plugins: dict[str, EntryPoint] = {}
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
        if name in self._plugins and name not in self._entries:
            self._import(name)
        if name not in self._entries:
            raise SparringError(f"unknown {self.kind} {name!r}{suggest(name, list(self))}")
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted({*self._entries, *self._plugins}))

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries or name in self._plugins

    @property
    def size(self) -> int:
        """How many entries are enrolled by now; nothing is loaded for it."""
        return len(self._entries)

    def items(self) -> list[tuple[str, Any]]:
        """(name, entry) pairs, sorted by name."""
        return [(name, self[name]) for name in self]

    def enrolled_by(self, modules: Iterable[str]) -> list[str]:
        """Names of what these modules and the modules below them enrol, by import or by entry point. Nobody else's plug-in is imported."""

        def within(module: str) -> bool:
            return any(f"{module}.".startswith(f"{home}.") for home in modules)

        self._load()
        mine = [name for name, point in self._plugins.items() if within(point.module)]
        for name in mine:
            self[name]
        return sorted({*mine, *(name for name, entry in self._entries.items() if within(entry.__module__))})

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        early = set(self._entries)  # what a plug-in enrolled before anybody asked
        module = importlib.import_module(self.package)
        for part in pkgutil.walk_packages(module.__path__, f"{self.package}."):
            importlib.import_module(part.name)
        for point in entry_points(group=self.group):
            if point.name in set(self._entries) - early:
                raise SparringError(
                    f"the plug-in {point.value} names a {self.kind} {point.name!r}, which there is already"
                )
            self._plugins[point.name] = point

    def _import(self, name: str) -> None:
        """An entry point is the thing itself, or a module whose decorators enrol it."""
        point = self._plugins[name]
        try:
            thing = point.load()
        except Exception as error:
            raise SparringError(
                f"{self.kind} {name!r}: its plug-in {point.value} cannot be imported ({error})"
            ) from None
        if not isinstance(thing, ModuleType) and name not in self._entries:
            self(name)(thing)


PLUGINS: list[str] = []  # files that were named, in order


def load_plugin(file: str | Path) -> str:
    """Import a Python file whose decorators enrol things (``--plugin FILE.py``); return the module's name. Only who runs the program names
    it: no file names a file.
    """
    if not str(file).strip() or str(file) == ".":
        raise SparringError("--plugin: an empty path; write FILE.py, or leave the option out")
    path = Path(file).resolve()
    name = f"sparring_plugin_{path.stem}"
    if not path.is_file() or path.suffix != ".py":
        raise SparringError(f"plug-in {file} is not a Python file that exists")
    if name in sys.modules:
        return name
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    before = sum(r.size for r in REGISTRIES.values())
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise SparringError(f"plug-in {file} cannot be imported ({type(error).__name__}: {error})") from None
    if sum(r.size for r in REGISTRIES.values()) == before:
        warnings.warn(f"plug-in {file} enrols nothing: decorate what it brings, as in docs/plugins.md", stacklevel=2)
    PLUGINS.append(str(file))
    return name


def from_module(path: str, kind: str) -> Any:
    """The thing at ``module:name``, looked for in the current folder too. Raises SparringError where there is none."""
    module_name, colon, attribute = path.partition(":")
    if not colon:
        raise SparringError(f"python:{path}: write python:module:name, without fields")
    if "/" in module_name or module_name.endswith(".py"):
        file = Path(module_name)
        place = "" if file.parent == Path() else f", with PYTHONPATH={file.parent} before the command"
        raise SparringError(
            f"python:{path}: this names a file, a module is asked for: write python:{file.stem}:{attribute}{place}"
        )
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise SparringError(f"python:{path}: cannot import {module_name} ({error})") from None
    finally:
        sys.path.pop(0)
    if attribute not in vars(module) or not callable(vars(module)[attribute]):
        raise SparringError(f"python:{path}: {module_name} has no callable {attribute!r} to serve as {kind}")
    return vars(module)[attribute]


def suggest(name: str, known: Iterable[str]) -> str:
    """'; did you mean a, b? (known: ...)' for an error line."""
    names = sorted(known)
    if name.isdigit():
        return "; the comma before it separates two entries: a decimal is written with a point"
    lower = {n.lower(): n for n in names}
    close = [n for n in names if name == "".join(filter(str.isupper, n))]  # PGD: ProjectedGradientDescent
    close = close or [lower[n] for n in difflib.get_close_matches(name.lower(), lower, n=2, cutoff=0.5)]
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"{hint} (known: {', '.join(names)})"


ATTACKS = Registry("attack", "sparring.attacks", "sparring.attacks")
DEFENSES = Registry("defense", "sparring.defenses", "sparring.defenses")
THREATS = Registry("threat", "sparring.threats", "sparring.threats")
CHECKS = Registry("check", "sparring.checks", "sparring.checks")
MODELS = Registry("model", "sparring.models", "sparring.models")
MASKS = Registry("pixel mask", "sparring.models", "sparring.masks")
DATA = Registry("data", "sparring.data", "sparring.data")
ANALYSES = Registry("analysis", "sparring.analysis", "sparring.analyses")
TASKS = Registry("training task", "sparring.training", "sparring.tasks")
METRICS = Registry("metric", "sparring.evaluation.results.metrics", "sparring.metrics")
SECTIONS = Registry("report section", "sparring.report.sections", "sparring.sections")
REGISTRIES = {
    "attacks": ATTACKS,
    "defenses": DEFENSES,
    "threats": THREATS,
    "checks": CHECKS,
    "models": MODELS,
    "masks": MASKS,
    "data": DATA,
    "analyses": ANALYSES,
    "tasks": TASKS,
    "metrics": METRICS,
    "sections": SECTIONS,
}
