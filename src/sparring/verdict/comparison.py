"""Two runs compared on the images that both have: which number moved, by how much at least and at most, and which images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from sparring.core.columns import Json
from sparring.core.errors import SparringError
from sparring.core.spec import ball
from sparring.evaluation.records.files import read_run
from sparring.evaluation.records.place import Place
from sparring.evaluation.results.closed import UNDEFENDED, ClosedResult, pool_mask
from sparring.evaluation.results.load import Evaluation, whole_rows
from sparring.evaluation.results.stats import gain_bounds, mcnemar, mean_gain_bounds
from sparring.evaluation.results.table import Picked, RowTable, plain
from sparring.verdict.read import load_evaluation

MOVED = 1e-6  # of a clean image's l2 norm: more, and it is another image


@dataclass(frozen=True)
class NumberPair:
    """One number of two runs, over the ``n`` images that both have. difference: second - first, in accuracy; low, high: one-sided 95 % bounds of it, of the
    paired images. p_value: McNemar's exact test, nan where a system is random. lost: images right in the first run alone; won: in the second alone; by
    the majority of the judge's draws. words: the verdicts of both runs on that number, "" where there is none.
    """

    defenses: tuple[str, str]
    threat: str
    norm: str
    eps: float
    n: int
    first: float
    second: float
    low: float
    high: float
    p_value: float
    lost: tuple[str, ...]
    won: tuple[str, ...]
    words: tuple[str, str]

    @property
    def difference(self) -> float:
        return self.second - self.first

    @property
    def ball(self) -> str:
        return ball(self.norm, self.eps)

    def json(self) -> Json:
        """Plain values."""
        return {k: plain(v) for k, v in asdict(self).items()} | {"difference": plain(self.difference)}


@dataclass(frozen=True)
class RunPair:
    """``notes``: what differs between the runs beside the numbers, in words: a number may have moved for that."""

    comparisons: tuple[NumberPair, ...]
    notes: tuple[str, ...]

    def json(self) -> Json:
        return {"comparisons": [c.json() for c in self.comparisons], "notes": list(self.notes)}


def compare_runs(first: str | Place, second: str | Place) -> RunPair:
    """Compare the numbers (defense, threat, ball) of two complete runs. Defenses of one name are compared; where one is left on each side, these are.

    Raises SparringError for an incomplete run, for runs without a common number or image, and where an image of one name is another in each.
    """
    folders = first, second
    records = [read_run(folder) for folder in folders]
    evaluations = [load_evaluation(folder) for folder in folders]
    for folder, evaluation in zip(folders, evaluations, strict=True):
        if evaluation.missing:
            raise SparringError(f"{folder} is incomplete ({evaluation.missing}); complete it first")
    rows = [whole_rows(folder, record)[0] for folder, record in zip(folders, records, strict=True)]
    pairs = _pairs(*evaluations)
    if not pairs:
        raise SparringError(f"{first} and {second} have no number in common: no defense, threat and ball is in both")
    shared = _shared(folders, rows)
    notes = (*_alone(pairs, evaluations), *_notes(records, evaluations))
    return RunPair(tuple(_pair(pair, rows, evaluations, shared) for pair in pairs), notes)


def _pairs(one: Evaluation, other: Evaluation) -> list[tuple[ClosedResult, ClosedResult]]:
    mine, theirs = ({r.defense for r in e.closed} for e in (one, other))
    partner = {name: name for name in mine & theirs}
    left, right = mine - theirs - {UNDEFENDED}, theirs - mine - {UNDEFENDED}
    if len(left) == len(right) == 1:
        partner[left.pop()] = right.pop()
    there = {(r.defense, r.threat, r.norm, r.eps): r for r in other.closed}
    keys = [(partner.get(r.defense, ""), r.threat, r.norm, r.eps) for r in one.closed]
    return [(r, there[key]) for r, key in zip(one.closed, keys, strict=True) if key in there]


def _shared(folders: Sequence[str | Place], rows: Sequence[RowTable]) -> list[str]:
    """The images that both runs have. Raises SparringError."""
    about: list[dict[str, tuple[int, float]]] = []
    for table in rows:
        clean = table.pick(table.clean(UNDEFENDED))
        labels, sizes = table["y"][clean.rows].tolist(), table["clean_l2"][clean.rows].tolist()
        about.append(dict(zip(clean.images, zip(labels, sizes, strict=True), strict=True)))
    shared = [image for image in about[0] if image in about[1]]
    if not shared:
        raise SparringError(f"{folders[0]} and {folders[1]} have no image in common; compare runs on the same images")
    for image in shared:
        (label, size), (other_label, other_size) = about[0][image], about[1][image]
        if label != other_label or not math.isclose(size, other_size, rel_tol=MOVED):
            raise SparringError(
                f"image {image} of {folders[0]} is another one in {folders[1]} (label {label} and {other_label}, l2 norm {size:.6g} and {other_size:.6g})"
            )
    return shared


def _pair(
    pair: tuple[ClosedResult, ClosedResult],
    rows: Sequence[RowTable],
    evaluations: Sequence[Evaluation],
    shared: Sequence[str],
) -> NumberPair:
    picks = [_of(table, result, shared) for table, result in zip(rows, pair, strict=True)]
    (a, first_a, wins_a), (b, first_b, wins_b) = picks
    random = any(result.random for result in pair)
    bounds = mean_gain_bounds(b, a, first_b, first_a) if random else gain_bounds(b, a)
    lost = tuple(image for image, x, y in zip(shared, wins_a, wins_b, strict=True) if x and not y)
    won = tuple(image for image, x, y in zip(shared, wins_a, wins_b, strict=True) if y and not x)
    one, other = pair
    return NumberPair(
        (one.defense, other.defense),
        one.threat,
        one.norm,
        one.eps,
        len(shared),
        float(a.mean()),
        float(b.mean()),
        bounds.low,
        bounds.high,
        math.nan if random else mcnemar(len(won), len(lost)),
        lost,
        won,
        (evaluations[0].word_on(one), evaluations[1].word_on(other)),
    )


def _of(rows: RowTable, result: ClosedResult, shared: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per shared image the accuracy of its worst point in the judge's draws, in the first of these, and whether most were right."""
    picked: Picked = rows.pick(pool_mask(rows, result.defense, result.threat, result.norm, result.eps))
    number = {image: i for i, image in enumerate(picked.images)}
    at = [number[image] for image in shared]
    return picked.p[at], picked.first[at], picked.p[at] > 0.5


