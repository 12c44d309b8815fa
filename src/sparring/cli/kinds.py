"""Commands made from declared things: a registry's entries become commands, an entry's fields its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass
from typing import Annotated, Any, ClassVar, get_origin

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import OptionInfo

from sparring.cli.output import many, widened
from sparring.core.errors import SparringError
from sparring.core.ranges import Count, Positive, Seed, Share, Workers, leaves, range_of
from sparring.core.registry import REGISTRIES
from sparring.core.spec import Fields, check_fields, describe, show, signature
from sparring.evaluation.records.place import Place, Remote, place_of

Values = dict[str, Any]  # what Typer read, by parameter
Command = Any  # click's, or the one that newer versions of Typer bring along
Json = Annotated[bool, typer.Option("--json", help="machine-readable output on stdout")]


@dataclass(frozen=True)
class Shared:
    """The numbers that several commands take."""

    limit: Count | None = None
    seed: Seed = 0
    slots: Count = 64
    expect_clean: Share | None = None
    workers: Workers | None = None
    gpus_per_worker: Positive | None = None
    max_time: Positive | None = None
    max_forwards: Count | None = None


def place(text: str | Place) -> Place:
    """A path as typed, or a place in a store (s3://...). Raises typer.BadParameter for an empty one, as an unset shell variable leaves it: it would be
    the current folder.
    """
    if not str(text).strip():
        raise typer.BadParameter("an empty path; write one, or leave the option out (is a shell variable unset?)")
    return place_of(text)


def place_option(help: str, *flags: str, shown: bool = True, suffix: str = "", stored: bool = False) -> OptionInfo:
    """An option that takes a path; with ``suffix`` one of a file of that kind, so that no data set or record is replaced by it; with ``stored`` also
    a place in a store.
    """

    def of_kind(text: str | Place) -> Place:
        path = place(text)
        if isinstance(path, Remote) and not stored:
            raise typer.BadParameter(f"{path} is in a store; write a path on this machine's disk")
        if suffix and path.suffix.lower() != suffix:
            raise typer.BadParameter(f"{path} is no {suffix} file; write FILE{suffix}")
        return path

    return typer.Option(
        *flags,
        parser=of_kind,
        metavar=f"FILE{suffix}" if suffix else "PATH|s3://..." if stored else "PATH",
        help=help,
        show_default=shown,
    )


def parameter(name: str, annotation: object, default: object = inspect.Parameter.empty) -> inspect.Parameter:
    """One parameter of a command's function, as Typer reads it."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def options(fields: Fields, helps: Mapping[str, str]) -> list[inspect.Parameter]:
    """An option per field. Values stay texts: the fields' own types convert and refuse them, as everywhere a spec is read."""
    parameters: list[inspect.Parameter] = []
    for name, (annotation, default) in fields.items():
        required, flag = default is MISSING, "--" + name.replace("_", "-")
        if annotation is bool:
            parameters.append(parameter(name, Annotated[bool, typer.Option(flag, help=helps.get(name, ""))], default))
            continue
        several = get_origin(annotation) is tuple
        text = "" if required or default is None else show(default)
        notes = [f"default: {text}" if text else "", range_of(annotation)]
        about = "  ".join([helps.get(name, ""), *(f"[{note}]" for note in notes if note)])
        asked = typer.Option(flag, help=about, metavar=_metavar(annotation, several), show_default=False)
        kind = list[str] if several else str
        typed = Annotated[kind if required else kind | None, asked]
        parameters.append(parameter(name, typed, inspect.Parameter.empty if required else None))
    return parameters


def _metavar(annotation: object, several: bool) -> str:
    kinds = [describe(leaf) for leaf, _ in leaves(annotation) if leaf is not type(None)]
    return f"{kinds[0]},..." if several else "|".join(kinds).replace(" | ", "|")


def given(fields: Fields, values: Mapping[str, object]) -> Values:
    """Of a command's values those of ``fields`` that the user gave; lists split at commas."""
    chosen = {k: values[k] for k in fields if values[k] is not None}
    return {k: listed(k.replace("_", "-"), v) if isinstance(v, list) else v for k, v in chosen.items()}


def command(
    name: str, doc: str, example: str, parameters: list[inspect.Parameter], body: Callable[[Values], None]
) -> Command:
    """A command whose function takes ``parameters`` and gives their values to ``body``."""

    def call(**values: object) -> None:
        body(values)

    ordered = sorted(parameters, key=lambda p: p.default is not inspect.Parameter.empty)
    vars(call)["__signature__"] = inspect.Signature(ordered)
    call.__annotations__ = {p.name: p.annotation for p in ordered}
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(name, cls=Once, help=inspect.cleandoc(doc), epilog=f"Example: sparring {example}")(call)
    return typer.main.get_command(app)


def listed(option: str, values: list[str] | None) -> list[str]:
    """The specs of a repeatable option that takes a comma-separated list. Raises SparringError, by the option's name, for an empty one."""
    try:
        parts = many(values)
    except SparringError as error:
        raise SparringError(f"--{option}: {error}") from None
    if "0" in parts[:-1]:
        raise SparringError(
            f"--{option}: {','.join(parts)} is a list of {len(parts)}; a decimal is written with a point: 0.{parts[-1]}"
        )
    return parts


def numbers(owner: str, **texts: str | None) -> Values:
    """The numbers that every command shares, from what was typed. Raises SparringError for what is none or out of its range."""
    given = {name: text for name, text in texts.items() if text is not None}
    return {**dict.fromkeys(texts), **check_fields(owner, given, signature(Shared))}


class Once(TyperCommand):
    """A command that refuses an option given twice, of which click would silently keep the last, and prints --wide tables where it has that option."""

    def parse_args(self, ctx: Command, args: list[str]) -> list[str]:
        said = self.make_parser(ctx).parse_args(args=list(args))[2]
        single = [p for p in said if p.param_type_name == "option" and not p.multiple]
        for option in single:
            if single.count(option) > 1:
                raise SparringError(f"{max(option.opts, key=len)} is given more than once; give it once")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Command) -> object:
        with widened(bool(ctx.params.get("wide"))):
            return super().invoke(ctx)


