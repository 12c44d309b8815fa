"""Verdicts of a run folder: asked of its rows and findings, so that it can be judged anew against another baseline or claim."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from sparring.core.columns import Json
from sparring.core.errors import SparringError
from sparring.core.registry import suggest
from sparring.core.spec import ball
from sparring.evaluation.records.claim import Claim
from sparring.evaluation.records.files import read_run
from sparring.evaluation.records.place import Place
from sparring.evaluation.results.closed import UNDEFENDED, ClosedResult, strongest
from sparring.evaluation.results.load import Evaluation, evaluation_of, whole_rows
from sparring.evaluation.results.table import RowTable
from sparring.evaluation.results.verdicts import Verdict
from sparring.verdict.command import Command
from sparring.verdict.gather import evidence_of
from sparring.verdict.rules import verdict_of


def load_evaluation(
    folder: str | Place, baseline: str | None = None, claims: Sequence[str] | None = None
) -> Evaluation:
    """An ``Evaluation`` from a run folder, with its verdicts. baseline: the defense that each number is compared with; claims: texts such as
    "adaptive,linf 8/255 = 0.45"; None: as the run was asked. An incomplete run has no verdict.

    Raises SparringError for a folder that is none, a baseline that was not evaluated, and a claim about no number of the run.
    """
    record = read_run(folder)
    rows, missing, damaged = whole_rows(folder, record)
    evaluation = evaluation_of(folder, record, rows, missing, damaged)
    passed = {**record.get("passed", {})}
    passed |= {"baseline": baseline} if baseline is not None else {}
    passed |= {"claims": list(claims)} if claims is not None else {}
    wanted = [Claim.of(text) for text in passed.get("claims", ())]
    defenses = record["identity"]["defenses"]
    if "checksum" not in record:  # of an earlier edition, or edited: nobody can tell
        warnings.warn(
            f"{folder}: its files hold no checksums, so nobody can tell whether they were edited: no verdict",
            stacklevel=2,
        )
        return evaluation
    if evaluation.missing:
        refuse_unasked(passed.get("baseline", ""), (), defenses, ())
        return evaluation
    refuse_unasked(passed.get("baseline", ""), wanted, defenses, [(r.threat, r.norm, r.eps) for r in evaluation.closed])
    return replace(evaluation, verdicts=verdicts_of(evaluation, rows, record, passed))


def verdicts_of(evaluation: Evaluation, rows: RowTable, record: Json, passed: Json) -> tuple[Verdict, ...]:
    """One per defense and ball, about the strongest threat that was run, and one per number that a claim is about; defenses before the
    undefended model. ``passed``: what the run was asked, with the baseline and the claims to judge by.
    """
    claims = [Claim.of(text) for text in passed.get("claims", ())]
    chosen = strongest(evaluation.closed)
    alone = all(r.defense == UNDEFENDED for r in chosen)

    def about(result: ClosedResult) -> list[Claim]:
        """What is claimed of a number; a claim is about the defenses where there are some."""
        mine = alone or result.defense != UNDEFENDED
        return [c for c in claims if mine and c.about(result.threat, result.norm, result.eps)]

    chosen += [r for r in evaluation.closed if r not in chosen and about(r)]
    # the number of classes stands in every record but the oldest
    classes = int(record.get("classes") or rows["y"].max() + 1)
    return tuple(
        verdict_of(
            evidence_of(
                rows,
                evaluation.findings,
                result,
                tier=evaluation.tier,
                classes=max(2, classes),
                baseline=passed.get("baseline", ""),
                claim=max((c.value for c in about(result)), default=math.nan),
                asked=Command({**passed, "claims": [str(c) for c in about(result)]}),
            )
        )
        for result in sorted(chosen, key=lambda r: r.defense == UNDEFENDED)
    )


def refuse_unasked(
    baseline: str, claims: Iterable[Claim], defenses: Collection[str], numbers: Collection[tuple[str, str, float]]
) -> None:
    """Raise SparringError for a baseline that is no system of the evaluation, and for a claim about none of its ``numbers``: (threat, norm, eps)."""
    if baseline and baseline not in defenses:
        raise SparringError(f"baseline {baseline!r} is not evaluated{suggest(baseline, defenses)}")
    said: dict[tuple[str, str, float], Claim] = {}
    for claim in claims:
        if (other := said.setdefault((claim.threat, claim.norm, claim.eps), claim)) != claim:
            raise SparringError(f"claims {str(other)!r} and {str(claim)!r} are about the same number; give one")
        if not any(claim.about(*number) for number in numbers):
            known = sorted({f"{threat},{ball(norm, eps)}" for threat, norm, eps in numbers})
            raise SparringError(
                f"claim {str(claim)!r} is about no number of this evaluation; there are {'; '.join(known)}"
            )