def _alone(pairs: Sequence[tuple[ClosedResult, ClosedResult]], evaluations: Sequence[Evaluation]) -> list[str]:
    """Numbers that only one of the runs has, and those that are no robust accuracy."""
    said = []
    for number, evaluation in enumerate(evaluations):
        there = {(p[number].defense, p[number].threat, p[number].norm, p[number].eps) for p in pairs}
        for r in evaluation.closed:
            key = r.defense, r.threat, r.norm, r.eps
            if key not in there:
                text = f"{r.defense}, {r.threat}, {ball(r.norm, r.eps)}: {100 * r.robust_accuracy:.1f} %"
                word = evaluation.word_on(r)
                said.append(f"not compared, only in run {number + 1}: {text}{word and f' ({word})'}")
    if any(math.isinf(one.eps) for one, _ in pairs):
        said.append("an attack without a budget was compared: what it leaves is no robust accuracy")
    return said


def _notes(records: Sequence[Json], evaluations: Sequence[Evaluation]) -> tuple[str, ...]:
    """What else differs: whose attack was weaker has the higher number for that alone."""
    one, other = (record["identity"] for record in records)
    names = {
        "model": "models",
        "weights": "weights",
        "tier": "tiers",
        "attacks": "attacks",
        "seed": "seeds",
        "judge": "judge draws",
        "code": "code",
    }
    said = []
    for name, text in names.items():
        if one.get(name) != other.get(name):
            short = name in ("weights", "code")
            said.append(
                f"the runs differ in {text}" + ("" if short else f": {_text(one.get(name))} | {_text(other.get(name))}")
            )
    sizes = [record["images"] for record in records]
    if len(set(sizes)) > 1:
        said.append(f"the runs have {sizes[0]} and {sizes[1]} images; compared are those that both have")
    for number, evaluation in enumerate(evaluations, 1):
        doubted = [v for v in evaluation.verdicts if v.suspect > 0]
        said += [f"run {number}: {v.line}" for v in doubted]
    return tuple(said)


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
