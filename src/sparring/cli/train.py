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
from sparring.cli.options import Tracked
from sparring.cli.output import Bar, emit
from sparring.core.errors import SparringError
from sparring.core.registry import TASKS
from sparring.core.spec import helps, signature

Data = Annotated[
    str, typer.Option("--data", help="training images; a share is held out for choosing the epoch", show_default=False)
]
Out = Annotated[
    Path,
    place_option("weights file, FILE.safetensors; card FILE.json and curve FILE.csv beside it", shown=False),
]
Folder = Annotated[Path, place_option("folder or file that is written, see above", shown=False)]
Limit = Annotated[str | None, typer.Option(metavar="INTEGER", help="draw so many of the images, by --seed")]
Seeds = Annotated[
    str | None,
    typer.Option(
        metavar="0,1,2",
        help="one training for each of these seeds, into OUT.seedN; the same command makes what is missing",
    ),
]
Where = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="processes|ray",
        help="where the trainings of --seeds run: here one by one, or on a Ray cluster",
    ),
]
Address = Annotated[
    str | None, typer.Option(metavar="auto|HOST:PORT", help="of a Ray cluster; default: one of its own here")
]
Gpus = Annotated[
    str | None, typer.Option("--gpus-per-worker", metavar="NUMBER", help="of each training on Ray, a part is allowed")
]
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
        asked += [parameter("log", Tracked, None)] if entry.scales else []
        asked += [parameter("limit", Limit, None), parameter("json_out", Json, False)]
        asked += [parameter("seeds", Seeds, None), parameter("engine", Where, "processes")]
        asked += [parameter("address", Address, None), parameter("gpus_per_worker", Gpus, None)]

        def body(values: Values) -> None:
            from sparring.training.base import train

            if values["seeds"] is not None:
                several(name, values, given(fields, values))
                return
            refuse_without_seeds(values)
            where = {k: values.get(k) for k in ("data", "out", "log")}
            where |= numbers(f"train {name}", limit=values.get("limit"))
            with Bar() as bar:
                trained = train(name, **where, progress=bar, **given(fields, values))
            if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
                emit(trained.card, trained.text, values["json_out"])

        return command(name, entry.__doc__, f"train {entry.example}", asked, body)


def several(name: str, values: Values, options: Values) -> None:
    """The trainings of --seeds."""
    from sparring.conduct.engine import Engine
    from sparring.conduct.trainings import train_seeds

    if values.get("log"):
        raise SparringError(f"train {name}: --log is of one training; leave it or --seeds out")
    engine = Engine.of(values["engine"], values["address"], values["gpus_per_worker"], None, None)
    limit = numbers(f"train {name}", limit=values.get("limit")).get("limit")
    texts: Values = {k: v if isinstance(v, tuple | list) else str(v) for k, v in options.items()}
    with Bar() as bar:
        trained = train_seeds(
            name, values["seeds"], data=values["data"], out=values["out"], limit=limit, engine=engine, say=bar, **texts
        )
    emit([one.card for one in trained], "\n".join(one.text for one in trained), values["json_out"])


def refuse_without_seeds(values: Values) -> None:
    """Raise SparringError for options that only several trainings have."""
    plain = {"engine": "processes", "address": None, "gpus_per_worker": None}
    for option in (option for option, value in plain.items() if values[option] != value):
        raise SparringError(
            f"train: {option.replace('_', '-')} is where the trainings of --seeds run; give --seeds 0,1,2, or leave it out"
        )


train = group(
    Tasks,
    "Train a classifier or a learned defense; every run resumes. Scales: small (2 cores, minutes) and the paper's.",
    "train classifier --data mnist5k:split=train --out small_cnn.safetensors",
)
