"""``sparring train``: one command per registered training task, made from its fields and the schedule's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from sparring.cli.kinds import (
    Command,
    Entries,
    Values,
    command,
    given,
    group,
    numbers,
    options,
    parameter,
    place_option,
)
from sparring.cli.output import Bar, emit
from sparring.core.registry import TASKS
from sparring.core.spec import helps, signature

Data = Annotated[
    str, typer.Option("--data", help="training images; a share is held out for choosing the epoch", show_default=False)
]
Out = Annotated[
    Path,
    place_option("weights file, FILE.safetensors; card FILE.json and curve FILE.csv beside it", shown=False),
]
Folder = Annotated[Path, place_option("folder that is written", shown=False)]
Log = Annotated[Path | None, place_option("TensorBoard folder")]
Limit = Annotated[str | None, typer.Option(metavar="INTEGER", help="draw so many of the images, by --seed")]
Json = Annotated[bool, typer.Option("--json", help="the card on stdout")]


class Tasks(Entries):
    """The registered training tasks."""

    registry = "tasks"

    def entry_command(self, name: str) -> Command:
        from sparring.training.base import Schedule, schedule_fields

        entry = TASKS[name]
        fields = {**signature(entry), **schedule_fields(entry)}
        lines = {
            **helps(Schedule),
            **helps(entry),
            "scale": f"{', '.join(entry.scales)}: network and schedule, see above",
        }
        asked = [parameter("data", Data), parameter("out", Out if entry.scales else Folder), *options(fields, lines)]
        asked += [parameter("log", Log, None)] if entry.scales else []
        asked += [parameter("limit", Limit, None), parameter("json_out", Json, False)]

        def body(values: Values) -> None:
            from sparring.training.base import train

            where = {k: values.get(k) for k in ("data", "out", "log")}
            where |= numbers(f"train {name}", limit=values.get("limit"))
            with Bar() as bar:
                trained = train(name, **where, progress=bar, **given(fields, values))
            if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
                emit(trained.card, trained.text, values["json_out"])

        return command(name, entry.__doc__, f"train {entry.example}", asked, body)


train = group(
    Tasks,
    "Train a classifier or a learned defense; every run resumes. Scales: small (2 cores, minutes) and the paper's.",
    "train classifier --data mnist5k:split=train --out small_cnn.safetensors",
)
