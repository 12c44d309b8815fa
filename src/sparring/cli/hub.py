"""``sparring push`` and ``sparring pull``: weights and what is known of them, to and from the Hugging Face Hub."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from sparring.cli.kinds import Json, place_option
from sparring.cli.output import emit
from sparring.core.errors import SparringError

PUSHING = (
    "Example: sparring push runs/first owner/name --dry-run --out pushed; sparring push net.safetensors owner/name"
)
PULLING = "Example: sparring pull owner/name --out weights"
Repository = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="the repository on the Hub")]


def push(
    source: Annotated[
        Path, typer.Argument(metavar="RUN|WEIGHTS", help="run folder of a model with weights, or FILE.safetensors")
    ],
    repo: Repository,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="write the folder that would be pushed and list it; no network")
    ] = False,
    private: Annotated[bool, typer.Option("--private", help="a new repository is seen by its owner alone")] = False,
    out: Annotated[Path | None, place_option("folder that is written; default: a temporary one")] = None,
    json_out: Json = False,
) -> None:
    """Push weights, their card and a README that holds the verdicts, the numbers, the command and the provenance of a run (extra hub). Log in first:
    hf auth login.
    """
    from sparring.deploy.hub import WEIGHTS, evaluated_release, release_of, require_name, write_release
    from sparring.deploy.hub import push as push_folder
    from sparring.evaluation.records.files import read_run
    from sparring.report.model_card import model_card, pushed_facts
    from sparring.verdict.read import load_evaluation

    require_name(repo)
    if dry_run and out is None:
        raise SparringError("push: --dry-run writes a folder to look at; give --out DIR")
    evaluation = load_evaluation(source) if source.is_dir() else None
    if evaluation is not None and not evaluation.verdicts:
        raise SparringError(f"{source} has no verdict to push: {evaluation.missing or 'its files hold no checksums'}")
    if evaluation is None:
        release = release_of(source)
    else:
        record = read_run(source)
        if "model" in record["passed"].get("objects", ()):
            raise SparringError(f"{source}: its model was a module of Python's; evaluate trained:FILE.safetensors")
        release = evaluated_release(source, record["passed"]["model"], record["identity"]["weights"])
    facts = pushed_facts(evaluation, f"trained:{WEIGHTS}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = out or Path(temporary) / "release"
        files = write_release(release, facts, model_card(repo, release.card, facts, evaluation), folder)
        sizes = {file.name: file.stat().st_size for file in files}
        listing = "\n".join(f"{size:>12} {name}" for name, size in sizes.items())
        address = None if dry_run else push_folder(folder, repo, private)
    said = f"would be pushed to {repo}, from {folder}:" if dry_run else f"pushed to {address}:"
    emit({"repo": repo, "pushed": address, "files": sizes}, f"{said}\n{listing}", json_out)


def pull(
    repo: Repository,
    out: Annotated[Path, place_option("folder that is written", shown=False)],
    json_out: Json = False,
) -> None:
    """Bring weights that sparring pushed, compare them with the digest in their card, and say how to evaluate them (extra hub). Nothing is unpickled."""
    from sparring.deploy.hub import pull as bring

    weights = bring(repo, out)
    text = f"{weights}: as its card says. evaluate it as: trained:{weights}"
    emit({"repo": repo, "weights": str(weights), "loads_as": f"trained:{weights}"}, text, json_out)
