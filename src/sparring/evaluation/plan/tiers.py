"""Tiers: which attacks, draws and judge stand for quick, standard and thorough (PROTOCOL 5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from sparring.core.victim import Access
from sparring.threats import threat

Tier = Literal["quick", "standard", "thorough"]

# PROTOCOL 5.2, all in one ball but ddn and pdgd, for the curve; the cascade stands for its margin and targeted steps (measured against AutoAttack: docs/measured.md)
TIERS: dict[str, tuple[str, ...]] = {
    "quick": ("fgsm", "growth", "cascade", "mpgd", "square:steps=199", "random_search"),
    "standard": (
        "fgsm",
        "fgsm:start=random",
        "growth",
        "cascade",
        "apgd:steps=100",
        "apgd:loss=dlr,targets=9",
        "mpgd:steps=100",
        "ddn",
        "square:steps=4999",
        "random_search:steps=200",
        "rays:queries=1000",
    ),
    "thorough": (
        "fgsm",
        "fgsm:start=random",
        "growth",
        "apgd:loss=margin,steps=500,restarts=5",
        "apgd:steps=1000,restarts=5",
        "apgd:loss=dlr,steps=500,targets=9",
        "mpgd:steps=500,restarts=2",
        "pdgd:steps=1000",
        "square:steps=19999",
        "random_search:steps=1000",
        "rays:queries=5000",
    ),
}
SCORES_ONLY = {
    "square:steps=199": "square:steps=999"
}  # where scores are all, the queries that a threat allows are spent
FITTED = {
    "quick": "regression",
    "standard": "regression:steps=249",
    "thorough": "regression:steps=999",
}  # beside it, for random systems
BY_LABELS = {  # for who names the threat decision or score and no attack; the last for random systems
    "quick": ("rays:queries=1000", "tiles", "label_regression"),
    "standard": ("rays:queries=5000", "tiles:steps=5000", "label_regression:steps=249"),
    "thorough": ("rays:queries=25000", "tiles:steps=25000", "label_regression:steps=1249"),
}
_NEAR, _FAR = "mifgsm:steps=10,neighbors=5", "mifgsm:steps=10,neighbors=5,diversity=1"
# for who names a threat that attacks other models: what passes on best, measured on CIFAR networks and on photos (docs/measured.md)
TRANSFERRED = {"quick": (_NEAR,), "standard": (_NEAR, _FAR), "thorough": (_NEAR, _FAR)}
JUDGES = {"quick": (10, 20), "standard": (50, 100), "thorough": (50, 100)}
DRAWS = {"quick": 8, "standard": 20, "thorough": 64}


def default_attacks(tier: str, threats: Sequence[str]) -> tuple[str, ...]:
    """The attacks of a tier; with more queries and a regression where a threat grants scores alone, with those that ask for labels there and where it
    grants no more, with noise where it grants nothing, and with those that transfer where a threat attacks other models.
    """
    kinds = [threat(t).kind for t in threats]
    grants = {kind.grants for kind in kinds}
    passed_on = TRANSFERRED[tier] if any(kind.needs for kind in kinds) else ()
    labels = BY_LABELS[tier] if grants & {Access.LABEL, Access.SCORES} else ()
    scores = (FITTED[tier],) if Access.SCORES in grants else ()
    members = tuple(SCORES_ONLY.get(a, a) for a in TIERS[tier]) if Access.SCORES in grants else TIERS[tier]
    return members + passed_on + scores + labels + (("noise",) if Access.NONE in grants else ())
