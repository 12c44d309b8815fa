"""Which stored pictures a page shows, and what stands under them: of each system and threat the images that speak against the number come first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from sparring.evaluation.records.files import scan_pictures
from sparring.evaluation.results.closed import UNDEFENDED
from sparring.evaluation.results.table import RowTable
from sparring.report.content import Evaluated, PicturedImage, Shot, Strip
from sparring.report.figures import perturbation, picture
from sparring.report.names import ClassNames

MOST, EACH = 18, 3  # samples of a run, and of one system and threat

Seat = tuple[str, str]  # defense, threat


@dataclass(frozen=True)
class StoredPicture:
    """A picture on disk: ``at``: its place among the tensors in ``content``; ``row``: that of its point among the rows; ``reasons``: checks that doubt it."""

    image: str
    at: int
    row: int
    attack: str
    content: Mapping[str, Tensor]
    reasons: tuple[str, ...]


def anchor_of(folder: str, seat: Seat, image: str) -> str:
    """The name by which a page's links find the pictures of an image."""
    return f"image-{hashlib.sha256(json.dumps([folder, *seat, image]).encode()).hexdigest()[:12]}"


def chosen(run: Evaluated, rows: RowTable) -> dict[Seat, list[StoredPicture]]:
    """Of each defended system and threat at most ``EACH`` of the images whose pictures are stored: suspect ones, then in the order of the run (broken
    ones, then the others). Of more seats than ``MOST`` the strongest threats stay. Without a defense, of the undefended model.
    """
    identity = run.record["identity"]
    defenses = [d for d in identity["defenses"] if d != UNDEFENDED] or identity["defenses"]
    stored: dict[Seat, list[StoredPicture]] = {}
    for about, content in scan_pictures(run.folder, run.record)[0]:
        seat = about["defense"], about["threat"]
        if seat[0] not in defenses or seat[1] not in identity["threats"]:
            continue
        there: list[StoredPicture] = []
        points = zip(*(json.loads(about[name]) for name in ("images", "attacks", "runs")), strict=True)
        for at, (image, attack, of) in enumerate(points):
            own = np.flatnonzero(rows.where(defense=seat[0], threat=seat[1], attack=attack, run=of, image=image))
            if len(own):
                there.append(StoredPicture(image, at, int(own[0]), attack, content, _reasons(run, seat, image)))
        stored[seat] = sorted(there, key=lambda picture: not picture.reasons)
    ordered = {(d, t): stored[d, t] for d in defenses for t in identity["threats"] if stored.get((d, t))}
    strongest = sorted(ordered, key=lambda seat: -identity["threats"].index(seat[1]))[:MOST]
    count = min(EACH, MOST // max(1, len(strongest)))
    return {seat: images[:count] for seat, images in ordered.items() if seat in strongest}


def _reasons(run: Evaluated, seat: Seat, image: str) -> tuple[str, ...]:
    """The checks that speak against an image which counts as robust, in the verdicts about a system and threat."""
    about = [v for v in run.evaluation.verdicts if (v.defense, v.threat) == seat]
    return tuple(dict.fromkeys(reason for v in about for reason in v.suspects.get(image, ())))


def strip(run: Evaluated, rows: RowTable, seat: Seat, images: list[StoredPicture], names: ClassNames) -> Strip:
    """The pictures of a system and threat."""
    return Strip(" · ".join(seat), tuple(_sample(run, rows, seat, stored, names) for stored in images))


def _sample(run: Evaluated, rows: RowTable, seat: Seat, stored: StoredPicture, names: ClassNames) -> PicturedImage:
    row, here = stored.row, rows.where(image=stored.image)
    clean, attacked = (stored.content[name][stored.at] for name in ("clean", "adversarial"))
    truth, last, rounded = (names.of_label(int(rows[c][row])) for c in ("y", "label", "label_8bit"))
    first, bare = (_clean_label(rows, here, d, names) for d in (seat[0], UNDEFENDED))
    map_, factor = perturbation(attacked, clean)
    lengths = f"linf {255 * rows['linf'][row]:.1f}/255, l2 {rows['l2'][row]:.2f}"
    doubt = f" (suspect: {' '.join(stored.reasons)})" if stored.reasons else ""
    wrong = "" if first == truth else f" (true {truth})"
    shots = [
        Shot(picture(clean), f"clean: {first}{wrong}", f"Clean image, answered {first}; its true class is {truth}"),
        Shot(
            picture(attacked),
            f"attacked: {last}{doubt}",
            f"The same after {stored.attack}, answered {last}",
            "good" if rows["correct"][row] else "bad",
        ),
        Shot(
            picture(stored.content["defended"][stored.at]),
            "behind the defense",
            "The attacked image as the network behind the defense sees it",
        ),
        Shot(
            map_, f"×{factor:.0f}; {lengths}", f"What was changed, {factor:.0f} times magnified around gray; {lengths}"
        ),
    ]
    if seat[0] == UNDEFENDED:
        del shots[2]
    labels = [
        ("true", truth),
        ("clean, undefended", bare),
        ("clean, defended", first),
        ("attacked", last),
        ("attacked, stored as 8 bits", rounded),
    ]
    said = tuple((stage, label) for stage, label in labels if label)
    return PicturedImage(
        f"image {stored.image}, {truth}, {stored.attack}", anchor_of(run.folder, seat, stored.image), tuple(shots), said
    )


def _clean_label(rows: RowTable, here: np.ndarray, defense: str, names: ClassNames) -> str:
    """What a system answers to the clean image, "" where it was not asked."""
    asked = np.flatnonzero(rows.clean(defense) & here)
    return names.of_label(int(rows["label"][asked[0]])) if len(asked) else ""
