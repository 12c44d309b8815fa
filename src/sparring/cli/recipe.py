"""``sparring recipe``: the papers' tables by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from sparring.cli.kinds import Json, Once, OneLine, listed, numbers, place_option
from sparring.cli.output import Bar, duration, emit
from sparring.core.errors import SparringError

if TYPE_CHECKING:
    from sparring.recipes.numbers import Replay
    from sparring.recipes.recipe import Recipe
    from sparring.recipes.replay import PlannedStep

ScaleName = Literal["small", "paper"]
Name = Annotated[str, typer.Argument(help="PAPER/ITEM, or FILE.toml of your own", show_default=False)]
Scale = Annotated[ScaleName, typer.Option(help="small: 2 cores; paper: the paper's networks, data and budgets")]
Out = Annotated[Path, place_option("folder of the steps and of PAPER/ITEM.SCALE.json; what is there is resumed")]
DataDir = Annotated[
    Path | None, place_option("what ${DATA} in a recipe stands for; default: SPARRING_DATA", "--data-dir")
]

recipe = typer.Typer(
    cls=OneLine,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Five papers, replayed: a table or figure by name, published numbers beside ours, every claim judged.",
    epilog="Example: sparring recipe run channels/table5",
)


@recipe.command("list", cls=Once, epilog="Example: sparring recipe list channels")
def list_recipes(
    paper: Annotated[str, typer.Argument(help="a paper's name, or all")] = "all", json_out: Json = False
) -> None:
    """Every table and figure, what it can be run at, and what is missing."""
    from sparring.recipes.load import recipes_of
    from sparring.report.replays import list_table
    from sparring.report.terminal import draw_table

    recipes = recipes_of(paper)
    content = [
        {"id": r.id, "title": r.title, "status": r.status, "scales": {n: s.minutes for n, s in r.scale.items()}}
        | {"claims": len(r.claim), "missing": r.missing, "source": r.source}
        for r in recipes
    ]
    emit(content, draw_table(list_table(recipes)), json_out)


@recipe.command("run", cls=Once, epilog="Example: sparring recipe run channels/table5 --dry-run")
def run_recipe(
    name: Name,
    scale: Scale = "small",
    only: Annotated[list[str] | None, typer.Option(help="ids of the steps to run, comma-separated")] = None,
    out: Out = Path("runs/recipes"),
    data_dir: DataDir = None,
    workers: Annotated[str, typer.Option(metavar="INTEGER|auto", help="processes of each evaluation")] = "1",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print each step as a command, and the cost")] = False,
    json_out: Json = False,
) -> None:
    """Run a recipe's trainings, evaluations and analyses, print its table and judge its claims. The same command resumes."""
    from sparring.recipes.load import load_recipe
    from sparring.recipes.numbers import picture_folder
    from sparring.recipes.replay import plan, replay

    chosen, steps = load_recipe(name), listed("only", only)
    where = {"out": out, "data_dir": data_dir, "only": steps}
    count = numbers("recipe run", workers=workers)["workers"]
    with Bar(quiet=json_out and not Console(stderr=True).is_terminal) as bar:
        bar(0, 1, "reading the recipe")
        planned = plan(chosen, scale, **where) if dry_run else None
        replayed = None if dry_run else replay(chosen, scale, **where, workers=count, progress=bar)
    if planned is not None:
        _print_plan(planned, chosen.scale[scale].minutes, json_out)
    if replayed is not None:
        _print_replay(chosen, replayed, json_out, picture_folder(chosen, scale, out))


def _print_plan(planned: list[PlannedStep], minutes: float | None, json_out: bool) -> None:
    lines = [f"{step.command}\n  {_cost(step)}" for step in planned]
    known = duration(sum(step.seconds or 0 for step in planned))
    measured = "" if minutes is None else f"; {minutes:g} minutes when it was measured"
    lines.append(f"{len(planned)} steps; evaluations that can be estimated: at most {known}{measured}")
    emit([vars(step) for step in planned], "\n".join(lines), json_out)


def _cost(step: PlannedStep) -> str:
    return "done" if step.done else step.why if step.seconds is None else f"at most {duration(step.seconds)}"


