"""``sparring analyze``: one command per registered analysis, made from its fields; tables on stdout, pictures on request."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparring.cli.kinds import (
    Command,
    Entries,
    Json,
    Values,
    command,
    given,
    group,
    numbers,
    options,
    parameter,
    place_option,
)
from sparring.cli.output import print_panel
from sparring.core.registry import ANALYSES
from sparring.core.spec import helps, signature

Model = Annotated[str, typer.Argument(help="model spec", show_default=False)]
Models = Annotated[
    list[str], typer.Argument(help="model specs, one or more; all see the same images", show_default=False)
]
Data = Annotated[str, typer.Option("--data", help="images", show_default=False)]
Png = Annotated[Path | None, place_option("write the picture here", suffix=".png")]


class Analyses(Entries):
    """The registered analyses."""

    registry = "analyses"

    def entry_command(self, name: str) -> Command:
        entry = ANALYSES[name]
        fields = signature(entry)
        asked = [parameter("model", Models if entry.many else Model), *options(fields, helps(entry))]
        if entry.needs_data:
            about = f"use only the first N images  [default: {entry.limit or 'all'}]"
            limit = Annotated[str | None, typer.Option(metavar="INTEGER", help=about)]
            asked += [parameter("data", Data), parameter("limit", limit, None)]
        asked += [parameter("png", Png, None)] if entry.pictures else []
        asked.append(parameter("json_out", Json, False))

        def body(values: Values) -> None:
            from sparring.analysis.base import analyze

            options = given(fields, values)
            limit = numbers(f"analyze {name}", limit=values.get("limit"))["limit"]
            panel = analyze(name, values["model"], values.get("data"), limit=limit, **options)
            if values.get("png"):
                from sparring.analysis.drawing import draw

                draw(panel, values["png"])
            print_panel(panel, values["json_out"])

        return command(name, entry.__doc__, f"analyze {entry.example}", asked, body)


analyze = group(
    Analyses,
    "Why a defense works, or seems to: gradients, perturbations, pixels.",
    "analyze pixels cifar_resnet20:weights=W.safetensors --data test.npz --png pixels.png",
)
