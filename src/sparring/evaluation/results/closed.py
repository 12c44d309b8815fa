"""The closed pool: the worst case per image over a threat's points and those of all it dominates: the number to report."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import cast

import numpy as np
import torch

from sparring.core.columns import Json
from sparring.core.geometry import Norm, slack
from sparring.core.shown import percent, shown
from sparring.core.spec import ball
from sparring.evaluation.results.cells import cell_keys
from sparring.evaluation.results.stats import persistent, rate_interval, rate_upper
from sparring.evaluation.results.table import RowTable, plain

UNDEFENDED = "none"  # the name of the system without a defense


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

    def __repr__(self) -> str:
        return shown(
            self,
            f"{self.defense} / {self.threat}",
            ball(self.norm, self.eps),
            f"robust at most {percent(self.robust_accuracy)} of {self.n}",
        )

    def json(self) -> Json:
        return {k: plain(v) for k, v in asdict(self).items()}


def pool_mask(rows: RowTable, defense: str, threat: str, norm: str, eps: float) -> np.ndarray:
    """Candidates of the closed pool: points of this threat and all it dominates that lie in the ball, and the clean
    images.
    """
    reach = eps + float(slack(torch.tensor(eps, dtype=torch.float64), cast(Norm, norm)))
    # a point made for this ball was checked in float64 by the judge; others enter by their distance
    inside = (rows.where(norm=norm, eps=eps) & rows["feasible"]) | (rows[norm] <= reach)
    return pooled(rows, defense, threat) & ~rows.spared & inside | rows.clean(defense)


def pooled(rows: RowTable, defense: str, threat: str) -> np.ndarray:
    """Rows of attacks of this threat and all it dominates that may join its pool, wherever their points lie; spared images are among them."""
    mine = rows.facts(threat)
    others = {t: rows.facts(t).name for t in rows.texts["threat"].names}
    # the same threat with other fields (another source, another w) is another threat, unless it says otherwise
    allowed = [
        t
        for t, name in others.items()
        if t == threat or (name in mine.dominated and (name != mine.name or mine.merges))
    ]
    return rows.where(defense=defense) & rows.among("threat", allowed) & rows["pooled"] & ~rows["averaged"]


def closed(
    rows: RowTable, defense: str, threat: str, norm: str, eps: float, baseline: str = UNDEFENDED
) -> ClosedResult:
    """The reported number of (threat, ball)."""
    mask = pool_mask(rows, defense, threat, norm, eps)
    picked = rows.pick(mask)
    clean = rows.pick(rows.clean(defense))
    mine = rows.pick((mask & rows.where(threat=threat)) | rows.clean(defense))
    random = bool(rows["random"][np.flatnonzero(rows.clean(defense))[0]])
    interval = rate_interval(picked.p, picked.first, random)
    attacks = len(rows.distinct("run", mask & ~rows.clean(defense)))
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
    asked = [key for key in keys if math.isfinite(key[3]) or key[0] not in bounded]
    results: list[ClosedResult] = []
    for defense, mine in groupby(asked, key=lambda key: key[0]):
        part = rows.only(rows.among("defense", (defense, UNDEFENDED)))
        results += [closed(part, *key) for key in mine]
    return results


def headline(result: ClosedResult, tier: str) -> str:
    """The fixed sentence of PROTOCOL 5.4, without the verdict word. Of an unbounded ball: what the attack leaves, which is no robustness and
    has no lattice number (a nearest error that rounding moves back is there all the same).
    """
    goal = f"T = {{{result.threat}, {ball(result.norm, result.eps)}, untargeted}}"
    bound = "is at most" if not result.random else f"is at most (estimated on fresh draws, T_j={result.judge_draws})"
    lattice = f"{100 * result.robust_accuracy_8bit:.1f} %" if not math.isnan(result.robust_accuracy_8bit) else "n/a"
    again = f" R_10 {100 * result.persistent_10:.1f} %." if not math.isnan(result.persistent_10) else ""
    bare = f"{100 * result.undefended:.1f} %" if not math.isnan(result.undefended) else "n/a"
    if math.isinf(result.eps):
        return (
            f"{result.defense}: an unbounded attack leaves {100 * result.robust_accuracy:.1f} % right under {goal} (n={result.n}), clean "
            f"{100 * result.clean_accuracy:.1f} %, undefended {bare}. That is no robust accuracy, which needs a budget: give the attack its eps, or "
            f"--eps for all. Worst case over {result.attacks} attacks per image. Tier {tier}."
        )
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
