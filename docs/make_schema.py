"""Write docs/schema/evaluation.json, the JSON schema of what ``--json`` prints, from the dataclasses that it holds: ``python docs/make_schema.py``."""

import json
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from sparring.evaluation.records.finding import Finding
from sparring.evaluation.results.cells import CellResult
from sparring.evaluation.results.closed import ClosedResult
from sparring.evaluation.results.verdicts import Line, Verdict

NUMBER = {"anyOf": [{"type": "number"}, {"type": "null"}, {"const": "inf"}]}  # null: not a number, "inf": without bound


def kind(annotation: Any) -> dict[str, Any]:
    """The schema of a field."""
    plain = {str: {"type": "string"}, bool: {"type": "boolean"}, int: {"type": "integer"}, float: NUMBER}
    if annotation in plain:
        return plain[annotation]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is tuple:
        return {"type": "array", "items": kind(inner[0])}
    if origin is UnionType:
        return {"anyOf": [kind(a) for a in inner if a is not type(None)] + [{"type": "null"}]}
    if annotation is Line:
        return table(Line)
    return {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}}


def table(record: type, **changed: str) -> dict[str, Any]:
    """The schema of a dataclass; ``changed``: names under which fields stand in the JSON."""
    hints = get_type_hints(record)
    properties = {changed.get(f.name, f.name): kind(hints[f.name]) for f in fields(record)}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def schema() -> dict[str, Any]:
    """The whole."""
    closed = table(ClosedResult)
    closed["properties"]["undermined"] = kind(tuple[str, ...])
    parts = {
        "verdicts": {"type": "array", "items": table(Verdict, word="verdict")},
        "cells": {"type": "array", "items": table(CellResult)},
        "closed": {"type": "array", "items": closed},
        "checks": {"type": "array", "items": table(Finding)},
        "prepared": {"type": "object", "additionalProperties": {"type": "string"}},
        "missing": {"type": "string"},
        "damaged": kind(tuple[str, ...]),
        "made_by": {"type": "string"},
    }
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "sparring evaluate --json, sparring report RUN --json"}
    return {**about, "type": "object", "properties": parts, "required": list(parts), "additionalProperties": False}


if __name__ == "__main__":
    folder = Path(__file__).with_name("schema")
    folder.mkdir(exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps(schema(), indent=1) + "\n")
