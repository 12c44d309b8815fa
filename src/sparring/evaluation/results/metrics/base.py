"""What a metric sees (``Points``) and says (``Quantity``), how it is enrolled, and how it is asked of the rows of a run."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from sparring.core.columns import Json
from sparring.core.errors import SparringError
from sparring.core.registry import METRICS
from sparring.core.shown import shown
from sparring.core.spec import ball
from sparring.evaluation.results.cells import candidates, cell_keys
from sparring.evaluation.results.stats import Interval, bootstrap, rate_interval
from sparring.evaluation.results.table import RowTable, plain


@dataclass(frozen=True)
class Points:
    """One cell, one entry (n,) per image of ALL: its worst point. Shares in [0,1] where a system is random: over judge draws.

    after, clean: accuracy of the deployed system at the point, and on the clean image (which is a candidate, so after <= clean for one
    that never changes its mind). after_first, clean_first: bool, in the first judge draw. source_after, source_clean: bool, is the attack's
    own source right. l2, clean_l2: length of the change and of the clean image. size: numbers in an image.
    """

    after: np.ndarray
    after_first: np.ndarray
    clean: np.ndarray
    clean_first: np.ndarray
    source_after: np.ndarray
    source_clean: np.ndarray
    l2: np.ndarray
    clean_l2: np.ndarray
    size: np.ndarray
    random: bool


@dataclass(frozen=True)
class Quantity:
    """A metric's raw counts. "share": mean of ``top`` over the images where ``over`` holds. "ratio": sum of top by sum of over, may exceed 1.
    "median", "mean": of top where over holds. ``of`` names the denominator.
    """

    top: np.ndarray
    over: np.ndarray
    of: str
    kind: Literal["share", "ratio", "median", "mean"] = "share"

    @property
    def n(self) -> float:
        """The denominator."""
        return float(self.over.sum())

    @property
    def value(self) -> float:
        """The number; nan for an empty denominator."""
        return _reduce(self.top, self.over, self.kind)

    def interval(self, first: np.ndarray, random: bool) -> Interval:
        """95 %: that of a rate for shares (first: (n,) bool, top in the first judge draw); a bootstrap over images for the rest."""
        inside = self.over > 0
        if self.n == 0:
            return Interval(math.nan, math.nan, "n/a")
        if self.kind == "share":
            return rate_interval(self.top[inside], first[inside], random)
        return bootstrap(lambda i: _reduce(self.top[i], self.over[i], self.kind), len(self.top))


def _reduce(top: np.ndarray, over: np.ndarray, kind: str) -> float:
    inside = over > 0
    if not inside.any():
        return math.nan
    if kind == "ratio":
        return float(top.sum() / over.sum())
    return float(np.median(top[inside]) if kind == "median" else np.mean(top[inside]))


@dataclass(frozen=True)
class Metric:
    """An enrolled metric: ``ask(points) -> Quantity``. ``percent``: is it printed as a percentage?"""

    name: str
    title: str
    ask: Callable[[Points], Quantity]
    percent: bool = True

    def __repr__(self) -> str:
        return shown(self, self.name, self.title)

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", inspect.getdoc(self.ask) or "")  # what it means stands at its function


def metric(name: str, title: str, *, percent: bool = True) -> Callable[[Callable[[Points], Quantity]], Metric]:
    """Decorator: enrol a function Points -> Quantity; its docstring gives formula, source and traps."""

    def enrol(ask: Callable[[Points], Quantity]) -> Metric:
        return METRICS(name)(Metric(name, title, ask, percent))

    return enrol


@dataclass(frozen=True)
class MetricResult:
    """A metric of one (defense, threat, attack, ball), with its denominator ``over`` (``n`` of it), n images in all, and interval."""

    metric: str
    defense: str
    threat: str
    attack: str
    norm: str
    eps: float
    value: float
    ci_low: float
    ci_high: float
    interval: str
    over: str
    n: float
    images: int
    percent: bool

    def __repr__(self) -> str:
        return shown(
            self,
            self.metric,
            f"{self.defense} / {self.threat} / {self.attack}",
            ball(self.norm, self.eps),
            f"{self.value:.4g} of {self.n:g}",
        )

    def json(self) -> Json:
        """Plain values."""
        return {k: plain(v) for k, v in asdict(self).items()}


def measure(rows: RowTable, name: str) -> list[MetricResult]:
    """A registered metric of every cell of a run. Raises SparringError for an unknown name, or rows that are too old to know it."""
    chosen: Metric = METRICS[name]
    results = []
    for defense, threat, attack, norm, eps in cell_keys(rows):
        cell, images = candidates(rows, defense, threat, attack), int(rows.clean(defense).sum())
        if not cell.attacked.any():
            nothing = defense, threat, attack, norm, eps, math.nan, math.nan, math.nan, "n/a", "no image was left", 0.0
            results.append(MetricResult(name, *nothing, images, chosen.percent))
            continue
        points = points_of(rows, defense, threat, attack)
        quantity = chosen.ask(points)
        of = quantity.of if len(points.after) == images else f"{quantity.of}, of those left by attacks before"
        # the top of a share in the first draw: the same formula over what was seen there
        first = chosen.ask(_first(points)).top if quantity.kind == "share" else quantity.top
        interval = quantity.interval(first > 0.5, points.random)
        about = defense, threat, attack, norm, eps, quantity.value, interval.low, interval.high, interval.kind
        results.append(MetricResult(name, *about, of, quantity.n, images, chosen.percent))
    return results


def _first(points: Points) -> Points:
    fields = {**vars(points), "after": points.after_first.astype(float), "clean": points.clean_first.astype(float)}
    return Points(**fields)


def points_of(rows: RowTable, defense: str, threat: str, attack: str) -> Points:
    """The worst point of each image of a cell, beside the clean image on the same system."""
    if rows["clean_l2"].dtype == object or np.isnan(rows["clean_l2"].astype(float)).any():
        raise SparringError("these rows are of an older edition that wrote down too little for metrics; evaluate again")
    cell = candidates(rows, defense, threat, attack)
    worst, clean = rows.pick(cell.pool, cell.averaged), rows.pick(cell.clean)
    # the attack's own point, also where the clean image is the worst candidate; an image without a feasible one keeps what it has
    attacked = rows.pick(cell.usable)
    if len(attacked.images) < len(worst.images):
        attacked = rows.pick(cell.attacked)
    at = attacked.rows
    return Points(
        after=worst.p,
        after_first=worst.first,
        clean=clean.p,
        clean_first=clean.first,
        source_after=~rows["source_fooled"][at],
        source_clean=rows["source_clean"][at].astype(bool),
        l2=rows["l2"][at],
        clean_l2=rows["clean_l2"][at],
        size=rows["size"][at],
        random=cell.random or cell.averaged,
    )
