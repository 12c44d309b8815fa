"""The rules, in order: the first that holds gives the word. Breaks rest on points that were found and judged, and stand whatever failed; only
HOLDS needs trust.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sparring.core.spec import ball
from sparring.verdict.evidence import Evidence

Word = Literal["INVALID", "ADDS_NOTHING", "BROKEN", "REFUTED", "ATTACK_NOT_TRUSTED", "HOLDS", "NOT_BROKEN_YET"]

POINTS = 0.05  # what a defense must gain to be worth a word
LOW = 0.05  # a robust accuracy that is none
WEAK = 0.2  # of a baseline: below it there is nothing to lose
NEAR = 0.02  # how far below a claim a lower bound may lie, and how much of the images may be suspect
ENOUGH = 500  # images
TIERS = ("standard", "thorough")
NEXT_TIER = {"quick": "standard", "standard": "thorough", "thorough": "thorough"}


@dataclass(frozen=True)
class Rule:
    """``holds(evidence)`` decides; ``sentence`` is its fixed text with the numbers filled in; ``next`` what settles the rest, as options of
    the same command, or "".
    """

    number: int
    word: Word
    holds: Callable[[Evidence], bool]
    sentence: Callable[[Evidence], str]
    next: Callable[[Evidence], str] = lambda e: ""


def percent(share: float) -> str:
    """A share as it is printed."""
    return "n/a" if math.isnan(share) else f"{100 * share:.1f} %"


def points(share: float) -> str:
    """A difference of shares as it is printed."""
    return "n/a" if math.isnan(share) else f"{100 * share:.1f} points"


def number_of(e: Evidence) -> str:
    """What every sentence begins with: threat, ball, the number, its n and bounds."""
    drawn = ", estimated on fresh draws" if e.random else ""
    lattice = "" if math.isnan(e.lattice) else f", 8-bit {percent(e.lattice)}"
    return (
        f"under {e.threat}, {ball(e.norm, e.eps)}, {percent(e.robust)} of n={e.n} images stay right (one-sided 95 %: {percent(e.lower)} to "
        f"{percent(e.upper)}{lattice}{drawn}; clean {percent(e.clean)})"
    )


def _gained_little(e: Evidence) -> bool:
    return bool(e.baseline) and e.gain_upper < POINTS


def _none_left(e: Evidence) -> bool:
    most = max(LOW, 1 / e.classes)
    return e.robust <= most and e.upper <= 2 * most


def _holds(e: Evidence) -> bool:
    good = (
        e.tier in TIERS
        and e.n >= ENOUGH
        and e.adaptive
        and not math.isnan(e.lattice)
        and math.isfinite(e.eps)
        and e.undefended_broken
        and {"iterative", "query"} <= e.kinds
        and e.labels_only
        and e.converged is True
        and e.suspect <= NEAR
    )
    if not math.isnan(e.claim):
        worth = e.lower >= e.claim - NEAR
    elif e.baseline:
        worth = e.gain_lower > POINTS
    else:
        worth = e.lower > 1 / e.classes + POINTS
    return good and worth


def _too_few(e: Evidence) -> str:
    if not e.baseline or e.gain_upper < POINTS or e.gain >= POINTS:
        return ""
    return f" {e.n} images are too few to say whether it gains {points(POINTS)} over {e.baseline} (at most {points(e.gain_upper)})."


def _culprits(e: Evidence) -> str:
    return "; ".join(dict.fromkeys(f"{f.check} ({f.message})" for f in e.open))


def _more(e: Evidence) -> str:
    wanted = []
    if not e.adaptive:
        wanted.append("--threat adaptive")
    if e.tier not in TIERS:
        wanted.append(f"--tier {NEXT_TIER[e.tier]}")
    if e.n < ENOUGH:
        wanted.append(f"--limit {ENOUGH}")
    if not e.labels_only:
        wanted.append("--threat adaptive,decision")
    if not wanted:
        wanted.append(f"--tier {NEXT_TIER[e.tier]}")
    return " ".join(dict.fromkeys(wanted))


RULES = (
    Rule(
        1,
        "INVALID",
        lambda e: bool(e.fatal),
        lambda e: f"no number: check {e.fatal[0].check} failed: {e.fatal[0].message}",
    ),
    Rule(
        2,
        "ADDS_NOTHING",
        lambda e: bool(e.idle) and not e.gain >= POINTS,
        lambda e: f"{', '.join(e.idle)} does nothing on these images; {number_of(e)}.",
    ),
    Rule(
        3,
        "ADDS_NOTHING",
        lambda e: e.clean < 2 / e.classes,
        lambda e: f"unusable: its clean accuracy is at chance; {number_of(e)}.",
    ),
    Rule(4, "BROKEN", _none_left, lambda e: f"{number_of(e)}: as good as none."),
    Rule(
        5,
        "BROKEN",
        lambda e: _gained_little(e) and e.baseline_robust < WEAK,
        lambda e: (
            f"{number_of(e)}: not {points(POINTS)} better than {e.baseline} with {percent(e.baseline_robust)} (at most {points(e.gain_upper)})."
        ),
    ),
    Rule(
        6,
        "REFUTED",
        lambda e: e.upper < e.claim,
        lambda e: (
            f"{number_of(e)}: less than the {percent(e.claim)} that is claimed"
            + (f"; weakened, {points(e.gain)} over {e.baseline} are left." if e.gain_lower > POINTS else ".")
        ),
    ),
    Rule(
        7,
        "ADDS_NOTHING",
        lambda e: _gained_little(e) and e.baseline_robust >= WEAK,
        lambda e: (
            f"{number_of(e)}: not {points(POINTS)} better than {e.baseline} with {percent(e.baseline_robust)} (at most {points(e.gain_upper)})"
            + (", and it costs." if e.gain_upper < 0 else ".")
        ),
    ),
    Rule(
        8,
        "ATTACK_NOT_TRUSTED",
        lambda e: bool(e.open),
        lambda e: f"{number_of(e)}, but {points(e.suspect)} of that are suspect, since {_culprits(e)}.{_too_few(e)}",
        _more,
    ),
    Rule(
        9,
        "HOLDS",
        _holds,
        lambda e: f"{number_of(e)}: it withstands the attacks of tier {e.tier}.",
    ),
    Rule(
        10,
        "NOT_BROKEN_YET",
        lambda e: True,
        lambda e: f"{number_of(e)}, against the attacks of tier {e.tier}; no more than that is shown.{_too_few(e)}",
        _more,
    ),
)


def rule_of(evidence: Evidence) -> Rule:
    """The first rule that holds."""
    return next(r for r in RULES if r.holds(evidence))
