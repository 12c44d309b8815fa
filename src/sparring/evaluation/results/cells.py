"""A cell's number: accuracy over all images against its own points, with interval and denominator."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import groupby

import numpy as np

from sparring.core.columns import Json
from sparring.core.shown import percent, shown
from sparring.core.spec import ball
from sparring.evaluation.results.stats import rate_interval
from sparring.evaluation.results.table import CLEAN, RowTable, plain


@dataclass(frozen=True)
class CellResult:
    """One (defense, threat, attack, ball): accuracy against its own points over the n images that it attacked: all of them, or those that the
    attacks before it had left of ``images``. Shares in [0,1]; nan: n/a.
    """

    defense: str
    threat: str
    attack: str
    norm: str
    eps: float
    n: int
    interval: str
    random: bool
    judge_draws: int
    images: int
    clean_accuracy: float = math.nan
    robust_accuracy: float = math.nan
    ci_low: float = math.nan
    ci_high: float = math.nan
    robust_accuracy_8bit: float = math.nan
    robust_accuracy_truncated: float = math.nan
    forwards_per_image: float = 0.0
    backwards_per_image: float = 0.0
    source_fooled: float = math.nan
    median_norm: float = math.nan

    def __repr__(self) -> str:
        return shown(
            self,
            f"{self.defense} / {self.threat} / {self.attack}",
            ball(self.norm, self.eps),
            f"robust {percent(self.robust_accuracy)} of {self.n}",
        )

    def json(self) -> Json:
        """Plain values; infinities and nan as strings or null."""
        return {k: plain(v) for k, v in asdict(self).items()}


def cell_keys(rows: RowTable) -> list[tuple[str, str, str, str, float]]:
    """(defense, threat, attack, norm, eps) of all attacked cells, in the order the user gave them; not of attacks on survivors alone."""
    at = np.flatnonzero(rows.where(check="") & ~rows.where(threat=CLEAN))
    names, balls = ("defense", "threat", "attack", "norm"), rows.balls()
    numbers = [rows.texts[name].numbers[at] for name in names] + [np.searchsorted(balls, rows["eps"][at])]
    sizes = [len(rows.texts[name].names) for name in names] + [len(balls)]
    cell, first = np.ravel_multi_index(numbers, sizes), np.full(math.prod(sizes), -1)
    first[cell[::-1]] = at[::-1]  # the first row of each cell is written last
    first = np.sort(first[first >= 0])
    texts = [rows.at(name, first).tolist() for name in names]
    attacked: list[tuple[str, str, str, str, float]] = list(zip(*texts, rows["eps"][first].tolist(), strict=True))
    return sorted(attacked, key=lambda k: [rows.rank.get(text, len(rows.rank)) for text in k[:3]])


@dataclass(frozen=True)
class Candidates:
    """Masks over rows: a cell's attacked rows, those of them that count, and the clean images on the system that judges it."""

    attacked: np.ndarray
    usable: np.ndarray
    clean: np.ndarray
    averaged: bool
    random: bool

    @property
    def pool(self) -> np.ndarray:
        """What the worst is chosen from: the clean image is always a candidate, unless draws are averaged."""
        return self.usable if self.averaged else self.usable | self.clean


def candidates(rows: RowTable, defense: str, threat: str, attack: str) -> Candidates:
    """The candidates of a cell."""
    mask = rows.where(defense=defense, threat=threat, attack=attack, check="")
    at = int(np.flatnonzero(mask)[0])
    averaged = bool(rows["averaged"][at])
    clean = rows.clean(defense)
    if not bool(rows["pooled"][at]) and not averaged:  # bait, fixed-w: another judge, another clean
        clean = rows.where(defense=defense, threat=CLEAN, pooled=False, judge=str(rows.at("judge", at)))
    mask &= ~rows.spared
    clean &= rows.of_images(mask)
    return Candidates(mask, mask & rows["feasible"], clean, averaged, bool(rows["random"][at]))


def attacked_right(rows: RowTable, defense: str, threat: str, attack: str) -> np.ndarray:
    """Mask of a cell's attacked rows of images that its source has right when clean; all of them where older rows do not say."""
    mask = rows.where(defense=defense, threat=threat, attack=attack, check="") & ~rows.spared
    known = rows["source_clean"]
    return mask & known if known.dtype == bool else mask


def images_without(rows: RowTable, mask: np.ndarray, of_them: np.ndarray) -> tuple[int, int]:
    """Of the images in ``mask`` those that have no row in ``of_them``, and how many images there are: an image has a row a view."""
    images = rows.distinct("image", mask)
    return len(images) - len(rows.distinct("image", mask & of_them)), len(images)


def own(rows: RowTable, defense: str, threat: str, attack: str) -> CellResult:
    """A cell's number from its own points only."""
    at = int(np.flatnonzero(rows.where(defense=defense, threat=threat, attack=attack, check=""))[0])
    about = defense, threat, attack, str(rows.at("norm", at)), float(rows["eps"][at])
    chosen = candidates(rows, defense, threat, attack)
    mask, random, images = chosen.attacked, chosen.random, int(rows.clean(defense).sum())
    if not mask.any():
        return CellResult(*about, n=0, interval="n/a", random=random, judge_draws=int(rows["draws"][at]), images=images)
    clean = rows.pick(rows.clean(defense) & rows.of_images(mask))
    picked = rows.pick(chosen.pool, chosen.averaged)
    interval = rate_interval(picked.p, picked.first, random or chosen.averaged)
    fooled = rows["source_fooled"][mask]
    reached = rows[about[3]][mask & rows["source_fooled"]]
    distances = reached[reached > 0]  # an image that is wrong when clean is no distance away from an error
    return CellResult(
        *about,
        n=len(picked.p),
        clean_accuracy=float(clean.p.mean()),
        robust_accuracy=float(picked.p.mean()),
        ci_low=interval.low,
        ci_high=interval.high,
        robust_accuracy_8bit=float(picked.p_8bit.mean()),
        robust_accuracy_truncated=float(picked.p_truncated.mean()),
        forwards_per_image=float(rows["forwards"][mask].sum() / len(picked.p)),
        backwards_per_image=float(rows["backwards"][mask].sum() / len(picked.p)),
        interval=interval.kind,
        random=random,
        source_fooled=float(fooled.mean()),
        median_norm=float(np.median(distances)) if len(distances) else math.nan,
        judge_draws=picked.draws,
        images=images,
    )


def all_cells(rows: RowTable) -> list[CellResult]:
    """Every cell's number."""
    results: list[CellResult] = []
    for defense, keys in groupby(cell_keys(rows), key=lambda key: key[0]):
        part = rows.only(rows.where(defense=defense))
        results += [own(_of(part, *key[1:3]), *key[:3]) for key in keys]
    return results


def _of(rows: RowTable, threat: str, attack: str) -> RowTable:
    """Of a defense's rows those of one cell, and the clean images."""
    return rows.only(rows.where(threat=threat, attack=attack) | rows.where(threat=CLEAN))
