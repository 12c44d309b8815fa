"""What the rows and findings of a run say of each of its numbers: evidence, and the verdict on it. No attack and no model is looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparring.core.columns import Json
from sparring.core.errors import SparringError
from sparring.evaluation.records.finding import Finding
from sparring.evaluation.results.closed import ClosedResult, pool_mask, strongest
from sparring.evaluation.results.load import Evaluation
from sparring.evaluation.results.stats import CONFIDENCE, bootstrap_means, lower_bound, rate_upper, upper_bound
from sparring.evaluation.results.table import RowTable, plain
from sparring.verdict.evidence import Claim, Evidence
from sparring.verdict.rules import Word, percent, points, rule_of


@dataclass(frozen=True)
class Verdict:
    """One word on one number. ``next``: options to add to the same command, or ""; ``lines``: the evidence, (what, is it so, value)."""

    word: Word
    rule: int
    sentence: str
    next: str
    evidence: Evidence
    lines: tuple[tuple[str, bool, str], ...]

    @property
    def reasons(self) -> list[str]:
        """Ids of the checks that count against the number."""
        return list(dict.fromkeys(f.check for f in (*self.evidence.fatal, *self.evidence.open)))

    @property
    def headline(self) -> str:
        """The first line of everything: the word, the number, what of it is trusted."""
        e, word = self.evidence, self.word.replace("_", " ")
        if self.word == "INVALID":
            return f"{e.defense}: {word}. {self.sentence}"
        split = f"{percent(e.trusted)} trusted + {percent(e.suspect)} suspect"
        return f"{e.defense}: {word}. Robust accuracy at most {percent(e.robust)} = {split}: {self.sentence}"

    @property
    def details(self) -> list[str]:
        """The evidence, a line each, and what to do next."""
        lines = [f"  {'yes' if ok else 'no '}  {what}: {value}" for what, ok, value in self.lines]
        return lines + ([f"  next: the same command with {self.next}"] if self.next else [])

    def json(self) -> Json:
        e = self.evidence
        numbers = {
            "robust_accuracy": e.robust,
            "trusted": e.trusted,
            "suspect": e.suspect,
            "lower": e.lower,
            "upper": e.upper,
            "clean_accuracy": e.clean,
            "baseline_robust": e.baseline_robust,
            "gain": e.gain,
            "claim": e.claim,
        }
        return {
            "defense": e.defense,
            "threat": e.threat,
            "norm": e.norm,
            "eps": plain(e.eps),
            "verdict": self.word,
            **{k: plain(v) for k, v in numbers.items()},
            "n": e.n,
            "tier": e.tier,
            "baseline": e.baseline,
            "reasons": self.reasons,
            "sentence": self.sentence,
            "next": self.next,
            "evidence": [{"what": what, "ok": ok, "value": value} for what, ok, value in self.lines],
            "suspects": {image: list(ids) for image, ids in e.suspects.items()},
        }


def verdict_of(evidence: Evidence) -> Verdict:
    """The first rule that holds, with its sentence."""
    rule = rule_of(evidence)
    return Verdict(
        rule.word, rule.number, rule.sentence(evidence), rule.next(evidence), evidence, tuple(_lines(evidence))
    )


def _lines(e: Evidence) -> list[tuple[str, bool, str]]:
    lines = [
        ("the set-up is valid", not e.fatal, ", ".join(f.check for f in e.fatal) or "yes"),
        ("every stage does something", not e.idle, ", ".join(e.idle) or "yes"),
        ("a gradient attack ran", "iterative" in e.kinds, ", ".join(sorted(e.kinds)) or "none"),
        ("an attack by scores ran", "query" in e.kinds, "yes" if "query" in e.kinds else "no"),
        ("an attack by labels alone ran", e.labels_only, "yes" if e.labels_only else "no"),
        ("no check speaks against the attack", not e.open, ", ".join(dict.fromkeys(f.check for f in e.open)) or "none"),
        ("the suite breaks what is undefended", e.undefended_broken, "yes" if e.undefended_broken else "not shown"),
        (
            "more budget changes nothing",
            e.converged is True,
            "not tried" if e.converged is None else "yes" if e.converged else "no",
        ),
        ("at least 500 images", e.n >= 500, str(e.n)),
        ("tier standard or more", e.tier != "quick", e.tier),
    ]
    if e.baseline:
        bounds = f"{points(e.gain)} ({points(e.gain_lower)} to {points(e.gain_upper)})"
        lines.append((f"gains 5 points over {e.baseline}", e.gain_lower > 0.05, bounds))
    if not math.isnan(e.claim):
        lines.append((f"the claim of {percent(e.claim)} is within reach", e.upper >= e.claim, percent(e.upper)))
    return lines


def judged(
    evaluation: Evaluation, rows: RowTable, classes: int, baseline: str = "", claims: Sequence[Claim] = ()
) -> tuple[Verdict, ...]:
    """A verdict on each of the numbers of a whole run: the strongest threat of every defense and ball. None of an interrupted one."""
    if evaluation.missing:
        return ()
    names = {c.defense for c in evaluation.closed}
    if baseline and baseline not in names:
        raise SparringError(f"baseline {baseline!r} is no defense of this evaluation ({', '.join(sorted(names))})")
    return tuple(
        verdict_of(evidence_of(rows, evaluation.findings, r, evaluation.tier, classes, baseline, claims))
        for r in strongest(evaluation.closed)
    )


def evidence_of(
    rows: RowTable,
    findings: Sequence[Finding],
    result: ClosedResult,
    tier: str,
    classes: int,
    baseline: str = "",
    claims: Sequence[Claim] = (),
) -> Evidence:
    """All that is known of one number, from rows and findings alone."""
    number = result.defense, result.threat, result.norm, result.eps
    mask = pool_mask(rows, *number)
    picked = rows.pick(mask)
    failed = [f for f in findings if not f.ok and f.about(*number)]
    # a check before attacks is about a defense, not about a number: what comes of it the others see
    open_ = tuple(f for f in failed if f.scope == "A" and f.severity == "FAIL" and (f.threat or not f.defense))
    alive = [i for i, p in zip(picked.images, picked.p, strict=True) if p > 0]
    suspects: dict[str, tuple[str, ...]] = {}
    for f in open_:
        for image in f.images or alive:
            if image in alive and f.check not in suspects.get(image, ()):
                suspects[image] = (*suspects.get(image, ()), f.check)
    weight = dict(zip(picked.images, picked.p, strict=True))
    suspect = float(sum(weight[i] for i in suspects)) / len(picked.p)
    attacked = mask & ~rows.clean(result.defense)
    kinds = frozenset(str(k) for k in np.unique(rows["kind"][attacked]) if k)
    gain = _gain(rows, picked.p, picked.images, result, baseline)
    again = [f for f in findings if f.check == "X2" and f.about(*number) and f.defense]
    large = [f for f in findings if f.check == "X5" and f.about(*number) and f.defense]
    claim = next((c.value for c in claims if c.about(*number)), math.nan)
    random = result.random
    low = lower_bound(round(float(picked.p.sum())), len(picked.p))
    if random:
        low = 1 - rate_upper(1 - picked.p, ~picked.first.astype(bool), True)
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
        lower=low,
        upper=result.upper,
        lattice=result.robust_accuracy_8bit,
        random=random,
        adaptive=rows.facts(result.threat).informed,
        baseline=baseline if gain is not None else "",
        **({} if gain is None else gain),
        claim=claim,
        fatal=tuple(f for f in failed if f.scope == "J" and f.severity == "FATAL"),
        open=open_,
        idle=tuple(f.subject for f in failed if f.check == "P12"),
        suspect=suspect,
        suspects=suspects,
        kinds=kinds,
        labels_only=bool((attacked & (rows["access"] == "label")).any()),
        undefended_broken=_undefended_broken(rows, result, large),
        converged=None if not again else all(f.ok for f in again),
    )


def _undefended_broken(rows: RowTable, result: ClosedResult, large: Sequence[Finding]) -> bool:
    """Does the same suite break the system without its defense; or is there none, this one in a large ball?"""
    bare = not math.isnan(result.undefended) and result.undefended <= 0.2 and result.defense != "none"
    return bare or bool(large and all(f.ok for f in large))


def _gain(
    rows: RowTable, p: np.ndarray, images: Sequence[str], result: ClosedResult, baseline: str
) -> dict[str, float] | None:
    """The baseline's number, and how much better the defense is on the same images, with one-sided 95 % bounds."""
    if not baseline or baseline == result.defense or not rows.clean(baseline).any():
        return None
    other = rows.pick(pool_mask(rows, baseline, result.threat, result.norm, result.eps))
    theirs = dict(zip(other.images, other.p, strict=True))
    delta = p - np.array([theirs[i] for i in images])
    means, n = bootstrap_means(delta), len(delta)
    # where no image differs a resampled mean does not either: what n images can exclude is the binomial's business
    unseen_up = upper_bound(int((delta > 0).sum()), n) - float((delta < 0).mean())
    unseen_down = float((delta > 0).mean()) - upper_bound(int((delta < 0).sum()), n)
    return {
        "baseline_robust": float(other.p.mean()),
        "gain": float(delta.mean()),
        "gain_lower": min(float(np.quantile(means, 1 - CONFIDENCE)), unseen_down),
        "gain_upper": max(float(np.quantile(means, CONFIDENCE)), unseen_up),
    }
