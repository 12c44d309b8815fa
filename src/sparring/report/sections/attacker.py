"""What the attacker was told of each stage."""

from __future__ import annotations

from sparring.report.content import Evaluated, Section, Table, row, section


@section("attacker", 70)
def attacker(run: Evaluated) -> Section:
    """The backwards that each stage declares: what an adaptive attack may differentiate in its place."""
    rows = [
        row(name, s["stage"], ", ".join(s["variants"]), "yes" if s["random"] else "no", s["why"])
        for name, stages in run.record.get("surrogates", {}).items()
        for s in stages
    ]
    table = Table("Declared surrogates", ("defense", "stage", "backwards tried", "random", "why"), tuple(rows))
    return Section("What the attacker was told", (table,))
