"""A run folder as an evaluation with its verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sparring.evaluation.records.files import read_run
from sparring.evaluation.results.load import Evaluation, read_evaluation, whole_rows
from sparring.verdict.evidence import Claim
from sparring.verdict.gather import judged


def load_evaluation(folder: str | Path, baseline: str | None = None, claims: Sequence[str] | None = None) -> Evaluation:
    """An ``Evaluation`` from a run folder, with a verdict on each of its numbers: all is computed anew from rows and findings.

    baseline: the defense that others are compared with ("none": the undefended model); claims: ``adaptive,linf 8/255 = 0.45``. Default: those
    that the run was asked with. Raises SparringError if run.json is missing or damaged, there are no rows, or a claim is none.
    """
    evaluation, record = read_evaluation(folder), read_run(folder)
    passed = record.get("passed", {})
    named = passed.get("baseline", "") if baseline is None else baseline
    made = [Claim.of(c) for c in (passed.get("claims", ()) if claims is None else claims)]
    if evaluation.missing or not evaluation.closed:
        return evaluation
    rows = whole_rows(folder, record)[0]
    classes = int(record.get("classes") or 1 + int(max(rows["y"].max(), rows["label"].max())))
    return replace(evaluation, verdicts=judged(evaluation, rows, classes, named, made))
