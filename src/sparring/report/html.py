"""One self-contained HTML page: opens offline, holds its pictures, runs nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from sparring.core.spec import ball, show
from sparring.evaluation.records.files import read_pictures, read_run, write_text
from sparring.evaluation.results.load import Evaluation, load_evaluation, load_rows
from sparring.report.figures import eps_curves, perturbation, picture
from sparring.report.tables import percent

CELLS_PER_DEFENSE = 3


def write_report(folders: Sequence[str | Path], file: str | Path) -> Path:
    """Write the page about one or several run folders; returns its path. Raises SparringError if a folder is no
    run.
    """
    runs = [_run(Path(f), load_evaluation(f)) for f in folders]
    template = files("sparring.report").joinpath("page.html.jinja").read_text()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(percent=percent, show=show)
    environment.globals.update(ball=ball)
    write_text(Path(file), environment.from_string(template).render(runs=runs))
    return Path(file)


def _run(folder: Path, evaluation: Evaluation) -> dict[str, Any]:
    record = read_run(folder)
    failed = [f for f in evaluation.findings if not f.ok and f.severity != "INFO"]
    return {
        "folder": str(folder),
        "record": record,
        "prepared": evaluation.prepared,
        "missing": evaluation.missing,
        "made_by": evaluation.made_by,
        "cells": evaluation.cells,
        "closed": evaluation.closed,
        "headlines": evaluation.headlines,
        "findings": evaluation.findings,
        "failed": failed,
        "curves": eps_curves(evaluation.closed),
        "pictures": _pictures(folder, record),
        "undermined": {
            d: [f for f in failed if not f.subject or f.subject.split(" / ")[0] == d]
            for d in record["identity"]["defenses"]
        },
        "provenance": json.dumps(
            {
                k: record[k]
                for k in (
                    "identity",
                    "environment",
                    "attacks_resolved",
                    "seats",
                    "skipped",
                    "worst_case_cost_per_image",
                )
            },
            indent=2,
        ),
    }


def _pictures(folder: Path, record: dict[str, Any]) -> list[dict[str, Any]]:
    """Image groups: per defended system a few cells, weakest threat first, each with clean, adversarial, defended,
    difference.
    """
    rows = load_rows(folder)
    names = record["class_names"]
    say = lambda label: names[label] if 0 <= label < len(names) else str(label)  # noqa: E731
    order = {
        text: i
        for i, text in enumerate(
            [*record["identity"]["defenses"], *record["identity"]["threats"], *record["identity"]["attacks"]]
        )
    }
    stored = sorted(
        read_pictures(folder), key=lambda p: [order.get(p[0][k], 99) for k in ("defense", "threat", "attack")]
    )
    groups: list[dict[str, Any]] = []
    for about, content in stored:
        if about["defense"] == "none" or not rows.facts(about["threat"]).pictured:
            continue
        if (
            sum(g["defense"] == about["defense"] and g["threat"] == about["threat"] for g in groups)
            >= CELLS_PER_DEFENSE
        ):
            continue
        items = []
        mask = rows.where(defense=about["defense"], threat=about["threat"], attack=about["attack"], run=about["run"])
        clean = rows.clean(about["defense"])
        for i, image in enumerate(json.loads(about["images"])):
            if not (mask & (rows["image"] == image)).any():
                continue
            row = int((mask & (rows["image"] == image)).nonzero()[0][0])
            before = int((clean & (rows["image"] == image)).nonzero()[0][0])
            difference, factor = perturbation(content["adversarial"][i], content["clean"][i])
            items.append(
                {
                    "id": image,
                    "truth": say(int(rows["y"][row])),
                    "clean_label": say(int(rows["label"][before])),
                    "label": say(int(rows["label"][row])),
                    "right": bool(rows["correct"][row]),
                    "fooled_source": bool(rows["source_fooled"][row]),
                    "clean": picture(content["clean"][i]),
                    "adversarial": picture(content["adversarial"][i]),
                    "defended": picture(content["defended"][i]),
                    "difference": difference,
                    "factor": factor,
                    "linf": float(rows["linf"][row]),
                    "l2": float(rows["l2"][row]),
                }
            )
        groups.append({**about, "rows": items[:4]})
    return groups
