"""The verdict: one word on each number, what it rests on, and what to do next."""

from __future__ import annotations

from sparring.report.content import Evaluated, Fold, Item, Section, Text, section


@section("verdict", 5)
def verdict(run: Evaluated) -> Section | None:
    """A headline a number; the evidence unfolds."""
    items: list[Item] = []
    for said in run.evaluation.verdicts:
        items.append(Text(said.headline, "headline"))
        items.append(Fold("evidence", "\n".join(said.details)))
    return Section("Verdict", tuple(items)) if items else None
