"""Evidence from what a run left: its rows and its findings, nothing else, so that a finished folder can be judged anew."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sparring.core.victim import Access
from sparring.evaluation.records.finding import Finding
from sparring.evaluation.results.closed import UNDEFENDED, ClosedResult, closed, pool_mask, pooled
from sparring.evaluation.results.stats import Interval, gain_bounds, mean_gain_bounds, rate_lower
from sparring.evaluation.results.table import Picked, RowTable
from sparring.verdict.command import Command
from sparring.verdict.evidence import LEAST, Evidence, is_broken

IDLE, CULPRIT, MORE_BUDGET, LARGE_BALL = (
    "P12",
    "P10",
    "X2",
    "X5",
)  # checks of which a rule asks more than whether they failed


def evidence_of(
    rows: RowTable,
    findings: Sequence[Finding],
    result: ClosedResult,
    *,
    tier: str,
    classes: int,
    baseline: str = "",
    claim: float = math.nan,
    asked: Command | None = None,
) -> Evidence:
    """What is known of one closed result. baseline: the system to compare with, "" for none."""
    of = (result.threat, result.norm, result.eps)
    about = [f for f in findings if f.about(result.defense, *of)]
    failed = [f for f in about if not f.ok]
    picked = _worst(rows, result.defense, *of)
    survivors = {str(image) for image, share in zip(picked.images, picked.p, strict=True) if share > 0}
    base = _worst(rows, baseline, *of) if _comparable(rows, result, baseline) else None
    gain, bounds = _gain(picked, base, rows, result.defense, baseline) if base else (math.nan, None)
    # a stage that does nothing gains nothing: where it seems to, its gradient is the wrong one
    masks = (gain if base else result.robust_accuracy - result.undefended) >= LEAST
    # a check that names no image speaks against all; what it speaks against has been broken, or it stands open
    against = {
        f: survivors & set(f.images or survivors)
        for f in failed
        if f.severity == "FAIL"
        and f.check != CULPRIT
        and (f.check != IDLE or masks)  # what comes of the culprit, others see
    }
    suspects = {
        image: tuple(dict.fromkeys(f.check for f, images in against.items() if image in images))
        for image in picked.images
        if any(image in images for images in against.values())
    }
    doubted = np.isin(picked.images, list(suspects))
    ran = _ran(rows, result)
    rerun = [f.ok for f in about if f.check == MORE_BUDGET]
    return Evidence(
        defense=result.defense,
        threat=result.threat,
        norm=result.norm,
        eps=result.eps,
        n=result.n,
        classes=classes,
        tier=tier,
        clean=result.clean_accuracy,
        robust=result.robust_accuracy,
        lower=rate_lower(picked.p, picked.first, result.random),
        upper=result.upper,
        lattice=result.robust_accuracy_8bit,
        undefended=result.undefended,
        random=result.random,
        adaptive=rows.facts(result.threat).adaptive,
        baseline=baseline if base else "",
        baseline_robust=float(base.p.mean()) if base else math.nan,
        gain=gain,
        gain_lower=bounds.low if bounds else math.nan,
        gain_upper=bounds.high if bounds else math.nan,
        claim=claim,
        fatal=tuple(f for f in failed if f.stops),
        open=tuple(f for f, images in against.items() if images),
        idle=tuple(f.subject.removeprefix(f"{f.defense} / ") for f in failed if f.check == IDLE),
        culprit=next((f.message for f in failed if f.check == CULPRIT), ""),
        suspect=float(picked.p[doubted].sum() / len(picked.p)),
        suspects=suspects,
        kinds=frozenset(str(kind) for kind in np.unique(rows.at("kind", ran))),
        labels_only=bool((ran & rows.where(access=Access.LABEL.name.lower())).any()),
        undefended_broken=_undefended_broken(rows, findings, result, classes),
        converged=all(rerun) if rerun else None,
        asked=asked or Command(),
    )


def _worst(rows: RowTable, defense: str, threat: str, norm: str, eps: float) -> Picked:
    return rows.pick(pool_mask(rows, defense, threat, norm, eps))


def _ran(rows: RowTable, result: ClosedResult) -> np.ndarray:
    """Rows of attacks that went for this ball, or for the nearest error, wherever their points ended."""
    aimed = (rows["eps"] == result.eps) | np.isinf(rows["eps"])
    return pooled(rows, result.defense, result.threat) & rows.where(norm=result.norm) & aimed


def _comparable(rows: RowTable, result: ClosedResult, baseline: str) -> bool:
    """Never with itself, never the undefended model with a defense, and only where the baseline was attacked the same way: its clean accuracy is no
    robust accuracy.
    """
    if baseline in ("", result.defense) or result.defense == UNDEFENDED:
        return False
    attacked = pool_mask(rows, baseline, result.threat, result.norm, result.eps) & ~rows.clean(baseline)
    return bool(attacked.any())


def _gain(own: Picked, base: Picked, rows: RowTable, defense: str, baseline: str) -> tuple[float, Interval]:
    """robust - baseline_robust with one-sided bounds; both are over the same images."""
    random = any(bool(rows["random"][rows.clean(d)].any()) for d in (defense, baseline))
    bounds = mean_gain_bounds(own.p, base.p, own.first, base.first) if random else gain_bounds(own.p, base.p)
    return float(own.p.mean() - base.p.mean()), bounds


def _undefended_broken(rows: RowTable, findings: Sequence[Finding], result: ClosedResult, classes: int) -> bool:
    """Is the undefended model broken in this ball, in a larger one, or by the check that tries a large one?"""
    bare = rows.where(defense=UNDEFENDED, threat=result.threat, norm=result.norm)
    balls = [eps for eps in np.unique(rows["eps"][bare]) if result.eps <= eps < math.inf]
    tried = [f.ok for f in findings if f.check == LARGE_BALL and f.defense == UNDEFENDED]
    numbers = (closed(rows, UNDEFENDED, result.threat, result.norm, float(eps)) for eps in balls)
    return any(tried) or any(is_broken(r.robust_accuracy, r.upper, classes) for r in numbers)
