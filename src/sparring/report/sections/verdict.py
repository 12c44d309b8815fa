"""The verdicts, before everything else."""

from __future__ import annotations

from sparring.evaluation.results.verdicts import Verdict, Word
from sparring.report.content import Entry, Evaluated, Item, Section, Table, Text, Tone, row, section

TONES: dict[Word, Tone] = {"HOLDS": "headline", "NOT_BROKEN_YET": "headline"}  # all others are alarms


@section("verdict", 5)
def verdict(run: Evaluated) -> Section:
    """One word a number, with how much of it is trusted, the evidence as yes or no, and what to do next."""
    if run.evaluation.missing:
        return Section("Verdict", (Text("No verdict: the run is incomplete.", "alarm"),))
    items = [item for v in run.evaluation.verdicts for item in _said(v)]
    return Section("Verdict", tuple(items) or (Text("No verdict: nothing was attacked.", "soft"),))


def _said(v: Verdict) -> list[Item]:
    rows = [row(Entry("yes" if e.ok else "no", "good" if e.ok else "bad"), e.name, e.text) for e in v.evidence]
    evidence = Table(f"What it needs to be said to hold: {v.line}", ("", "evidence", "value"), tuple(rows))
    return [Text(v.line, TONES.get(v.word, "alarm")), Text(v.sentence), evidence, Text(f"next: {v.next}", "soft")]
