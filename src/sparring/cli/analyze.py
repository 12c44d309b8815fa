"""``sparring analyze``: one command per registered analysis, made from its fields; tables on stdout, pictures on request."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sparring.cli.kinds import command, given, options, parameter
from sparring.cli.output import print_panel
from sparring.core.spec import helps, signature

Model = Annotated[str, typer.Argument(help="model spec", show_default=False)]
Models = Annotated[
    list[str], typer.Argument(help="model specs, one or more; all see the same images", show_default=False)
]
Data = Annotated[str, typer.Option("--data", help="images", show_default=False)]
Png = Annotated[Path | None, typer.Option(help="write the picture here")]
Json = Annotated[bool, typer.Option("--json", help="machine-readable output on stdout")]


class Analyses(TyperGroup):
    """The registered analyses as commands, made when one is asked for (the registry imports torch)."""

    def list_commands(self, ctx: Any) -> list[str]:
        from sparring.core.registry import ANALYSES

        return list(ANALYSES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        from sparring.core.registry import ANALYSES

        entry = ANALYSES[cmd_name]
        fields = signature(entry)
        asked = [parameter("model", Models if entry.many else Model), *options(fields, helps(entry))]
        if entry.needs_data:
            about = f"use only the first N images  [default: {entry.limit or 'all'}]"
            limit = Annotated[int | None, typer.Option(help=about)]
            asked += [parameter("data", Data), parameter("limit", limit, None)]
        asked += [parameter("png", Png, None)] if entry.pictures else []
        asked.append(parameter("json_out", Json, False))

        def body(values: dict[str, Any]) -> None:
            from sparring.analysis.base import analyze

            panel = analyze(
                cmd_name, values["model"], values.get("data"), limit=values.get("limit"), **given(fields, values)
            )
            if values.get("png"):
                from sparring.report.maps import draw

                draw(panel, values["png"])
            print_panel(panel, values["json_out"])

        return command(cmd_name, entry.__doc__, f"analyze {entry.example}", asked, body)


analyze = typer.Typer(
    cls=Analyses,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Why a defense works, or seems to: gradients, perturbations, pixels.",
    epilog="Example: sparring analyze pixels cifar_resnet20:weights=W.safetensors --data test.npz --png pixels.png",
)


@analyze.callback()
def _group() -> None:
    pass
