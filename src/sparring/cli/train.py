"""``sparring train``: one command per registered training task, made from its fields and the schedule's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sparring.cli.kinds import command, given, options, parameter
from sparring.cli.output import Bar, emit
from sparring.core.spec import helps, signature

Data = Annotated[
    str, typer.Option("--data", help="training images; a share is held out for choosing the epoch", show_default=False)
]
Out = Annotated[
    Path,
    typer.Option(
        help="weights file, FILE.safetensors; card FILE.json and curve FILE.csv beside it", show_default=False
    ),
]
Folder = Annotated[Path, typer.Option(help="folder that is written", show_default=False)]
Log = Annotated[Path | None, typer.Option(help="TensorBoard folder")]
Limit = Annotated[int | None, typer.Option(help="draw so many of the images, by --seed")]
Json = Annotated[bool, typer.Option("--json", help="the card on stdout")]


class Tasks(TyperGroup):
    """The registered training tasks as commands, made when one is asked for (the registry imports torch)."""

    def list_commands(self, ctx: Any) -> list[str]:
        from sparring.core.registry import TASKS

        return list(TASKS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        from sparring.core.registry import TASKS
        from sparring.training.base import Schedule, schedule_fields

        entry = TASKS[cmd_name]
        fields = {**signature(entry), **schedule_fields(entry)}
        lines = {
            **helps(Schedule),
            **helps(entry),
            "scale": f"{', '.join(entry.scales)}: network and schedule, see above",
        }
        asked = [parameter("data", Data), parameter("out", Out if entry.scales else Folder), *options(fields, lines)]
        asked += [parameter("log", Log, None)] if entry.scales else []
        asked += [parameter("limit", Limit, None), parameter("json_out", Json, False)]

        def body(values: dict[str, Any]) -> None:
            from sparring.training.base import train

            where = {k: values.get(k) for k in ("data", "out", "limit", "log")}
            with Bar() as bar:
                trained = train(cmd_name, **where, progress=bar, **given(fields, values))
            if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
                emit(trained.card, trained.text, values["json_out"])

        return command(cmd_name, entry.__doc__, f"train {entry.example}", asked, body)


train = typer.Typer(
    cls=Tasks,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Train a classifier or a learned defense; every run resumes. Scales: small (2 cores, minutes) and the paper's.",
    epilog="Example: sparring train classifier --data mnist5k:split=train --out small_cnn.safetensors",
)


@train.callback()
def _group() -> None:
    pass
