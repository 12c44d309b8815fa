"""The verdicts, before everything else."""

from __future__ import annotations

import math

from sparring.core.spec import ball
from sparring.evaluation.results.verdicts import Verdict, Word
from sparring.report.content import Card, Entry, Evaluated, Section, Table, Text, Tone, row, section

TONES: dict[Word, Tone] = {"HOLDS": "headline", "NOT_BROKEN_YET": "headline"}  # all others are alarms


@section("verdict", 5)
def verdict(run: Evaluated) -> Section:
    """A card for each number: the word, the number with its bounds, how much of it is trusted, why, and what to do next."""
    if run.evaluation.missing:
        return Section("Verdict", (Text("No verdict: the run is incomplete.", "alarm"),))
    cards = tuple(map(_card, run.evaluation.verdicts))
    return Section("Verdict", cards or (Text("No verdict: nothing was attacked.", "soft"),))


def _card(v: Verdict) -> Card:
    evidence = [row(e.name, Entry("yes" if e.ok else "no", "good" if e.ok else "bad"), e.text) for e in v.evidence]
    numberless = math.isnan(v.robust_accuracy)
    return Card(
        line=v.line,
        word=v.word.replace("_", " "),
        about=about(v),
        tone=TONES.get(v.word, "alarm"),
        number=None if numberless else (v.robust_accuracy, v.lower, v.upper),
        parts=None if numberless else (v.trusted, v.suspect),
        n=f"n={v.n}{', estimated on fresh draws' if v.random else ''}",
        sentence=v.sentence,
        next=v.next,
        evidence=Table("What the number needs to be said to hold", ("evidence", "met", "value"), tuple(evidence)),
    )


def about(v: Verdict) -> str:
    """What a verdict is about: system, threat and ball."""
    return " · ".join(filter(None, (v.defense or "this evaluation", v.threat, v.threat and ball(v.norm, v.eps))))
