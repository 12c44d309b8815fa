"""What the images look like."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from sparring.core.losses import NO_LABEL
from sparring.evaluation.records.files import scan_pictures
from sparring.evaluation.results.load import whole_rows
from sparring.evaluation.results.table import RowTable
from sparring.report.content import Evaluated, Item, Section, Shot, Strip, Text, section
from sparring.report.figures import perturbation, picture

CELLS_PER_SEAT = 3
IMAGES = 4


@section("pictures", 50)
def pictures(run: Evaluated) -> Section | None:
    """A few cells per defended system and threat, weakest threat first: clean, attacked, behind the defense, the difference."""
    rows = whole_rows(run.folder, run.record)[0]
    identity, names = run.record["identity"], run.record.get("class_names", [])
    order = {t: i for i, t in enumerate([*identity["defenses"], *identity["threats"], *identity["attacks"]])}
    places = ("defense", "threat", "attack")
    stored = sorted(scan_pictures(run.folder, run.record)[0], key=lambda p: [order.get(p[0][k], 99) for k in places])
    strips: dict[tuple[str, str], list[Item]] = {}
    for about, content in stored:
        strip = strips.setdefault((about["defense"], about["threat"]), [])
        if about["defense"] != "none" and rows.facts(about["threat"]).pictured and len(strip) < CELLS_PER_SEAT:
            strip.append(_strip(rows, about, content, names, _suspects(run, about["defense"], about["threat"])))
    items = [item for strip in strips.values() for item in strip]
    about = (
        "Clean, attacked, what the classifier sees behind the defense, and the perturbation magnified. Labels are the defended system's. Images "
        "whose robustness a check doubts come first and say which check. The "
        "pictures are for looking at; the exact images are in the run folder."
    )
    return Section("What the images look like", (Text(about, "soft"), *items)) if items else None


def _suspects(run: Evaluated, defense: str, threat: str) -> Mapping[str, tuple[str, ...]]:
    """Images that count as robust and the checks that speak against it, in the verdicts about a system and threat."""
    about = [v for v in run.evaluation.verdicts if (v.defense, v.threat) == (defense, threat)]
    return {image: reasons for v in about for image, reasons in v.suspects.items()}


def _strip(
    rows: RowTable,
    about: Mapping[str, str],
    content: Mapping[str, Tensor],
    names: list[str],
    suspects: Mapping[str, tuple[str, ...]],
) -> Strip:
    attacked = rows.where(defense=about["defense"], threat=about["threat"], attack=about["attack"], run=about["run"])
    clean, images = rows.clean(about["defense"]), []
    numbered = enumerate(json.loads(about["images"]))
    for i, image in sorted(numbered, key=lambda pair: pair[1] not in suspects):
        here = rows.where(image=image)
        if not (attacked & here).any():
            continue
        row, before = (int(np.flatnonzero(mask & here)[0]) for mask in (attacked, clean))
        truth, first, last = (
            _class(names, int(rows[c][r])) for c, r in (("y", row), ("label", before), ("label", row))
        )
        difference, factor = perturbation(content["adversarial"][i], content["clean"][i])
        lengths = f"linf {255 * rows['linf'][row]:.1f}/255, l2 {rows['l2'][row]:.2f}"
        images.append(
            (
                Shot(
                    "clean",
                    picture(content["clean"][i]),
                    f"clean: {first}" + ("" if first == truth else f" (true {truth})"),
                ),
                Shot(
                    "adversarial",
                    picture(content["adversarial"][i]),
                    f"attacked: {last}" + (f" (suspect: {' '.join(suspects[image])})" if image in suspects else ""),
                    "good" if rows["correct"][row] else "bad",
                ),
                Shot("defended", picture(content["defended"][i]), "behind the defense"),
                Shot("perturbation", difference, f"×{factor:.0f}; {lengths}"),
            )
        )
    return Strip(" · ".join(about[k] for k in ("defense", "threat", "attack")), tuple(images[:IMAGES]))


def _class(names: list[str], label: int) -> str:
    return "no answer" if label == NO_LABEL else names[label] if label < len(names) else str(label)
