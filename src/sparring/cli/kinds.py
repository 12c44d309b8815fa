"""Commands made from declared things: a registry's entries become commands, an entry's fields its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from typing import Annotated, Any, get_args, get_origin

import typer

from sparring.cli.output import many
from sparring.core.spec import describe, show

Fields = Mapping[str, tuple[Any, Any]]


def parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    """One parameter of a command's function, as Typer reads it."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def options(fields: Fields, helps: Mapping[str, str]) -> list[inspect.Parameter]:
    """An option per field. Values stay texts: the fields' own types convert and refuse them, as everywhere a spec is read."""
    found = []
    for name, (annotation, default) in fields.items():
        required, flag = default is MISSING, "--" + name.replace("_", "-")
        about: dict[str, Any] = {"help": helps.get(name, "")}
        if annotation is bool:
            found.append(parameter(name, Annotated[bool, typer.Option(flag, **about)], default))
            continue
        several = get_origin(annotation) is tuple
        text = "" if required or default is None else show(default)
        about["help"] += f"  [default: {text}]" if text else ""
        about |= {"metavar": _metavar(annotation, several), "show_default": False}
        kind = list[str] if several else str
        typed = Annotated[kind if required else kind | None, typer.Option(flag, **about)]
        found.append(parameter(name, typed, inspect.Parameter.empty if required else None))
    return found


def _metavar(annotation: Any, several: bool) -> str:
    args = [a for a in get_args(annotation) if a not in (type(None), ...)]
    return f"{describe(args[0])},..." if several else "|".join(map(describe, args)) if args else describe(annotation)


def given(fields: Fields, values: Mapping[str, Any]) -> dict[str, Any]:
    """Of a command's values those of ``fields`` that the user gave; lists split at commas."""
    found = {k: values[k] for k in fields if values[k] is not None}
    return {k: many(v) if isinstance(v, list) else v for k, v in found.items()}


def command(
    name: str, doc: str, example: str, parameters: list[inspect.Parameter], body: Callable[[dict[str, Any]], None]
) -> Any:
    """A command whose function takes ``parameters`` and gives their values to ``body``."""

    def call(**values: Any) -> None:
        body(values)

    ordered = sorted(parameters, key=lambda p: p.default is not inspect.Parameter.empty)
    call.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in ordered}
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(name, help=inspect.cleandoc(doc), epilog=f"Example: sparring {example}")(call)
    return typer.main.get_command(app)
