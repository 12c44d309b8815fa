"""What was evaluated, its headlines, and what speaks against them."""

from __future__ import annotations

from sparring.evaluation.records.finding import Finding
from sparring.report.content import Evaluated, Item, Section, Text, section

UNDERMINES = {
    "J": "This undermines the numbers themselves.",
    "A": "This undermines the attacks: real accuracy may be lower.",
}


@section("summary", 10)
def summary(run: Evaluated) -> Section:
    """One sentence per defense and ball; before it what is missing, after it every check that failed."""
    identity, evaluation = run.record["identity"], run.evaluation
    items: list[Item] = [
        Text(
            f"{identity['model']} on {run.record.get('data_name', 'images')}, {run.record['images']} images, tier {identity['tier']}, seed {identity['seed']}. "
            "An attack can only prove an upper bound: no number here says that a model is robust.",
            "soft",
        )
    ]
    if evaluation.made_by:
        items.append(Text(f"These rows were {evaluation.made_by}.", "alarm"))
    if evaluation.missing:
        items.append(
            Text(
                f"Incomplete. {evaluation.missing}. The numbers below are over those images alone; no headline stands.",
                "alarm",
            )
        )
    if evaluation.damaged:
        items.append(Text(f"Damaged files, not counted: {'; '.join(evaluation.damaged)}.", "alarm"))
    items += [Text(line) for line in evaluation.headlines]
    items += [Text(_said(f), "alarm") for f in evaluation.findings if not f.ok and f.severity != "INFO"]
    return Section("", tuple(items))


def _said(f: Finding) -> str:
    subject = f" on {f.subject}" if f.subject else ""
    return f"{f.check} {f.severity}{subject}: {f.message}. {UNDERMINES[f.scope]}"