def _print_replay(chosen: Recipe, replayed: Replay, json_out: bool, pictures: Path) -> None:
    from sparring.recipes.judging import agreement, judge
    from sparring.recipes.twins import weak_twins
    from sparring.report.replays import claims_table, counts, number_table
    from sparring.report.terminal import draw_table

    verdicts, provenance = judge(chosen, replayed.numbers), replayed.provenance
    weak = [twin.line for twin in weak_twins(chosen, replayed)]
    if json_out:
        content = {
            "recipe": replayed.recipe,
            "scale": replayed.scale,
            "provenance": provenance,
            "absent": replayed.absent,
            "failed_adaptive": weak,
        }
        shares = [{k: v for k, v in n.json().items() if k != "columns"} for n in replayed.numbers]
        emit({**content, "numbers": shares, "claims": [v.json() for v in verdicts]}, "", True)
        return
    if chosen.published.axes:
        emit({}, draw_table(number_table(chosen, replayed)), False)
    for name in replayed.pictures:
        emit({}, f"picture: {pictures / name}", False)
    if replayed.scale == "paper":
        emit({}, agreement(chosen, replayed), False)
    for line in replayed.doubts:
        emit({}, f"doubted by {line}", False)
    for line in weak:
        emit({}, line, False)
    if verdicts:
        emit({}, draw_table(claims_table(verdicts)), False)
    emit({}, f"claims {counts(verdicts)}. {provenance['command']}: {provenance['seconds']:g} s", False)
    for cell, why in replayed.absent.items():
        emit({}, f"no number of {cell}: {why}", False)


@recipe.command("report", cls=Once, epilog="Example: sparring recipe report --rows docs/replay --html replay")
def report_recipes(
    paper: Annotated[str, typer.Argument(help="a paper's name, or all")] = "all",
    rows: Annotated[Path, place_option("folder of PAPER/ITEM.SCALE.json, and of the pages")] = Path("docs/replay"),
    html: Annotated[
        Path | None, place_option("folder for a front page, index.html, and one page a paper, PAPER.html")
    ] = None,
    json_out: Json = False,
) -> None:
    """Write ROWS/README.md, the front page, and ROWS/PAPER.md of each paper from the rows of its recipes; nothing is run."""
    from sparring.evaluation.records.seal import write_text
    from sparring.recipes.load import papers, recipes_of
    from sparring.recipes.numbers import foreign_rows, replays_of
    from sparring.recipes.twins import weak_twins
    from sparring.report.front import MADE, front_markdown
    from sparring.report.page import refuse_foreign
    from sparring.report.paper import write_replays
    from sparring.report.replays import counts, markdown, verdicts_of

    if not rows.is_dir():
        raise SparringError(
            f"--rows {rows} is no folder; name the one that holds PAPER/ITEM.SCALE.json, the --out of recipe run"
        )
    recipes_of(paper)  # an unknown paper is refused before anything is written
    front = rows / "README.md"
    refuse_foreign(front, MADE)
    if html and (html.suffix or html.is_file()):
        raise SparringError(f"--html {html} is no folder; name one for index.html and PAPER.html")
    chosen = papers() if paper == "all" else [paper]
    recipes = recipes_of()
    replayed = [(r, replays_of(r, rows)) for r in recipes]
    summary: dict[str, str] = {}
    for name in chosen:
        own = [pair for pair in replayed if pair[0].paper == name]
        page = rows / f"{name}.md"
        write_text(page, markdown(name, own))
        weak = [f"{r.item}: {twin.line}" for r, runs in own for run in runs for twin in weak_twins(r, run)]
        summary[name] = "\n  ".join([f"{page}: {counts(verdicts_of(own))}", *weak])
    write_text(front, front_markdown(replayed))
    summary["front page"] = str(front)
    for file in foreign_rows(recipes, rows):
        summary[str(file)] = f"{file}: of no recipe of the five papers, not reported"
    if html:
        summary["html"] = ", ".join(map(str, write_replays(replayed, chosen, html)))
    emit(summary, "\n".join(summary.values()), json_out)
