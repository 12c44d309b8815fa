"""One spec text everywhere: ``name:field=value,field=value`` <-> keyword arguments <-> a frozen object.

The same text works on the command line, in TOML, in Python, and is what tables print. Numbers may be fractions
(``eps=8/255``). One value without ``field=`` fills the first field (``timm:resnet18``). Fields are checked
against the annotations of the dataclass or function they belong to.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from sparring.core.errors import SparringError
from sparring.core.registry import Registry, from_module, suggest

PYTHON = "python"  # the name in a spec of what is imported: python:module:name
INFINITE = "may be infinite"
Fields = Mapping[str, tuple[object, object]]  # field -> (annotation, default or MISSING)
Extended = Annotated[float, INFINITE]  # a field that takes inf; every other one is finite


@dataclass(frozen=True)
class Spec:
    """A parsed spec text: the name and the fields as given (strings)."""

    name: str
    values: dict[str, str]

    def __str__(self) -> str:
        parts = ",".join(v if k == "" else f"{k}={v}" for k, v in self.values.items())
        return f"{self.name}:{parts}" if parts else self.name


def parse(text: str) -> Spec:
    """Split ``name:field=value,...``; raises SparringError for an empty name or a field given twice."""
    name, _, rest = text.strip().partition(":")
    if not name:
        raise SparringError(f"empty name in spec {text!r}; write NAME or NAME:field=value,...")
    values: dict[str, str] = {}
    for part in filter(None, (p.strip() for p in rest.split(","))):
        key, equals, value = part.partition("=")
        if not equals:
            key, value = "", part
        if key in values:
            raise SparringError(
                f"{name}: {'a value without a field name' if not key else f'field {key!r}'} given twice in {text!r}"
            )
        values[key.strip()] = value.strip()
    return Spec(name, values)


def split(text: str, separator: str = ",") -> list[str]:
    """Split a list of specs at ``separator``; a comma inside ``name:a=1,b=2`` belongs to the spec.

    ``pgd:eps=8/255,steps=40,fgsm`` -> two specs: a new one begins where a part has no ``=`` or has a name before
    it.
    """
    if separator != ",":
        return [part.strip() for part in text.split(separator) if part.strip()]
    specs: list[str] = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        head = part.split("=", 1)[0]
        if specs and "=" in part and ":" not in head:
            specs[-1] += ("," if ":" in specs[-1] else ":") + part
        else:
            specs.append(part)
    return specs


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
        }
    return {k: v for k, v in known.items() if k not in skip}


def option(default: Any = MISSING, *, help: str) -> Any:
    """A field of a dataclass with one line of help, which the command line and ``sparring list`` print. No default: required."""
    return field(default=default, metadata={"help": help})


def helps(target: object) -> dict[str, str]:
    """field -> its line of help, "" where it has none."""
    return {f.name: f.metadata.get("help", "") for f in fields(target)} if is_dataclass(target) else {}


def number(text: str) -> float:
    """'8/255', '0.5/255', '0.03', 'inf' -> float."""
    above, slash, below = text.partition("/")
    return float(above) / float(below) if slash else float(above)


def convert(owner: str, field: str, annotation: Any, text: object) -> Any:
    """One field's text as its annotated type; SparringError names the field and what it takes. A tuple takes a list of texts,
    or one text with commas.
    """
    if get_origin(annotation) is tuple:
        given: Iterable[object] = (
            split(text) if isinstance(text, str) else text if isinstance(text, Iterable) else [text]
        )
        return tuple(convert(owner, field, get_args(annotation)[0], part) for part in given)
    value = text
    if isinstance(text, str):
        if text.lower() in ("none", "null"):
            value = None
        elif _takes(annotation, float) or _takes(annotation, int):
            try:
                value = number(text)
            except (ValueError, ZeroDivisionError):
                value = text
            if (
                isinstance(value, float)
                and _takes(annotation, int)
                and not _takes(annotation, float)
                and value.is_integer()
            ):
                value = int(value)
    if isinstance(value, float) and (math.isnan(value) or (math.isinf(value) and INFINITE not in get_args(annotation))):
        raise SparringError(f"{owner}: {field}={text} is not a finite number")
    try:
        return TypeAdapter(annotation).validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"][:1].lower() + error.errors()[0]["msg"][1:]
        raise SparringError(f"{owner}: {field}={text} is not valid: {reason} (takes {describe(annotation)})") from None


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


def check_finite(owner: str, config: object) -> None:
    """Refuse a dataclass with a field that is no number: NaN makes every comparison false and would switch things off in silence."""
    for name, value in values_of(config).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise SparringError(f"{owner}: {name}={value} is not a finite number")


def _takes(annotation: object, kind: type) -> bool:
    return annotation is kind or any(_takes(a, kind) for a in get_args(annotation))


def describe(annotation: object) -> str:
    """A type as a user reads it."""
    if annotation is type(None):
        return "none"
    if args := [a for a in get_args(annotation) if a is not INFINITE]:
        return " | ".join(describe(a) if isinstance(a, type) or get_args(a) else str(a) for a in args)
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


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
        raise SparringError(
            f"{owner}: field {missing[0]!r} is required (takes {describe(known[missing[0]][0])}); write {owner}:{missing[0]}=..."
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
    entry, spec = entry_of(registry, parse(spec) if isinstance(spec, str) else spec)
    arguments = check_fields(spec.name, spec.values, signature(entry, skip))
    try:
        return entry(**extra, **arguments)
    except SparringError as error:
        prefix = f"{spec.name}: "
        text = str(error)
        raise type(error)(text if text.startswith(spec.name) else prefix + text) from None


def show(value: object) -> str:
    """A field value as spec text; floats that are whole 255ths print as such."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        steps, plain = value * 255, f"{value:g}"
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
