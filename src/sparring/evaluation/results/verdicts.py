"""``Verdict``: the one word on a number, with what it rests on. The rules that give it are in the room ``verdict``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from sparring.core.columns import Json
from sparring.core.shown import shown
from sparring.core.spec import ball
from sparring.evaluation.results.table import plain

Word = Literal["BROKEN", "REFUTED", "ADDS_NOTHING", "HOLDS", "NOT_BROKEN_YET", "ATTACK_NOT_TRUSTED", "INVALID"]


@dataclass(frozen=True)
class Line:
    """One thing that a number needs before it is believed: does it have it, and the value that says so."""

    name: str
    ok: bool
    text: str


@dataclass(frozen=True)
class Verdict:
    """On the number of one (defense, threat, ball); "" and nan where it is about no number at all. robust_accuracy = trusted + suspect, shares in
    [0,1]; lower, upper: one-sided 95 % bounds. rule: the number of the rule that gave the word. reasons: ids of the checks it rests on.
    next: a command that can be pasted. suspects: image -> ids of the checks that speak against its result. followed: was what is left attacked
    again where checks ask for it.
    """

    word: Word
    rule: int
    sentence: str
    next: str
    reasons: tuple[str, ...] = ()
    evidence: tuple[Line, ...] = ()
    defense: str = ""
    threat: str = ""
    norm: str = ""
    eps: float = math.nan
    robust_accuracy: float = math.nan
    lower: float = math.nan
    upper: float = math.nan
    n: int = 0
    trusted: float = math.nan
    suspect: float = math.nan
    random: bool = False
    suspects: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    followed: bool = True

    def __repr__(self) -> str:
        return shown(self, self.line)

    @property
    def line(self) -> str:
        """The first line of everything: the word, the number with its bounds, how much of it is trusted."""
        about = f" under {self.threat}, {ball(self.norm, self.eps)}" if self.threat else ""
        start = f"{self.word.replace('_', ' ')}: {self.defense or 'this evaluation'}{about}:"
        if math.isnan(self.robust_accuracy):
            return f"{start} no number"
        drawn = ", estimated on fresh draws" if self.random else ""
        low, high, trusted, suspect, number = (
            f"{100 * share:.1f}" for share in (self.lower, self.upper, self.trusted, self.suspect, self.robust_accuracy)
        )
        bounds = f"(n={self.n}, one-sided 95 % bounds {low} and {high} %{drawn})"
        if math.isinf(self.eps):  # whatever is left, a larger step might have broken it
            return f"{start} an attack without a budget leaves {number} % right {bounds}, which is no robust accuracy"
        return f"{start} robust accuracy at most {number} % {bounds} = {trusted} trusted + {suspect} suspect points"

    def json(self) -> Json:
        """Plain values; the word is called ``verdict``."""
        values = {k: plain(v) for k, v in asdict(self).items() if k != "word"}
        about = {k: values.pop(k) for k in ("defense", "threat", "norm", "eps")}
        return {**about, "verdict": self.word, **values}
