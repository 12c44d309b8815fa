"""Where the numbers come from."""

from __future__ import annotations

import json

from sparring.report.content import Evaluated, Fold, Section, Text, section

DECIDES = ("identity", "environment", "attacks_resolved", "seats", "skipped", "worst_case_cost_per_image")


@section("provenance", 80)
def provenance(run: Evaluated) -> Section:
    """What was prepared, hashes, and everything that decides the numbers."""
    identity = run.record["identity"]
    notes = " ".join(f"Network of {defense}: {note}." for defense, note in run.evaluation.prepared.items())
    hashes = f"Weights sha256 {identity['weights'][:16]}, data sha256 {identity['data'][:16]}."
    how = run.record.get("running", {})
    if how.get("shards"):
        hashes += f" Made by {how['shards']} shards."
    elif how.get("engine"):
        said = [
            ", ".join(f"{count} on {name}" for name, count in how.get(key, {}).items()) for key in ("nodes", "devices")
        ]
        hashes += f" Made on {how['engine']} by {how['workers']} workers ({'; '.join(filter(None, said))}), {how.get('retries', 0)} blocks tried again."
    elif how.get("workers", 1) > 1:
        hashes += f" Made by {how['workers']} workers of {how['threads']} thread(s)."
    if reused := how.get("reused"):
        hashes += f" {reused['blocks']} blocks of rows were taken over from the run {reused['of']}."
    content = json.dumps({k: run.record.get(k) for k in DECIDES}, indent=2)
    return Section(
        "Provenance", (Text(f"{notes} {hashes}", "soft"), Fold("Everything that decides these numbers", content))
    )
