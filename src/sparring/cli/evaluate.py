"""``sparring evaluate``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sparring.cli.gates import FailUnder, FailVerdict, Junit, gate_of, pass_or_leave
from sparring.cli.kinds import listed, numbers, place_option
from sparring.cli.options import (
    Baseline,
    Claimed,
    Expect,
    Json,
    LargeEps,
    Limit,
    OptionalData,
    OptionalModel,
    Seed,
    SkipBad,
    Slots,
    Tracked,
    Wide,
)
from sparring.cli.output import Bar, invalid_as_json, print_evaluation
from sparring.core.errors import SparringError
from sparring.core.trackers import Log

EXAMPLE = "Example: sparring evaluate lite0 --data imagenet20 --defense cd:bits=4 --threat oblivious,adaptive --attack pgd:eps=4/255,steps=20"


def evaluate(
    context: typer.Context,
    model: OptionalModel = None,
    data: OptionalData = None,
    defense: Annotated[
        list[str] | None, typer.Option(help="defense specs, comma-separated or repeated; stages of one joined by +")
    ] = None,
    threat: Annotated[list[str] | None, typer.Option(help="threat models, comma-separated")] = None,
    attack: Annotated[list[str] | None, typer.Option(help="attack specs, comma-separated; default: the tier's")] = None,
    eps: Annotated[
        list[str] | None,
        typer.Option(help="budgets for attacks without their own, comma-separated or repeated, e.g. 1/255,4/255"),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source", "--sources", help="other models for the transfer and twin threats, comma-separated or repeated"
        ),
    ] = None,
    tier: Annotated[str, typer.Option(help="quick, standard or thorough")] = "quick",
    out: Annotated[
        Path | None, place_option("run folder; an existing one of the same configuration is resumed", stored=True)
    ] = None,
    html: Annotated[Path | None, place_option("also write the report page here", suffix=".html", stored=True)] = None,
    limit: Limit = None,
    seed: Seed = "0",
    slots: Slots = "64",
    draws: Annotated[
        str | None,
        typer.Option(
            metavar="INTEGER|auto",
            help="EOT draws per gradient in adaptive seats; default: the tier's; auto: as few as agree (G3), at most those",
        ),
    ] = None,
    expect_clean: Expect = None,
    bf16: Annotated[bool, typer.Option("--bf16", help="bfloat16 gradients; the judge stays in float32")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; default: cpu")] = None,
    workers: Annotated[
        str | None,
        typer.Option(
            metavar="INTEGER|auto",
            help="processes that share the work; default: one, with --engine ray what the cluster has; auto: what is faster, measured",
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(metavar="processes|ray", help="where the workers are: on this machine, or on a Ray cluster")
    ] = "processes",
    address: Annotated[
        str | None, typer.Option(metavar="auto|HOST:PORT", help="of a Ray cluster; default: one of its own here")
    ] = None,
    gpus_per_worker: Annotated[
        str | None,
        typer.Option(
            "--gpus-per-worker", metavar="NUMBER", help="on Ray, a part is allowed; default: 1 with --device cuda"
        ),
    ] = None,
    runtime_env: Annotated[
        Path | None,
        place_option("Ray's runtime environment: working_dir, py_modules, env_vars", "--runtime-env", suffix=".json"),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="i/N|auto",
            help="this process is one of N on one --out folder (SLURM array, Kubernetes job, torchrun: auto); the last one gives the verdict",
        ),
    ] = None,
    max_time: Annotated[
        str | None,
        typer.Option("--max-time", metavar="SECONDS", help="stop then, with what is there; the same command goes on"),
    ] = None,
    max_forwards: Annotated[
        str | None, typer.Option("--max-forwards", metavar="INTEGER", help="stop after so many network calls, likewise")
    ] = None,
    keep: Annotated[
        str,
        typer.Option(
            metavar="8bit|float|none",
            help="what stays of points of images that fell; survivors and nearest errors stay as floats",
        ),
    ] = "8bit",
    reuse: Annotated[
        Path | None,
        place_option("another run folder: what it has of the same images and attacks is not made again", stored=True),
    ] = None,
    skip_bad: SkipBad = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print the plan, its cost and an estimated time, run nothing")
    ] = False,
    large_eps: LargeEps = False,
    survivors: Annotated[
        bool | None,
        typer.Option(
            "--survivors/--no-survivors",
            help="attack only images that those before it left, gradients first; default: so with the tier's attacks, not with named ones",
        ),
    ] = None,
    no_follow_up: Annotated[
        bool,
        typer.Option(
            "--no-follow-up",
            help="do not make the attacks that failed checks ask for: their doubts stay, nothing can hold",
        ),
    ] = False,
    baseline: Baseline = None,
    claim: Claimed = None,
    config: Annotated[
        Path | None,
        place_option("FILE.toml or .json of an EvaluationSpec; a model, --data and options given beside it win"),
    ] = None,
    fail_under: FailUnder = None,
    fail_verdict: FailVerdict = None,
    junit: Junit = None,
    log: Tracked = None,
    wide: Wide = False,
    save_config: Annotated[Path | None, place_option("write the configuration here", "--save-config")] = None,
    json_out: Json = False,
) -> None:
    """Robust accuracy of a model behind defenses, per threat model, as a table, rows on disk and a page. Exit code 3 where some of it is missing, so
    that there is no verdict; 4 where --fail-under or --fail-verdict says so.
    """
    if html and not out:
        raise SparringError("--html needs --out DIR: the page is made from the run folder")
    gate = gate_of(fail_under, listed("fail-verdict", fail_verdict), junit)
    if gate and dry_run:
        raise SparringError(
            "--fail-under and --fail-verdict judge numbers, and a dry run makes none; leave one of them out"
        )
    if gate and no_follow_up:
        raise SparringError(
            "--fail-under and --fail-verdict ask what can be believed, for which --no-follow-up leaves too much out; leave one of them out"
        )
    tracked = None if log is None else tracker_of(log, "--dry-run" if dry_run else "--shard" if shard else "")
    fields = {
        "model": model,
        "data": data,
        "defense": listed("defense", defense),
        "threat": listed("threat", threat),
        "attack": listed("attack", attack),
        "eps": listed("eps", eps),
        "source": listed("source", source),
        "tier": tier,
        "seed": seed,
        "limit": limit,
        "draws": draws,
        "expect_clean": expect_clean,
        "bf16": bf16,
        "skip_bad": skip_bad,
        "large_eps": large_eps,
        "survivors": survivors,
        "no_follow_up": no_follow_up,
        "baseline": baseline,
        "claim": claim,
    }
    names = {
        "defense": "defenses",
        "threat": "threats",
        "attack": "attacks",
        "source": "sources",
        "bf16": "amp",
        "claim": "claims",
    }
    sources = {k: context.get_parameter_source(k) for k in fields}
    said = {names.get(k, k): v for k, v in fields.items() if (by := sources[k]) is not None and by.name != "DEFAULT"}
    if config is None and "model" not in said:
        raise SparringError("no model is given: sparring evaluate MODEL --data DATA, or --config FILE")
    if config is None and "data" not in said:
        raise SparringError("no images are given: --data DATA, or --config FILE")
    with Bar(quiet=json_out and not Console(stderr=True).is_terminal) as bar:
        from sparring.conduct import evaluate as run
        from sparring.evaluation.plan.spec import EvaluationSpec
        from sparring.verdict.command import Command

        spec = EvaluationSpec.read(config, **said) if config else EvaluationSpec.of(**said)
        if save_config:
            spec.save(save_config)
        with invalid_as_json(lambda: Command(spec.passed()).doctor(), json_out):
            typed = numbers("evaluate", slots=slots, workers=workers, max_time=max_time, max_forwards=max_forwards)
            typed |= numbers("evaluate", gpus_per_worker=gpus_per_worker)
            where = {"device": device, "shard": shard, "engine": engine, "address": address, "runtime_env": runtime_env}
            result = run(spec, out=out, **typed, **where, keep=keep, reuse=reuse, dry_run=dry_run, progress=bar)
    if html and out and not dry_run:
        from sparring.report.page import write_report

        write_report([out], html)
    print_evaluation(result, json_out, html)
    if tracked and result.missing:
        print("nothing was logged: the evaluation is incomplete", file=sys.stderr)
    elif tracked:
        from sparring.report.logged import log_evaluation

        log_evaluation(result, tracked, spec.passed(), out.name if out else "evaluation")
    if not dry_run and not (result.missing and shard):
        pass_or_leave(gate, result, junit)
    if result.missing and shard and not result.damaged and max_time is None and max_forwards is None:
        print(
            "this shard has done its part; the last of them gives the verdict (sparring status shows who is at work)",
            file=sys.stderr,
        )
    elif result.missing:
        raise typer.Exit(3)


def tracker_of(log: str, beside: str) -> Log:
    """Where to log. Raises SparringError for what is no place, and ``beside`` an option with which this process has no numbers of its own to log."""
    if beside:
        raise SparringError(f"--log is of the numbers that this process ends with; leave it or {beside} out")
    return Log.of(log)
