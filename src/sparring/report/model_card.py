"""The page of weights on the Hub: what is known of their robustness, and how anybody can see it for themselves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from sparring.core.columns import Json
from sparring.core.spec import without_folders
from sparring.evaluation.records.files import read_run
from sparring.evaluation.records.place import Place, modified
from sparring.evaluation.results.load import Evaluation
from sparring.report.formats import evaluation_as
from sparring.verdict.command import Command
from sparring.version import __version__

HEAD = """---
library_name: sparring
pipeline_tag: image-classification
tags:
- image-classification
- adversarial-robustness
---
"""
UNKNOWN = "No evaluation was pushed with these weights: nothing is said here of their robustness."


def pushed_facts(evaluation: Evaluation | None, model: str) -> Json:
    """What a pushed card says of an evaluation and of who pushed it. model: the spec of the pushed weights, which stands in the command."""
    facts: Json = {"sparring": __version__, "date": _day(datetime.now(UTC)), "evaluation": None}
    if evaluation is None or evaluation.folder is None:
        return facts
    record = read_run(evaluation.folder)
    identity, passed = record["identity"], {**record["passed"], "model": model}
    return facts | {
        "evaluation": {
            "command": without_folders(Command(passed).evaluate()),
            "verdicts": [v.json() for v in evaluation.verdicts],
            "numbers": [c.json() for c in evaluation.closed],
            "provenance": {
                "sparring": record["environment"]["sparring"],
                "code": identity["code"],
                "torch": record["environment"]["packages"]["torch"],
                "data": without_folders(record["data_name"]),
                "images": record["images"],
                "data_hash": identity["data"],
                "weights_hash": identity["weights"],
                "date": _day(_written(evaluation.folder)),
            },
        }
    }


def model_card(repo: str, card: Mapping[str, object], facts: Json, evaluation: Evaluation | None) -> str:
    """README.md of a repository: verdicts, numbers, command and provenance of an evaluation, or that there is none; then how to use the weights."""
    lines = [HEAD, f"# {repo}", "", f"Weights of `{without_folders(str(card['model']))}`.", "", "## Robustness", ""]
    told = facts["evaluation"]
    if evaluation is None or told is None:
        lines += [UNKNOWN, ""]
    else:
        lines += [without_folders(evaluation_as(evaluation, "markdown")), "", "```sh", told["command"], "```", ""]
        lines += ["## Provenance of the numbers", "", *_table(told["provenance"])]
    trained = {k: card[k] for k in ("data", "data_hash", "selected_by", "sparring", "torch") if k in card}
    if trained:
        lines += ["## Training", "", *_table(trained)]
    lines += ["## Use", "", "```sh", "pip install 'sparring[hub]'", f"sparring pull {repo} --out weights"]
    lines += ["sparring evaluate trained:weights/sparring.safetensors --data DATA", "```", ""]
    lines += [f"Pushed by sparring {facts['sparring']} on {facts['date']}.", ""]
    return "\n".join(lines)


def _table(facts: Mapping[str, object]) -> list[str]:
    return ["| what | value |", "|---|---|", *(f"| {name} | `{value}` |" for name, value in facts.items()), ""]


def _written(folder: Place) -> datetime:
    """When a run was last written."""
    return datetime.fromtimestamp(modified(folder / "run.json"), UTC)


def _day(when: datetime) -> str:
    return when.strftime("%Y-%m-%d")
