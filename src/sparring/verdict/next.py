"""The commands that settle what a verdict leaves open."""

from __future__ import annotations

from sparring.core.spec import show, without
from sparring.verdict.evidence import Evidence

NEXT_TIER = {"quick": "standard", "standard": "thorough"}
TIERS_NORM = "linf"  # what the tiers' own attacks work in
MOST = 500  # images
EVERY_WAY = ("adaptive", "white-identity", "score", "decision")


def doctor(e: Evidence) -> str:
    """The checks of the set-up."""
    return e.asked.doctor()


def witnesses(e: Evidence) -> str:
    """The images that break it, kept and shown."""
    return e.asked.evaluate("--out", "witnesses", "--html", "witnesses.html")


def onward(e: Evidence) -> str:
    """What HOLDS still needs: the next tier with its own attacks, an attacker who knows the defense, one who sees labels alone, more images."""
    asked = ("adaptive",) * (not e.adaptive) + ("decision",) * (not e.labels_only)
    changes: dict[str, object] = {"tier": NEXT_TIER.get(e.tier, e.tier), **_all_attacks(e, asked)}
    (data, said), seed = without(str(e.asked.passed.get("data", "")), "limit"), e.asked.number("seed")
    limit = int(said) if said else e.asked.number("limit")
    if limit is not None and limit < MOST:
        changes["limit"] = MOST
        changes |= {"data": data} if said else {}
    if e.tier not in NEXT_TIER:
        changes["seed"] = (seed or 0) + 1
    return e.asked.evaluate(**changes)


def other_ways(e: Evidence) -> str:
    """The same tier by every way around a gradient that lies; where all were tried, what lies ahead."""
    changes = _all_attacks(e, EVERY_WAY)
    return onward(e) if changes.get("threats") == e.asked.texts("threats") else e.asked.evaluate(**changes)


def _all_attacks(e: Evidence, threats: tuple[str, ...]) -> dict[str, object]:
    """More threats, and the tier's attacks in place of those named: a query threat needs some. These know linf alone; elsewhere all stays."""
    if e.norm != TIERS_NORM:
        return {}
    before = e.asked.texts("threats") or (e.threat,)
    changes: dict[str, object] = {"threats": tuple(dict.fromkeys((*before, *threats)))}
    if e.asked.texts("attacks"):
        changes |= {"attacks": (), "eps": e.asked.passed.get("eps") or (show(e.eps),)}
    return changes
