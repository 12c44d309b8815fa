"""``sparring list``: what can be named, read from the registries."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import MISSING, asdict
from typing import Any

from rich.table import Table

from sparring.attacks.attack import SHARED
from sparring.core.errors import SparringError
from sparring.core.ranges import range_of
from sparring.core.registry import REGISTRIES, suggest
from sparring.core.spec import Fields, describe, helps, show, signature
from sparring.evaluation.results.metrics.base import Metric
from sparring.report.content import SectionKind
from sparring.report.terminal import literal
from sparring.threats.base import ThreatKind

Entry = dict[str, Any]  # what is told of a registered thing, as plain values


def kinds() -> dict[str, int]:
    """How many things of each kind can be named."""
    return {kind: len(list(registry)) for kind, registry in REGISTRIES.items()}


def catalog(kind: str) -> list[Entry]:
    """Entries of a kind: name, first sentence, fields with type and default, and what the kind adds."""
    if kind not in REGISTRIES:
        raise SparringError(f"unknown kind {kind!r}{suggest(kind, REGISTRIES)}")
    entries: list[Entry] = []
    for name, entry in REGISTRIES[kind].items():
        if kind == "checks":
            entries.append(
                {
                    "name": name,
                    "title": entry.title,
                    "scope": entry.scope,
                    "severity": entry.severity,
                    "doc": inspect.cleandoc(entry.doc),
                }
            )
            continue
        about = _helps(entry)
        fields = [
            {"name": k, "type": describe(t), "default": "required" if d is MISSING else show(d)}
            | ({"range": range_of(t)} if range_of(t) else {})
            | ({"help": about[k]} if about.get(k) else {})
            for k, (t, d) in _fields(entry).items()
        ]
        record: Entry = {
            "name": name,
            "doc": inspect.cleandoc(entry.__doc__ or ""),
            "fields": fields,
        }
        if kind == "attacks":
            record |= {
                "norms": list(entry.norms),
                "goal": entry.goal.value,
                "needs": entry.needs.name.lower(),
                "shared_fields": sorted(SHARED),
                "source": list(dict.fromkeys(re.findall(r"arXiv:[\d.]+\d", entry.__doc__ or ""))),
            }
        if kind == "analyses":
            record |= {
                "needs_data": entry.needs_data,
                "many": entry.many,
                "example": f"sparring analyze {entry.example}",
            }
        if kind == "tasks":
            record |= {
                "scales": {k: asdict(c) for k, c in entry.scales.items()},
                "example": f"sparring train {entry.example}",
            }
        if kind == "models":
            record["spec"] = f"{name}:..." if fields else name
        entries.append(record)
    return entries


def _helps(entry: object) -> dict[str, str]:
    return {} if isinstance(entry, Metric | SectionKind) else helps(entry)


def _fields(entry: Metric | SectionKind | ThreatKind | Callable[..., object]) -> Fields:
    if isinstance(entry, Metric | SectionKind):
        return {}  # metrics and sections have no settings
    return entry.fields if isinstance(entry, ThreatKind) else signature(entry)


def _field(field: dict[str, str]) -> str:
    return f"{field['name']} ({field['default']}{'; ' + field['range'] if 'range' in field else ''})"


def catalog_table(kind: str, entries: list[Entry]) -> Table:
    """The entries as a table."""
    table = Table(title=kind, title_justify="left")
    extra = {"attacks": ("norms", "goal", "needs", "source"), "checks": ("scope", "severity")}.get(kind, ())
    for column in ("name", *extra, *(("what",) if kind == "checks" else ("fields (default; range)", "what"))):
        table.add_column(column, overflow="fold")
    for e in entries:
        what = e.get("title") or e["doc"].split("\n\n")[0].replace("\n", " ")
        more = [", ".join(e[x]) if isinstance(e[x], list) else str(e[x]) for x in extra]
        fields = [] if kind == "checks" else [", ".join(map(_field, e["fields"])) or "-"]
        table.add_row(*map(literal, (e["name"], *more, *fields, what)))
    return table
