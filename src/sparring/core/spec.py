"""One spec text everywhere: ``name:field=value,field=value`` <-> keyword arguments <-> a frozen object.

The same text works on the command line, in TOML, in Python, and is what tables print. Numbers may be fractions
(``eps=8/255``). One value without ``field=`` fills the first field (``timm:resnet18``). Fields are checked
against the annotations of the dataclass or function they belong to.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import ValidationError

from sparring.core.errors import SparringError
from sparring.core.ranges import (
    adapter,
    closed,
    is_finite_for,
    leaves,
    parsed,
    plain,
    range_of,
    takes,
    takes_numbers,
)
from sparring.core.registry import Registry, from_module, suggest

PYTHON = "python"  # the name in a spec of what is imported: python:module:name
Fields = Mapping[str, tuple[object, object]]  # field -> (annotation, default or MISSING)
LIMITS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")  # pydantic's names of faults


@dataclass(frozen=True)
class Spec:
    """A parsed spec text: the name and the fields as given (strings)."""

    name: str
    values: dict[str, str]

    def __str__(self) -> str:
        parts = ",".join(v if k == "" else f"{k}={v}" for k, v in self.values.items())
        return f"{self.name}:{parts}" if parts else self.name


def without(text: str, field: str) -> tuple[str, str | None]:
    """``text`` without one of its fields, and the field's value: "mnist5k:split=test,limit=16" -> ("mnist5k:split=test", "16")."""
    place = re.search(rf"(?<=[:,]){field}=([^,]*)(,|$)", text)
    if place is None:
        return text, None
    return (text[: place.start()] + text[place.end() :]).rstrip(":,"), place[1]


def without_folders(text: str) -> str:
    """A spec or name without the folders of this machine: its files by their names alone."""
    return re.sub(r"(?<![\w.])/(?:[^/,;:=\s]+/)*([^/,;:=\s]+)", r"\1", text)


def parse(text: str) -> Spec:
    """Split ``name:field=value,...``; raises SparringError for an empty name, part or value and for a field given twice."""
    if not isinstance(text, str):
        raise SparringError(f"{text!r} is no spec text; write NAME or NAME:field=value,...")
    name, colon, rest = text.strip().partition(":")
    name = name.strip()
    if not name:
        raise SparringError(f"empty name in spec {text!r}; write NAME or NAME:field=value,...")
    values: dict[str, str] = {}
    for part in _parts(rest, ",", text) if colon else ():
        key, equals, value = part.partition("=")
        key, value = (key.strip(), value.strip()) if equals else ("", part)
        if equals and not (key and value):
            raise SparringError(
                f"{name}: {part!r} in {text!r} has no {'value' if key else 'field name'}; write field=value"
            )
        if not equals and values and key not in values:
            raise SparringError(
                f"{name}: {part!r} in {text!r} has no field name; write field=value (a value alone comes first)"
            )
        if key in values:
            raise SparringError(
                f"{name}: {'a value without a field name' if not key else f'field {key!r}'} given twice in {text!r}"
            )
        values[key] = value
    return Spec(name, values)


def split(text: str, separator: str = ",") -> list[str]:
    """Split a list of specs at ``separator``; a comma inside ``name:a=1,b=2`` belongs to the spec.

    ``pgd:eps=8/255,steps=40,fgsm`` -> two specs: a new one begins where a part has no ``=`` or has a name before
    it. Raises SparringError for an empty part: an unset variable of the shell must not pass for nothing.
    """
    if separator != ",":
        return _parts(text, separator, text)
    specs: list[str] = []
    for part in _parts(text, ",", text):
        head = part.split("=", 1)[0]
        if specs and "=" in part and ":" not in head:
            specs[-1] += ("," if ":" in specs[-1] else ":") + part
        else:
            specs.append(part)
    return specs


def _parts(text: str, separator: str, whole: str) -> list[str]:
    parts = [p.strip() for p in text.split(separator)]
    if not text.strip():
        raise SparringError(f"nothing stands in {whole!r} where a name or value belongs; write it, or leave it out")
    if not all(parts):
        raise SparringError(
            f"empty part in {whole!r}: a {separator!r} too many; write a name or value on both sides of it"
        )
    return parts


def signature(target: Callable[..., object], skip: tuple[str, ...] = ()) -> dict[str, tuple[object, object]]:
    """field -> (annotation, default or MISSING) of a dataclass or of a function's keyword arguments."""
    hints = get_type_hints(target, include_extras=True)
    if is_dataclass(target):
        known = {
            f.name: (hints[f.name], f.default if f.default_factory is MISSING else f.default_factory())
            for f in fields(target)
            if f.init
        }
    else:
        known = {
            p.name: (hints.get(p.name, str), MISSING if p.default is p.empty else p.default)
            for p in inspect.signature(target).parameters.values()
            if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)  # no fields: they have no names
        }
    return {k: v for k, v in known.items() if k not in skip}


