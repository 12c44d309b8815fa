"""``Evidence``: all that a verdict on one number rests on; plain values, so that every rule can be tried on made-up ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from sparring.evaluation.records.finding import Finding


@dataclass(frozen=True)
class Evidence:
    """About the number of one (defense, threat, ball): shares in [0,1] over n images, nan: not there.

    robust: the closed pool; lower, upper: its one-sided 95 % bounds. lattice: the same on 8-bit images. baseline: the name of the system
    that it is compared with, "" where none was named; baseline_robust its number; gain = robust - baseline_robust, paired, with one-sided
    95 % bounds. claim: the value that somebody says it has. fatal, open: findings of scope J that are fatal, and of scope A that failed and
    were not answered by a break. idle: names of stages that do nothing. suspect: share of images that count as robust and have a reason
    against them (``suspects``: image -> ids of checks). kinds: kinds of attacks that ran in the pool. labels_only: did an attack run that sees labels alone.
    undefended_broken: did the same suite break a system without the defense (or, where there is none, this one in a large ball).
    converged: did more budget change nothing (None: not tried).
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
    suspect: float = 0.0
    suspects: dict[str, tuple[str, ...]] = field(default_factory=dict)
    kinds: frozenset[str] = frozenset()
    labels_only: bool = False
    undefended_broken: bool = False
    converged: bool | None = None

    @property
    def trusted(self) -> float:
        """Share of images that count as robust without a reason against them."""
        return self.robust - self.suspect
