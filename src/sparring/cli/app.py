"""Commands. Each parses its words, calls one function of a lower room and prints what comes back."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sparring.cli.analyze import analyze
from sparring.cli.compare import EXAMPLE as COMPARING
from sparring.cli.compare import compare
from sparring.cli.evaluate import EXAMPLE, evaluate
from sparring.cli.gates import FailUnder, FailVerdict, Junit, gate_of, pass_or_leave
from sparring.cli.hub import PULLING, PUSHING, pull, push
from sparring.cli.kinds import Once, OneLine, listed, numbers, place, place_option
from sparring.cli.options import (
    Baseline,
    Claimed,
    Data,
    Expect,
    Json,
    LargeEps,
    Limit,
    Model,
    Seed,
    SkipBad,
    Slots,
    Wide,
)
from sparring.cli.output import Bar, emit, print_evaluation
from sparring.cli.recipe import recipe
from sparring.cli.train import train
from sparring.core.errors import SparringError, visible_lines
from sparring.core.registry import load_plugin
from sparring.version import __version__

app = typer.Typer(
    cls=OneLine,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Put a defended image classifier in the ring: honest, adaptive robustness evaluation.",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"sparring {__version__}")
        raise typer.Exit


@app.callback()
def root(
    plugin: Annotated[
        list[Path] | None,
        typer.Option(help="Python file whose decorators enrol attacks, defenses, threats, ...; may be repeated"),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and leave")
    ] = False,
) -> None:
    """Put a defended image classifier in the ring: honest, adaptive robustness evaluation."""
    for file in plugin or ():
        load_plugin(file)


app.add_typer(train, name="train")
app.add_typer(analyze, name="analyze")
app.add_typer(recipe, name="recipe")

app.command(cls=Once, epilog=EXAMPLE)(evaluate)
app.command(cls=Once, epilog=COMPARING)(compare)
app.command(cls=Once, epilog=PUSHING)(push)
app.command(cls=Once, epilog=PULLING)(pull)


@app.command(cls=Once, epilog="Example: sparring doctor lite0 --data imagenet20 --defense cd:bits=4")
def doctor(
    model: Model,
    data: Data,
    defense: Annotated[list[str] | None, typer.Option(help="defense specs, comma-separated or repeated")] = None,
    attack: Annotated[list[str] | None, typer.Option(help="attacks for the zero-budget check")] = None,
    limit: Limit = None,
    seed: Seed = "0",
    expect_clean: Expect = None,
    skip_bad: SkipBad = False,
    large_eps: LargeEps = False,
    json_out: Json = False,
) -> None:
    """Is the set-up right, and do gradients lead anywhere? Range, normalisation, mode, logits, determinism, clean accuracy, eps=0 identity, slopes.
    Exit code 2 if not.
    """
    from sparring.attacks.attack import attack as make_attack
    from sparring.checks.base import Context, run_checks
    from sparring.checks.trials import run_first_checks
    from sparring.evaluation.plan.budgets import refuse_large, with_budgets
    from sparring.report.sections.checks import findings_table
    from sparring.report.terminal import draw_table
    from sparring.subject import Subject

    typed = numbers("doctor", limit=limit, seed=seed, expect_clean=expect_clean)
    attacks = [make_attack(a) for a in listed("attack", attack) or ["pgd", "apgd"]]
    refuse_large(attacks, (), large_eps)
    with Bar(quiet=json_out and not Console(stderr=True).is_terminal) as bar:

        def say(text: str) -> None:
            bar(0, 1, f"checking: {text}")

        bar(0, 1, "loading the model and the images")
        subject = Subject.of(model, data, listed("defense", defense), limit=typed["limit"], skip_bad=skip_bad)
        budgeted = with_budgets(attacks, (), subject.images.shape)
        context = Context.of(subject, budgeted, "quick", typed["expect_clean"], typed["seed"])
        findings = run_checks(context, say=say)
        if not any(f.stops for f in findings):
            findings += run_first_checks(subject, budgeted[0], typed["seed"], say)
    emit([vars(f) for f in findings], draw_table(findings_table(findings)), json_out)
    failed = [f for f in findings if not f.ok and f.severity in ("FATAL", "FAIL")]
    if failed:
        raise SparringError(f"{len(failed)} check(s) failed, the first is {failed[0].check}: {failed[0].message}")


@app.command(
    cls=Once, epilog="Example: sparring attack lite0 --data imagenet20 --attack pgd:eps=4/255 --out adversarial/"
)
def attack(
    model: Model,
    data: Data,
    attack: Annotated[str, typer.Option(help="one attack spec")],
    out: Annotated[Path, place_option("folder for images.safetensors, PNG files and table.json")],
    defense: Annotated[str, typer.Option(help="attack through this defense's declared surrogates")] = "none",
    limit: Limit = None,
    seed: Seed = "0",
    slots: Slots = "64",
    to_end: Annotated[
        bool, typer.Option("--to-end", help="spend all steps, and do not stop at the first point that fools")
    ] = False,
    image_format: Annotated[str, typer.Option("--format", help="png (lossless); jpeg is refused")] = "png",
    skip_bad: SkipBad = False,
    large_eps: LargeEps = False,
    json_out: Json = False,
) -> None:
    """Make adversarial images, save them losslessly (float tensor, and 8-bit PNG with its own label), re-score what
    was saved.
    """
    from sparring.attacks.attack import Attack
    from sparring.attacks.attack import attack as make_attack
    from sparring.checks.base import Context, run_checks
    from sparring.evaluation.plan.budgets import refuse_large
    from sparring.evaluation.run.save import make_images, refuse_taken
    from sparring.report.tables import images_table
    from sparring.report.terminal import draw_table
    from sparring.subject import Subject

    if image_format.lower() != "png":
        raise SparringError(
            f"--format {image_format}: adversarial images are stored losslessly, as png; jpeg would change them"
        )
    typed = numbers("attack", limit=limit, seed=seed, slots=slots)
    refuse_large([make_attack(attack)], (), large_eps)
    refuse_taken(out)

    def inspect(subject: Subject, budgeted: Attack) -> list[dict[str, object]]:
        context = Context.of(subject, [budgeted], "quick", None, typed["seed"])
        findings = run_checks(context, say=lambda text: bar(0, 1, f"checking: {text}"))
        return [vars(f) for f in findings if not f.ok and f.severity != "INFO"]

    with Bar() as bar:
        bar(0, 1, "loading the model and the images")
        subject = Subject.of(model, data, [defense], limit=typed["limit"], skip_bad=skip_bad)
        how = {"seed": typed["seed"], "slots": typed["slots"], "to_end": to_end}
        summary = make_images(subject, attack, out, defense, **how, inspect=inspect, progress=bar)
    emit(summary, draw_table(images_table(summary)), json_out)
    for f in summary["checks"]:
        warnings.warn(f"check {f['check']} {f['severity']}: {f['message']}", stacklevel=1)
    if summary["checks"]:
        warnings.warn(
            "what withstands these images is no evidence of robustness: sparring evaluate looks for what is",
            stacklevel=1,
        )


@app.command(
    cls=Once, epilog="Example: sparring export mnist_cnn --data mnist5k --defense cd:bits=4 --out defended.onnx"
)
def export(
    model: Model,
    data: Data,
    out: Annotated[
        Path, place_option("the file: .pt2 (torch.export) or .onnx; its card (FILE.pt2.json) is written beside it")
    ],
    defense: Annotated[str, typer.Option(help="one defense spec, stages joined by +")] = "none",
    json_out: Json = False,
) -> None:
    """Write a model behind its defense to a file for use elsewhere. It is loaded again and must give the same labels on the first 100 images."""
    from sparring.deploy.export import export as write

    exported = write(model, defense, out, data)
    said = "its noise is its own" if exported.difference is None else f"logits differ by {exported.difference:.1g}"
    line = f"{out}: same label on {100 * exported.agree:.0f} % of {exported.images} images, {said}; it loads as {exported.loads_as}"
    emit(vars(exported), line, json_out)


@app.command(
    cls=Once,
    epilog="Example: sparring report runs/first --html report.html; sparring report runs/first --metric success_defense",
)
def report(
    runs: Annotated[list[Path], typer.Argument(help="run folders", parser=place)],
    html: Annotated[
        Path | None, place_option("write one self-contained page here", suffix=".html", stored=True)
    ] = None,
    images: Annotated[
        Path | None,
        place_option(
            "write a line per image here: its worst point, and the checks that doubt it", suffix=".csv", stored=True
        ),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="print these metrics instead (sparring list metrics), comma-separated")
    ] = None,
    baseline: Baseline = None,
    claim: Claimed = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="markdown|latex|csv|html|text", help="print the table alone, for another program"
        ),
    ] = None,
    fail_under: FailUnder = None,
    fail_verdict: FailVerdict = None,
    junit: Junit = None,
    wide: Wide = False,
    json_out: Json = False,
) -> None:
    """Tables and a page from run folders; nothing is run again. With --baseline and --claim they are judged anew. Exit code 3 where a run lacks
    some of its rows, so that it has no verdict; 4 where --fail-under or --fail-verdict says so.
    """
    from sparring.evaluation.records.files import read_run
    from sparring.evaluation.results.load import whole_rows
    from sparring.evaluation.results.metrics.base import measure
    from sparring.report.formats import evaluation_as, table_as
    from sparring.report.page import write_report
    from sparring.report.tables import metrics_table
    from sparring.report.terminal import draw_table
    from sparring.verdict.read import load_evaluation

    if metric and (html or images):
        raise SparringError(f"--metric prints metrics and writes nothing; leave {'--html' if html else '--images'} out")
    gate = gate_of(fail_under, listed("fail-verdict", fail_verdict), junit)
    if metric and gate:
        raise SparringError(
            "--fail-under and --fail-verdict look at verdicts, which --metric leaves out; give one of them"
        )
    if metric:
        names = listed("metric", metric)
        loaded = [whole_rows(run, read_run(run)) for run in runs]
        measured = [result for rows, _, _ in loaded for name in names for result in measure(rows, name)]
        for run, (_, missing, _) in zip(runs, loaded, strict=True):
            if missing:
                warnings.warn(f"{run}: {missing}", stacklevel=2)
        if form:
            print(visible_lines(table_as(metrics_table(measured), form)))
        else:
            emit([m.json() for m in measured], draw_table(metrics_table(measured)), json_out)
        if any(missing for _, missing, _ in loaded):
            raise typer.Exit(3)
        return
    for option in (name for name, value in (("--images", images), ("--junit", junit)) if value and len(runs) > 1):
        raise SparringError(f"{option} is about one run folder; give one")
    evaluations = [load_evaluation(r, baseline, claim or None) for r in runs]
    if images:
        from sparring.verdict.images import write_images

        write_images(runs[0], images)
    if html:
        write_report(runs, html, baseline, claim or None)
    if json_out and len(evaluations) > 1:
        emit([r.json() for r in evaluations], "", True)
    else:
        for result in evaluations:
            if form:
                print(visible_lines(evaluation_as(result, form)))
            else:
                print_evaluation(result, json_out, html)
    for result in evaluations:
        pass_or_leave(gate, result, junit)
    if any(result.missing for result in evaluations):
        raise typer.Exit(3)


@app.command(cls=Once, epilog="Example: sparring status runs/first")
def status(
    run: Annotated[
        Path,
        typer.Argument(
            help="run folder, also while other processes or machines work in it", parser=place, metavar="RUN"
        ),
    ],
    json_out: Json = False,
) -> None:
    """How far a run is: blocks and images that are done, who is at work, what it has cost and how long it may take."""
    from sparring.evaluation.results.status import status_of

    state = status_of(run)
    emit(state.json(), str(state), json_out)


@app.command("list", cls=Once, epilog="Example: sparring list attacks --json")
def list_things(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="attacks, defenses, threats, checks, models, masks, data, analyses, tasks, metrics or sections; none: how many of each there are"
        ),
    ] = None,
    json_out: Json = False,
) -> None:
    """Everything that can be named in a spec, with its fields, defaults and source."""
    from sparring.cli.catalog import catalog, catalog_table, kinds

    if kind is None:
        counts = kinds()
        emit(counts, "\n".join(f"{count:4} {name}" for name, count in counts.items()), json_out)
        return
    entries = catalog(kind)
    emit(entries, catalog_table(kind, entries), json_out)


@app.command(cls=Once, epilog="Example: sparring demo --out demo")
def demo(
    out: Annotated[Path, place_option("folder for the run and report.html")] = Path("demo"),
    seed: Seed = "0",
    json_out: Json = False,
) -> None:
    """The main job on embedded images: EfficientNet-Lite0 behind three channels, attacked by who ignores and who
    knows them.
    """
    from sparring.cli.demo import run_demo

    run_demo(out, numbers("demo", seed=seed)["seed"], json_out)