def option(default: Any = MISSING, *, help: str) -> Any:
    """A field of a dataclass with one line of help, which the command line and ``sparring list`` print. No default: required."""
    return field(default=default, metadata={"help": help})


def helps(target: object) -> dict[str, str]:
    """field -> its line of help, "" where it has none."""
    return {f.name: f.metadata.get("help", "") for f in fields(target)} if is_dataclass(target) else {}


def convert(owner: str, field: str, annotation: Any, text: object) -> Any:
    """One field's text as its annotated type; SparringError names the field and what it takes. A tuple takes a list of texts,
    or one text with commas.
    """
    if get_origin(annotation) is tuple:
        several: Iterable[object] = (
            split(text) if isinstance(text, str) else text if isinstance(text, Iterable) else [text]
        )
        return tuple(convert(owner, field, get_args(annotation)[0], part) for part in several)
    value, why = plain(text), ""
    if isinstance(text, str):
        if text.lower() in ("none", "null") and (takes(annotation, type(None)) or not takes(annotation, str)):
            value = None
        elif takes_numbers(annotation):
            try:
                value = parsed(text, annotation)
            except ValueError as error:
                why = str(error)
    if isinstance(value, bool) and takes_numbers(annotation) and not takes(annotation, bool):
        raise SparringError(f"{owner}: {field}={value} is not valid: write a number ({_takes(annotation)})")
    overflows = isinstance(text, str) and value in (math.inf, -math.inf) and "inf" not in text.lower()
    if overflows or not is_finite_for(annotation, value):
        raise SparringError(f"{owner}: {field}={text} is not a finite number{_must(annotation)}")
    try:
        result = adapter(annotation).validate_python(value)
    except ValidationError as error:
        raise SparringError(_fault(owner, field, annotation, text, error, why)) from None
    if isinstance(value, str) and isinstance(result, int | float) and not isinstance(result, bool):
        raise SparringError(f"{owner}: {field}={text} is not valid: {why} ({_takes(annotation)})")
    return result


def _must(annotation: object) -> str:
    words = range_of(annotation)
    return f" (it must be {words})" if words else ""


def _fault(owner: str, field: str, annotation: object, value: object, error: ValidationError, why: str = "") -> str:
    """One line for what pydantic found."""
    faults = error.errors()
    if any(f["type"] in LIMITS for f in faults):
        return f"{owner}: {field}={value} is out of range: {field} must be {range_of(annotation)}"
    reason = why or faults[0]["msg"][:1].lower() + faults[0]["msg"][1:]
    return f"{owner}: {field}={value} is not valid: {reason} ({_takes(annotation)})"


def _takes(annotation: object) -> str:
    words = range_of(annotation)
    return f"takes {describe(annotation)}{f', {words}' if words else ''}"


def values_of(config: object) -> dict[str, object]:
    """field -> its value, of a dataclass of any make (with slots, with fields that only the class holds)."""
    return {f.name: getattr(config, f.name) for f in _fields(config)}


def _fields(config: object) -> tuple[Field[object], ...]:
    if not is_dataclass(config):
        raise TypeError(f"{config!r} is not a dataclass, so its options are unknown")
    return fields(config)


def registered_name(kind: type) -> str:
    """The name under which a class, or the nearest of its bases, is registered; "" where none is."""
    return next((text for c in kind.__mro__ if isinstance(text := vars(c).get("spec_name"), str)), "")


@cache
def _annotations(kind: type) -> Mapping[str, object]:
    """field -> annotation; without those that name types which only a function or a type checker knows."""
    try:
        return get_type_hints(kind, include_extras=True)
    except (NameError, TypeError):
        known: dict[str, object] = {}
        for base in reversed(kind.__mro__):
            for name, annotation in inspect.get_annotations(base).items():
                alone = type(name, (), {"__annotations__": {name: annotation}, "__module__": base.__module__})
                with suppress(NameError, TypeError):
                    known |= get_type_hints(alone, include_extras=True)
        return known


def check_ranges(owner: str, config: object) -> None:
    """Refuse a dataclass made in Python one of whose fields is no number, out of its range or of another type than it declares: NaN
    makes every comparison false, a step of -1 or 0 switches an attack off, both in silence.
    """
    known = _annotations(type(config))
    for name, value in values_of(config).items():
        check_value(owner, name, known.get(name, object), value)


