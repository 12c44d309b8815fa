"""The rules, in order: the first that holds gives the word. Each is tried on made-up evidence in tests/verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sparring.core.spec import ball
from sparring.evaluation.records.finding import Finding
from sparring.evaluation.results.verdicts import Line, Verdict, Word
from sparring.verdict.evidence import LEAST, Evidence, floor, is_broken, twice
from sparring.verdict.next import doctor, onward, other_ways, witnesses

WEAK = 0.2  # a baseline below this does not withstand the attacks itself
CLOSE = 0.02  # a claim that is missed by less is met; more suspect images than that are too many
IMAGES = 500  # fewer do not carry HOLDS
NONE_FAILED = "no check of them failed"
TIERS = ("standard", "thorough")  # that carry HOLDS


def _nothing(e: Evidence) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True)
class Rule:
    """``holds`` decides; ``sentence`` is a fixed text with the numbers filled in; ``next`` is a command that can be pasted; ``reasons`` are ids of the
    checks that the word rests on.
    """

    number: int
    word: Word
    holds: Callable[[Evidence], bool]
    sentence: Callable[[Evidence], str]
    next: Callable[[Evidence], str]
    reasons: Callable[[Evidence], tuple[str, ...]] = _nothing


def verdict_of(evidence: Evidence) -> Verdict:
    """The verdict of the first rule that holds; the last one always does."""
    e, rule = evidence, next(r for r in RULES if r.holds(evidence))
    numbers = (e.robust, e.lower, e.upper, e.trusted, e.robust - e.trusted)
    robust, lower, upper, trusted, suspect = numbers if rule.number > 1 else (math.nan,) * len(numbers)
    return Verdict(
        word=rule.word,
        rule=rule.number,
        sentence=rule.sentence(e),
        next=rule.next(e),
        reasons=rule.reasons(e),
        evidence=lines(e),
        defense=e.defense,
        threat=e.threat,
        norm=e.norm,
        eps=e.eps,
        robust_accuracy=robust,
        lower=lower,
        upper=upper,
        n=e.n,
        trusted=trusted,
        suspect=suspect,
        random=e.random,
        suspects=e.suspects,
        followed=e.followed,
    )


def invalid(findings: Sequence[Finding], next: str) -> tuple[Verdict, ...]:
    """The verdicts where checks stopped an evaluation before it had a number: one per system that they are about."""
    stopped = [f for f in findings if f.stops]
    verdicts: list[Verdict] = []
    for defense in dict.fromkeys(f.defense for f in stopped):
        mine = tuple(f for f in stopped if f.defense == defense)
        verdicts.append(Verdict("INVALID", 1, _stopped(mine), next, ids(mine), defense=defense))
    return tuple(verdicts)


def ids(findings: Sequence[Finding]) -> tuple[str, ...]:
    """The checks of some findings, each once."""
    return tuple(dict.fromkeys(f.check for f in findings))


def lines(e: Evidence) -> tuple[Line, ...]:
    """What HOLDS needs, each with the value that says whether it is there."""
    kinds = ", ".join(sorted(e.kinds)) or "none"
    quiet = "P10 failed, and no image is left that another check speaks against" if e.culprit else NONE_FAILED
    tried = {None: "not tried", True: "nothing changed", False: "it broke more"}
    return (
        Line("the numbers are sound", not e.fatal, ", ".join(ids(e.fatal)) or NONE_FAILED),
        Line("every stage is active", not e.idle, ", ".join(e.idle) or "no idle stage"),
        Line("clean accuracy is above chance", not _unusable(e), f"{_percent(e.clean)} of {e.classes} classes"),
        Line("the attacks are sound", not e.open, ", ".join(ids(e.open)) or quiet),
        Line("few images are suspect", e.suspect <= CLOSE, f"{_points(e.suspect)} points, at most {_points(CLOSE)}"),
        Line("the attacker knows the defense", e.adaptive, e.threat),
        Line("the attacker has a budget to spend", math.isfinite(e.eps), ball(e.norm, e.eps)),
        Line("the tier is standard or more", e.tier in TIERS, e.tier),
        Line("enough images", e.n >= IMAGES, f"{e.n}, at least {IMAGES}"),
        Line("stored 8-bit images were judged, too", not math.isnan(e.lattice), _percent(e.lattice)),
        Line("the same attacks break it undefended", e.undefended_broken, _undefended(e)),
        Line("an iterative attack with gradients ran", "iterative" in e.kinds, kinds),
        Line("an attack without gradients ran", "query" in e.kinds, kinds),
        Line("an attack that sees labels alone ran", e.labels_only, "yes" if e.labels_only else "no"),
        Line("more budget changes nothing", e.converged is True, tried[e.converged]),
        _mark(e),
    )


def _mark(e: Evidence) -> Line:
    """Does the lower bound reach what there is to reach: the claim, or a gain, or without either more than chance?"""
    claimed, gains = not math.isnan(e.claim), not math.isnan(e.gain_lower)
    low, name = e.believed_lower, "the lower bound reaches its mark"
    marks = [f"{_percent(low)} of the claimed {_percent(e.claim)}"] if claimed else []
    marks += [f"at least {_points(e.gain_lower)} points better than {e.baseline}"] if gains else []
    chance = 1 / e.classes + LEAST
    if not marks:
        return Line(name, low > chance, f"{_percent(low)}, more than chance and 5 points ({_percent(chance)})")
    reached = (claimed and low >= e.claim - CLOSE) or (gains and e.gain_lower > LEAST)
    return Line(name, reached, "; ".join(marks))


def _unusable(e: Evidence) -> bool:
    return e.clean < twice(1 / e.classes)


def _idle(e: Evidence) -> bool:
    """Without a baseline the gain is over the undefended model; where that was not attacked, an idle stage is none."""
    gain = e.robust - e.undefended if math.isnan(e.gain) else e.gain
    return bool(e.idle) and not gain >= LEAST


def _no_gain(e: Evidence) -> bool:
    """Is it sure that the baseline is not beaten by 5 points? Never where there is no baseline."""
    return e.gain_upper < LEAST


def _percent(share: float) -> str:
    return "n/a" if math.isnan(share) else f"{100 * share:.1f} %"


def _undefended(e: Evidence) -> str:
    """The undefended model's number; where it is not the one that shows the break, a larger ball's is."""
    elsewhere = e.undefended_broken and e.undefended > floor(e.classes)
    return f"in a larger ball; {_percent(e.undefended)} in this one" if elsewhere else _percent(e.undefended)


def _points(share: float) -> str:
    return f"{100 * share:.1f}"


def _number(e: Evidence) -> str:
    drawn = " (estimated on fresh draws)" if e.random else ""
    return f"Robust accuracy is at most {_percent(e.robust)}{drawn}"


def _too_few(e: Evidence) -> str:
    """Where a gain of nothing cannot be told from one of 5 points."""
    if math.isnan(e.gain) or e.gain >= LEAST or _no_gain(e):
        return ""
    over = f"the gain over {e.baseline} is {_points(e.gain)} points and may be {_points(e.gain_upper)}"
    return f" {e.n} images are too few to say that it adds nothing: {over}."


def _stopped(findings: Sequence[Finding]) -> str:
    return f"No number stands: {'; '.join(f'check {f.check} failed: {f.message}' for f in findings)}."


def _idle_sentence(e: Evidence) -> str:
    gain, over = (e.robust - e.undefended, "the undefended model") if math.isnan(e.gain) else (e.gain, e.baseline)
    result = "" if math.isnan(gain) else f"; robust accuracy is {_points(gain)} points above that of {over}"
    return f"It does nothing on these images: idle is {', '.join(e.idle)}{result}."


def _unusable_sentence(e: Evidence) -> str:
    least = f"{_percent(twice(1 / e.classes))} of {e.classes} classes"
    return f"It is unusable: clean accuracy is {_percent(e.clean)}, below {least}, which is hardly better than chance."


def _broken_sentence(e: Evidence) -> str:
    bound = f"upper bound {_percent(e.upper)}, n={e.n}"
    return f"{_number(e)} ({bound}): nothing is left above {_percent(floor(e.classes))}. Each image lost has a witness."


def _no_better_sentence(e: Evidence) -> str:
    most = f"at most {_points(e.gain_upper)} points above the {_percent(e.baseline_robust)} of {e.baseline}"
    return f"{_number(e)}, {most}: not 5 points better than what does not withstand these attacks itself."


def _refuted_sentence(e: Evidence) -> str:
    weakened = (
        f" It is weakened, not useless: at least {_points(e.gain_lower)} points better than {e.baseline}."
        if e.gain_lower > LEAST
        else ""
    )
    return f"{_number(e)} (upper bound {_percent(e.upper)}, n={e.n}), below the claimed {_percent(e.claim)}.{weakened}"


def _adds_nothing_sentence(e: Evidence) -> str:
    costs = " and costs robustness" if e.gain_upper < 0 else ""
    most = f"at most {_points(e.gain_upper)} points above the {_percent(e.baseline_robust)} of {e.baseline}"
    return f"{_number(e)}, {most}: the defense adds nothing{costs}."


def _untrusted_sentence(e: Evidence) -> str:
    culprit = f" Culprit: {e.culprit}." if e.culprit else ""
    rest = f"{_points(e.suspect)} of its {_points(e.robust)} points are suspect: real accuracy may be lower"
    return f"The attacks cannot be trusted: {', '.join(ids(e.open))} failed, and {rest}.{culprit}{_too_few(e)}"


def _holds_sentence(e: Evidence) -> str:
    return (
        f"{_number(e)} and at least {_percent(e.believed_lower)} against these attacks (tier {e.tier}, n={e.n}), of which nothing says that they are "
        "weak. That is no proof: a stronger attack may come."
    )


ADDED = {
    "quick": "The standard tier adds longer and targeted gradient attacks, 25 times the queries and a rerun with more budget.",
    "standard": "The thorough tier adds restarts, ten times the steps and four times the queries.",
    "thorough": "No tier adds more: another seed, more images or an attack made for this defense may.",
}


def _open_sentence(e: Evidence) -> str:
    if e.robust <= floor(e.classes):
        return f"{_number(e)}, but {e.n} images are too few to say that it is broken (upper bound {_percent(e.upper)}).{_too_few(e)}"
    named = e.asked.texts("attacks")
    who = f"the named attacks ({', '.join(named[:3])}{', ...' * (len(named) > 3)})" if named else f"tier {e.tier}"
    added = (
        "The tier's own, which they stand in the place of, try more: leave --attack out."
        if named
        else ADDED.get(e.tier, "")
    )
    alone = " What they left was not attacked again (--no-follow-up)." if not e.followed else ""
    shown = "did not break it, which does not show that it holds."
    return f"{_number(e)}: {who} on {e.n} images {shown}{alone} {added}{_too_few(e)}"


RULES = (
    Rule(1, "INVALID", lambda e: bool(e.fatal), lambda e: _stopped(e.fatal), doctor, lambda e: ids(e.fatal)),
    Rule(2, "ADDS_NOTHING", _idle, _idle_sentence, doctor, lambda e: ("P12",)),
    Rule(3, "ADDS_NOTHING", _unusable, _unusable_sentence, doctor),
    # breaks rest on witnesses: whatever check of the attacks failed, they stand
    Rule(4, "BROKEN", lambda e: is_broken(e.robust, e.upper, e.classes), _broken_sentence, witnesses),
    Rule(5, "BROKEN", lambda e: e.baseline_robust < WEAK and _no_gain(e), _no_better_sentence, witnesses),
    Rule(6, "REFUTED", lambda e: e.upper < e.claim, _refuted_sentence, witnesses),
    Rule(7, "ADDS_NOTHING", lambda e: e.baseline_robust >= WEAK and _no_gain(e), _adds_nothing_sentence, onward),
    Rule(8, "ATTACK_NOT_TRUSTED", lambda e: bool(e.open), _untrusted_sentence, other_ways, lambda e: ids(e.open)),
    Rule(9, "HOLDS", lambda e: all(line.ok for line in lines(e)), _holds_sentence, onward),
    Rule(10, "NOT_BROKEN_YET", lambda e: True, _open_sentence, onward),
)
