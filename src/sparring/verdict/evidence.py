"""``Evidence``: all that a verdict on one number rests on; plain values, so that every rule can be tried on made-up ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from sparring.evaluation.records.finding import Finding
from sparring.verdict.command import Command

LEAST = 0.05  # a gain below this is none


def floor(classes: int) -> float:
    """The robust accuracy up to which nothing is left: 5 %, or chance where that is more."""
    return max(0.05, 1 / classes)


def twice(share: float) -> float:
    """Twice a share; half way from it to all where that is less, as it is for the chance of two classes."""
    return min(2 * share, (1 + share) / 2)


def is_broken(robust: float, upper: float, classes: int) -> bool:
    """Did the attacks leave nothing, and is that sure enough?"""
    return robust <= floor(classes) and upper <= twice(floor(classes))


@dataclass(frozen=True)
class Evidence:
    """About the number of one (defense, threat, ball): shares in [0,1] over n images, nan: not there.

    robust: the closed pool; lower, upper: its one-sided 95 % bounds. lattice: the same on 8-bit images. undefended: the same without the
    defense. baseline: the name of the system that it is compared with, "" where none was named; baseline_robust its number; gain = robust -
    baseline_robust, paired, with one-sided 95 % bounds. claim: the value that somebody says it has. fatal: findings that leave no number.
    open: findings that failed and were not answered by a break. idle: names of stages that do nothing. culprit: what is said of the stage that
    stops gradients, or "". suspect: share of images that count as robust and have a reason against them (``suspects``: image -> ids of checks).
    kinds: kinds of attacks that ran in the pool. labels_only: did an attack run that sees labels alone. undefended_broken: did the same
    suite break a system without the defense (there or in a larger ball). converged: did more budget change nothing (None: not tried).
    adaptive: does the threat's attacker know the defense. asked: what was evaluated, as a command.
    """

    defense: str
    threat: str
    norm: str
    eps: float
    n: int
    classes: int
    tier: str
    clean: float
    robust: float
    lower: float
    upper: float
    lattice: float = math.nan
    undefended: float = math.nan
    random: bool = False
    adaptive: bool = True
    baseline: str = ""
    baseline_robust: float = math.nan
    gain: float = math.nan
    gain_lower: float = math.nan
    gain_upper: float = math.nan
    claim: float = math.nan
    fatal: tuple[Finding, ...] = ()
    open: tuple[Finding, ...] = ()
    idle: tuple[str, ...] = ()
    culprit: str = ""
    suspect: float = 0.0
    suspects: dict[str, tuple[str, ...]] = field(default_factory=dict)
    kinds: frozenset[str] = frozenset()
    labels_only: bool = False
    undefended_broken: bool = False
    converged: bool | None = None
    asked: Command = field(default_factory=Command)

    @property
    def trusted(self) -> float:
        """Share of images that count as robust without a reason against them; none where what is left was not attacked again."""
        return self.robust - self.suspect if self.followed else 0.0

    @property
    def followed(self) -> bool:
        """Was what is left attacked again where checks ask for it?"""
        return not self.asked.passed.get("no_follow_up", False)

    @property
    def believed_lower(self) -> float:
        """The lower bound, less what the 8-bit images lose on top."""
        return self.lower - max(0.0, self.robust - self.lattice) if not math.isnan(self.lattice) else self.lower
