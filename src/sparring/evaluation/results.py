"""Numbers from rows: own and closed robust accuracy per cell, with intervals and denominators. Pure functions.

A row is one judged candidate of one image. The clean image is always a candidate, so robust <= clean by
construction.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch

from sparring.core.errors import SparringError
from sparring.core.geometry import Norm, slack
from sparring.core.spec import ball
from sparring.evaluation.stats import persistent, rate_interval, rate_upper

CLEAN = "clean"


@dataclass(frozen=True)
class Picked:
    """Per image (n,), in image order: the worst candidate's accuracy in the judge draws, and what else is known of
    it.
    """

    images: list[str]
    p: np.ndarray
    first: np.ndarray
    k: np.ndarray
    draws: int
    p_8bit: np.ndarray  # nan where the image is not on the lattice
    p_truncated: np.ndarray  # the same without refinement
    p_select: np.ndarray


@dataclass(frozen=True)
class CellResult:
    """One (defense, threat, attack, ball): accuracy over ALL images against its own points. Shares in [0,1]; nan:
    n/a.
    """

    defense: str
    threat: str
    attack: str
    norm: str
    eps: float
    n: int
    clean_accuracy: float
    robust_accuracy: float
    ci_low: float
    ci_high: float
    robust_accuracy_8bit: float
    robust_accuracy_truncated: float
    forwards_per_image: float
    backwards_per_image: float
    interval: str
    random: bool
    source_fooled: float
    median_norm: float
    judge_draws: int

    def json(self) -> dict[str, Any]:
        """Plain values; infinities and nan as strings or null."""
        return {k: _plain(v) for k, v in asdict(self).items()}


@dataclass(frozen=True)
class ClosedResult:
    """One (defense, threat, ball): per-image worst case over the pool of the threat and of all it dominates."""

    defense: str
    threat: str
    norm: str
    eps: float
    n: int
    attacks: int
    clean_accuracy: float
    robust_accuracy: float
    ci_low: float
    ci_high: float
    upper: float
    robust_accuracy_8bit: float
    own_accuracy: float
    gap: float
    persistent_10: float
    interval: str
    random: bool
    judge_draws: int
    undefended: float
    dominates: int

    def json(self) -> dict[str, Any]:
        return {k: _plain(v) for k, v in asdict(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf"
    return value


@dataclass(frozen=True)
class ThreatFacts:
    """What results need to know of a threat, as its run remembers it: its registered name, the names of those whose points it inherits
    (itself included), whether it shares points with the same threat of other fields, whether examples of it are worth a look.
    """

    name: str
    dominated: frozenset[str]
    merges: bool = False
    pictured: bool = False
    shows: str = ""

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> ThreatFacts:
        return cls(**{**facts, "dominated": frozenset(facts["dominated"])})


class RowTable:
    """The judged rows as numpy columns, with the selections that results need.

    ``order``: texts of defenses, threats and attacks as the user gave them; results come out in that order. ``threats``: facts by the text
    of a threat; one without facts dominates nothing.
    """

    def __init__(self, table: pa.Table, order: Sequence[str] = (), threats: Mapping[str, Any] | None = None) -> None:
        self.threats = {text: ThreatFacts.of(facts) for text, facts in (threats or {}).items()}
        self.rank = {text: i for i, text in enumerate(order)}
        self.columns = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
        self.size = table.num_rows

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def where(self, **equal: Any) -> np.ndarray:
        """Bool mask of rows whose columns equal the given values."""
        mask = np.ones(self.size, bool)
        for name, value in equal.items():
            mask &= self[name] == value
        return mask

    def facts(self, threat: str) -> ThreatFacts:
        """The facts of a threat by its text."""
        # a threat without facts would inherit nothing: a smaller pool, too high a number
        if self.threats and threat != CLEAN and threat not in self.threats:
            raise SparringError(f"the run's record says nothing of its threat {threat}: its run.json is damaged")
        return self.threats.get(threat) or ThreatFacts(threat, frozenset({threat}))

    def clean(self, defense: str) -> np.ndarray:
        """The clean images on the deployed system."""
        return self.where(defense=defense, threat=CLEAN, pooled=True)

    def pick(self, mask: np.ndarray, average: bool = False) -> Picked:
        """The worst candidate per image among the rows in ``mask``: least accurate in the *selection* draws, then
        least margin; or, with ``average``, the mean over an image's rows.
        """
        index = np.flatnonzero(mask)
        # averaged draws stay in the order they were drawn, so that the first is a fair one
        quality = (
            (self["view"][index], self["draw"][index]) if average else (-self["margin"][index], self["p_select"][index])
        )
        order = np.lexsort((*quality, self["image"][index]))
        index = index[order]
        images, start = np.unique(self["image"][index], return_index=True)
        k, draws = self["k"][index], self["draws"][index]
        k8, plain8 = (
            np.where(self["lattice"][index], self[c][index] / draws, np.nan) for c in ("k_8bit", "k_truncated")
        )
        share = k / draws
        if average:
            # within a draw the worst view counts, then draws are averaged
            draw = self["draw"][index]
            change = (draw[1:] != draw[:-1]) | (self["image"][index][1:] != self["image"][index][:-1])
            group = np.flatnonzero(np.concatenate([[True], change]))
            share, k8, plain8 = (np.minimum.reduceat(v, group) for v in (share, k8, plain8))
            index = index[group]
            k, start = self["k"][index], np.unique(self["image"][index], return_index=True)[1]
            mean = lambda v: np.add.reduceat(v, start) / np.diff(np.append(start, len(index)))  # noqa: E731
            return Picked(
                list(images),
                mean(share),
                self["correct"][index][start],
                k[start],
                int(draws[0]),
                mean(k8),
                mean(plain8),
                mean(self["p_select"][index]),
            )
        # a witness is a witness: for a deterministic system any lattice point that fools counts on the lattice
        lattice, plain = (np.minimum.reduceat(k, start) if int(draws.max()) == 1 else k[start] for k in (k8, plain8))
        return Picked(
            list(images),
            share[start],
            self["correct"][index][start],
            k[start],
            int(draws[0]),
            lattice,
            plain,
            self["p_select"][index][start],
        )


def cell_keys(rows: RowTable) -> list[tuple[str, str, str, str, float]]:
    """(defense, threat, attack, norm, eps) of all attacked cells, in the order the user gave them."""
    keys = zip(*(rows[c] for c in ("defense", "threat", "attack", "norm", "eps")), strict=True)
    found = [k for k in dict.fromkeys(keys) if k[1] != CLEAN]
    return sorted(found, key=lambda k: [rows.rank.get(text, len(rows.rank)) for text in k[:3]])


def own(rows: RowTable, defense: str, threat: str, attack: str) -> CellResult:
    """A cell's number from its own points only."""
    mask = rows.where(defense=defense, threat=threat, attack=attack)
    at = int(np.flatnonzero(mask)[0])
    averaged = bool(rows["averaged"][at])
    clean = rows.pick(rows.clean(defense))
    judged_elsewhere = not bool(rows["pooled"][at]) and not averaged  # bait, fixed-w: another judge, another clean
    usable = mask & rows["feasible"]
    if judged_elsewhere:
        picked = rows.pick(usable | rows.where(defense=defense, threat=CLEAN, pooled=False, judge=rows["judge"][at]))
    elif averaged:
        picked = rows.pick(usable, average=True)
    else:
        picked = rows.pick(usable | rows.clean(defense))
    random = bool(rows["random"][at])
    interval = rate_interval(picked.p, picked.first, random or averaged)
    fooled = rows["source_fooled"][mask]
    distances = rows[rows["norm"][at]][mask & rows["source_fooled"]]
    return CellResult(
        defense=defense,
        threat=threat,
        attack=attack,
        norm=str(rows["norm"][at]),
        eps=float(rows["eps"][at]),
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
    )