class OneLine(TyperGroup):
    """Commands whose misuse is one line, as every other mistake: click's own error takes three."""

    def make_context(self, info_name: str | None, args: list[str], parent: Command = None, **extra: object) -> Command:
        with as_one_line():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: Command) -> object:
        with as_one_line():
            return super().invoke(ctx)


@contextmanager
def as_one_line() -> Generator[None, None, None]:
    """Turn click's UsageError into a SparringError; the help that a bare command prints stays."""
    try:
        yield
    except Exception as error:
        names = [kind.__name__ for kind in type(error).__mro__]
        if "UsageError" not in names or "NoArgsIsHelpError" in names:
            raise
        usage: Command = error
        where = f"; see {usage.ctx.command_path} --help" if usage.ctx else ""
        raise SparringError(f"{usage.format_message().rstrip('.')}{where}") from None


class Entries(TyperGroup):
    """The entries of a registry as commands, each made when it is asked for (the registry imports torch). Subclasses name the
    registry and write ``entry_command``.
    """

    registry: ClassVar[str]

    def list_commands(self, ctx: object) -> list[str]:
        return list(REGISTRIES[self.registry])

    def get_command(self, ctx: object, cmd_name: str) -> Command:
        return self.entry_command(cmd_name)

    def entry_command(self, name: str) -> Command:
        """The command of the entry of this name."""
        raise NotImplementedError


def group(kind: type[Entries], help: str, example: str) -> typer.Typer:
    """The command whose subcommands are the entries of a registry. ``example``: words after ``sparring``."""
    app = typer.Typer(
        cls=kind, no_args_is_help=True, rich_markup_mode=None, help=help, epilog=f"Example: sparring {example}"
    )

    @app.callback()
    def _group() -> None:
        pass

    return app
