"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from sparring.core.errors import SparringError

MODEL = typer.Argument(
    help="timm:NAME, torchvision:NAME, cifar_resnet20:weights=FILE, lite0, small_cnn:weights=FILE, python:module:factory",
    show_default=False,
)
DATA = typer.Option(
    "--data",
    help="folder, FILE.npz, torchvision:CIFAR10,root=DIR, imagenet20, cifar20, mnist5k; add ,limit=N,seed=S,classes=0+3",
    show_default=False,
)
Model = Annotated[str, MODEL]
Data = Annotated[str, DATA]
OptionalModel = Annotated[str | None, MODEL]  # --config may say it
OptionalData = Annotated[str | None, DATA]
# numbers stay texts here: the fields they fill say what a number is and what range it has
Limit = Annotated[str | None, typer.Option(metavar="INTEGER", help="use only the first N images")]
Seed = Annotated[str, typer.Option(metavar="INTEGER", help="seed of all randomness")]
Slots = Annotated[str, typer.Option(metavar="INTEGER", help="live rows; changes speed and memory, never answers")]
Json = Annotated[bool, typer.Option("--json", help="machine-readable output on stdout and nothing else there")]
Tracked = Annotated[
    str | None,
    typer.Option(
        "--log", metavar="tensorboard|wandb|mlflow[:PLACE]", help="also log there; PLACE: folder, project or experiment"
    ),
]
Wide = Annotated[bool, typer.Option("--wide", help="tables with all their columns, however narrow the terminal is")]
Expect = Annotated[
    str | None,
    typer.Option(
        "--expect-clean",
        metavar="FLOAT",
        help="declared clean accuracy in [0,1]; stops if the measured one contradicts it",
    ),
]
LargeEps = Annotated[
    bool, typer.Option("--large-eps", help="an linf eps above 0.5 is meant, it is no 8 that was to be 8/255")
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="leave unreadable images of a folder out instead of refusing")
]


def not_blank(text: str | None) -> str | None:
    """An unset shell variable is no way to say that there is no baseline."""
    if text is not None and not text.strip():
        raise SparringError(f"--baseline: nothing stands in {text!r}; name a defense, or leave it out")
    return text


Baseline = Annotated[
    str | None,
    typer.Option(
        help="evaluated defense that each number is compared with, none: the undefended model",
        show_default=False,
        callback=not_blank,
    ),
]
Claimed = Annotated[
    list[str] | None,
    typer.Option(
        "--claim", metavar="TEXT", help='what somebody says a number is: "adaptive,linf 8/255 = 0.45"; may be repeated'
    ),
]