def pool_mask(rows: RowTable, defense: str, threat: str, norm: str, eps: float) -> np.ndarray:
    """Candidates of the closed pool: points of this threat and all it dominates that lie in the ball, and the clean
    images.
    """
    mine = rows.facts(threat)
    others = {t: rows.facts(t).name for t in np.unique(rows["threat"])}
    # the same threat with other fields (another source, another w) is another threat, unless it says otherwise
    allowed = [
        t
        for t, name in others.items()
        if t == threat or (name in mine.dominated and (name != mine.name or mine.merges))
    ]
    reach = eps + float(slack(torch.tensor(eps, dtype=torch.float64), cast(Norm, norm)))
    # a point made for this ball was checked in float64 by the judge; others enter by their distance
    inside = ((rows["norm"] == norm) & (rows["eps"] == eps) & rows["feasible"]) | (rows[norm] <= reach)
    mask = rows.where(defense=defense) & np.isin(rows["threat"], allowed) & inside & rows["pooled"] & ~rows["averaged"]
    return mask | rows.clean(defense)


def closed(rows: RowTable, defense: str, threat: str, norm: str, eps: float, baseline: str = "none") -> ClosedResult:
    """The reported number of (threat, ball)."""
    mask = pool_mask(rows, defense, threat, norm, eps)
    picked = rows.pick(mask)
    clean = rows.pick(rows.clean(defense))
    mine = rows.pick((mask & rows.where(threat=threat)) | rows.clean(defense))
    random = bool(rows["random"][np.flatnonzero(rows.clean(defense))[0]])
    interval = rate_interval(picked.p, picked.first, random)
    attacks = len(np.unique(rows["run"][mask & ~rows.clean(defense)]))
    undefended = math.nan
    if rows.clean(baseline).any():
        undefended = float(rows.pick(pool_mask(rows, baseline, threat, norm, eps)).p.mean())
    return ClosedResult(
        defense=defense,
        threat=threat,
        norm=norm,
        eps=eps,
        n=len(picked.p),
        attacks=attacks,
        clean_accuracy=float(clean.p.mean()),
        robust_accuracy=float(picked.p.mean()),
        ci_low=interval.low,
        ci_high=interval.high,
        upper=rate_upper(picked.p, picked.first, random),
        robust_accuracy_8bit=float(picked.p_8bit.mean()),
        own_accuracy=float(mine.p.mean()),
        gap=float(mine.p.mean() - picked.p.mean()),
        persistent_10=persistent(picked.k, picked.draws) if random else math.nan,
        interval=interval.kind,
        random=random,
        judge_draws=picked.draws,
        undefended=undefended,
        dominates=len(rows.facts(threat).dominated),
    )


