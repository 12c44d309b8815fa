"""What a plug-in enrols, as spec texts by kind."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Sequence
from importlib.metadata import distributions

from sparring.core.errors import SparringError
from sparring.core.registry import REGISTRIES, load_plugin
from sparring.core.spec import parse


def specs_of(plugins: Sequence[str], specs: Sequence[str] = ()) -> dict[str, list[str]]:
    """kind -> spec texts of what the plug-ins enrol: names, but for those that ``specs`` give with fields (several texts of one name are
    all kept). Raises SparringError for a plug-in that cannot be found or imported or enrols nothing, and for a spec of something else.
    """
    found: dict[str, list[str]] = {kind: [] for kind in REGISTRIES}
    for plugin in plugins:
        homes = _modules(plugin)
        mine = {kind: registry.enrolled_by(homes) for kind, registry in REGISTRIES.items()}
        if not any(mine.values()):
            raise SparringError(f"the plug-in {plugin} enrols nothing")
        for kind, names in mine.items():
            found[kind] += [n for n in names if n not in found[kind]]
    given: dict[str, list[str]] = {}
    for spec in specs:
        given.setdefault(parse(spec).name, []).append(spec)
    if unknown := set(given) - {name for names in found.values() for name in names}:
        raise SparringError(f"{min(unknown)} is enrolled by none of {', '.join(plugins)}")
    return {kind: [s for n in names for s in given.get(n, [n])] for kind, names in found.items()}


def _modules(plugin: str) -> list[str]:
    """The modules of a plug-in: of a file, of the entry points of a distribution, or the module that is named."""
    if plugin.endswith(".py"):
        return [load_plugin(plugin)]
    label = _label(plugin)
    points = [
        point
        for distribution in distributions()
        if _label(distribution.metadata["Name"] or "") == label
        for point in distribution.entry_points
        if point.group in {registry.group for registry in REGISTRIES.values()}
    ]
    if points:
        return sorted({point.module for point in points})
    try:
        importlib.import_module(plugin)
    except ImportError as error:
        raise SparringError(f"{plugin} is no installed distribution and cannot be imported ({error})") from None
    return [plugin]


def _label(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