def check_value(owner: str, field: str, annotation: object, value: object) -> None:
    """The same for one field. What no range and no list of words is declared of must be finite, no more."""
    if get_origin(annotation) is tuple and isinstance(value, tuple | list):
        for part in value:
            check_value(owner, field, get_args(annotation)[0], part)
        return
    value = plain(value)
    if not is_finite_for(annotation, value):
        raise SparringError(f"{owner}: {field}={value} is not a finite number{_must(annotation)}")
    if closed(annotation):
        try:
            adapter(annotation).validate_python(value, strict=True)
        except ValidationError as error:
            raise SparringError(_fault(owner, field, annotation, value, error)) from None


def describe(annotation: object) -> str:
    """A type as a user reads it, without its range."""
    texts: list[str] = []
    for leaf, _ in leaves(annotation):
        if get_origin(leaf) is Literal:
            texts += map(str, get_args(leaf))
        else:
            texts.append("none" if leaf is type(None) else leaf.__name__ if isinstance(leaf, type) else str(leaf))
    return " | ".join(texts)


def check_fields(owner: str, given: Mapping[str, object], known: Fields) -> dict[str, Any]:
    """Typed keyword arguments from given texts; a value under "" fills the first field. Missing ones are named."""
    resolved: dict[str, Any] = {}
    for key, text in given.items():
        field = key or next(iter(known), "")
        if field not in known:
            raise SparringError(
                f"{owner}: unknown field {field or text!r}{suggest(field, known)}"
                if known
                else f"{owner} takes no fields, got {field or text!r}"
            )
        resolved[field] = convert(owner, field, known[field][0], text)
    missing = [k for k, (_, default) in known.items() if default is MISSING and k not in resolved]
    if missing:
        before = f"{owner}{',' if owner.startswith(f'{PYTHON}:') else ':'}"
        raise SparringError(
            f"{owner}: field {missing[0]!r} is required (takes {describe(known[missing[0]][0])}); write {before}{missing[0]}=..."
        )
    return resolved


_FILE: ContextVar[str] = ContextVar("file", default="")


@contextmanager
def named_by(file: str | Path) -> Generator[None, None, None]:
    """While this is open specs come from ``file``, and a file names registered things only: never code to import, at no depth."""
    token = _FILE.set(str(file))
    try:
        yield
    finally:
        _FILE.reset(token)


def entry_of(registry: Registry, spec: Spec) -> tuple[Callable[..., Any], Spec]:
    """What a spec names and the spec of its fields: a registered entry, or for ``python:module:name,field=value`` the user's own."""
    if spec.name != PYTHON:
        return registry[spec.name], spec
    path = spec.values.get("", "")
    if file := _FILE.get():
        raise SparringError(
            f"{file} names python:{path}, code to import; a file names registered {registry.kind}s only, so it was not loaded"
        )
    return from_module(path, f"a {registry.kind}"), replace(spec, values={k: v for k, v in spec.values.items() if k})


def build(registry: Registry, spec: Spec | str, skip: tuple[str, ...] = (), **extra: object) -> Any:
    """The object a spec names: registry entry called with its typed fields (and ``extra`` arguments not in specs)."""
    given = parse(spec) if isinstance(spec, str) else spec
    owner = f"{PYTHON}:{given.values.get('', '')}" if given.name == PYTHON else given.name
    entry, spec = entry_of(registry, given)
    arguments = check_fields(owner, spec.values, signature(entry, skip))
    try:
        return entry(**extra, **arguments)
    except SparringError as error:
        prefix = f"{owner}: "
        text = str(error)
        raise type(error)(text if text.startswith(spec.name) else prefix + text) from None


def show(value: object) -> str:
    """A field value as spec text; floats that are whole 255ths print as such, others to twelve digits: a text names one thing."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        steps, plain = value * 255, f"{value:.12g}"
        fraction = f"{round(steps)}/255"
        whole = value != 0 and abs(steps - round(steps)) < 1e-9 * abs(steps)
        return fraction if whole and len(fraction) < len(plain) else plain
    if isinstance(value, tuple):
        return ",".join(show(v) for v in value)
    return "none" if value is None else str(value)


def ball(norm: str, eps: float) -> str:
    """'linf 8/255', 'l2 unbounded'."""
    return f"{norm} {'unbounded' if math.isinf(eps) else show(eps)}"


def spec_text(obj: object, name: str | None = None, bare: bool = False) -> str:
    """Canonical spec text of a dataclass: its name and the fields that differ from their defaults, in order. ``bare``: the name alone,
    which for a class that is not registered says where it is to be imported from.
    """
    name = name or registered_name(type(obj)) or f"python:{type(obj).__module__}:{type(obj).__qualname__}"
    values = values_of(obj)
    shown = [] if bare else [f for f in _fields(obj) if f.init and f.repr and values[f.name] != f.default]
    parts = [f"{f.name}={show(values[f.name])}" for f in shown]
    return f"{name}{',' if name.startswith('python:') else ':'}{','.join(parts)}" if parts else name