def all_cells(rows: RowTable) -> list[CellResult]:
    return [own(rows, *key[:3]) for key in cell_keys(rows)]


def all_closed(rows: RowTable) -> list[ClosedResult]:
    """Closed results of every (defense, threat, finite ball) that was attacked; an unbounded ball only where a defense
    was attacked in no other.
    """
    keys: dict[tuple[str, str, str, float], None] = {}
    for defense, threat, _, norm, eps in cell_keys(rows):
        at = np.flatnonzero(rows.where(defense=defense, threat=threat))[0]
        if rows["pooled"][at] and not rows["averaged"][at]:
            keys[(defense, threat, str(norm), float(eps))] = None
    bounded = {key[0] for key in keys if math.isfinite(key[3])}
    keys = {key: None for key in keys if math.isfinite(key[3]) or key[0] not in bounded}
    return [closed(rows, *key) for key in keys]


def headline(result: ClosedResult, tier: str) -> str:
    """The fixed sentence of PROTOCOL 5.4, without the verdict word."""
    goal = f"T = {{{result.threat}, {ball(result.norm, result.eps)}, untargeted}}"
    bound = "is at most" if not result.random else f"is at most (estimated on fresh draws, T_j={result.judge_draws})"
    lattice = f"{100 * result.robust_accuracy_8bit:.1f} %" if not math.isnan(result.robust_accuracy_8bit) else "n/a"
    again = f" R_10 {100 * result.persistent_10:.1f} %." if not math.isnan(result.persistent_10) else ""
    bare = f"{100 * result.undefended:.1f} %" if not math.isnan(result.undefended) else "n/a"
    return (
        f"{result.defense}: robust accuracy under {goal} {bound} {100 * result.robust_accuracy:.1f} % (n={result.n}, one-sided 95 % upper "
        f"bound {100 * result.upper:.1f} %, lattice {lattice}), clean {100 * result.clean_accuracy:.1f} %, undefended {bare}.{again} "
        f"Worst case over {result.attacks} attacks per image. Tier {tier}."
    )


def strongest(results: Iterable[ClosedResult]) -> list[ClosedResult]:
    """One result per (defense, ball): the threat that dominates the most, adaptive before the rest."""
    best: dict[tuple[str, str, float], ClosedResult] = {}
    for r in results:
        key = (r.defense, r.norm, r.eps)
        if key not in best or r.dominates > best[key].dominates:
            best[key] = r
    return list(best.values())
