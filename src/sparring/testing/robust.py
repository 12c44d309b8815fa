"""``assert_robust``: a classifier's robustness as an assertion of a test suite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from sparring.conduct import evaluate
from sparring.core.errors import SparringError
from sparring.data.sources import Images
from sparring.evaluation.results.load import Evaluation
from sparring.evaluation.results.verdicts import Word
from sparring.verdict.gate import Gate


def assert_robust(
    model: str | nn.Module,
    data: Images,
    *,
    at_least: float | None = None,
    not_verdicts: Sequence[Word] = (),
    **fields: Any,
) -> Evaluation:
    """Evaluate, and fail unless every number with a verdict has the share ``at_least`` in [0,1] of its images *trusted* to be right, and none of the verdicts
    ``not_verdicts`` (such as "BROKEN"). A number that cannot be believed fails always. ``fields``: as ``sparring.evaluate`` takes them (defenses, threats,
    attacks, eps, tier, limit, out, ...).

    Raises AssertionError with the verdicts, SparringError for bad input.
    """
    if at_least is not None and not 0 <= at_least <= 1:
        raise SparringError(f"assert_robust: at_least={at_least} is outside [0,1]; write 0.4 for 40 %")
    if at_least is None and not not_verdicts:
        raise SparringError("assert_robust: nothing is asked; give at_least=0.4, or not_verdicts=['BROKEN', 'REFUTED']")
    named = Gate.of(None, not_verdicts)
    gate = Gate(None if at_least is None else 100 * at_least, named.words if named else ())
    evaluation = evaluate(model, data, **fields)
    failures = gate.failures(evaluation)
    if failures:
        said = "\n".join(f"{name}: {fault}" for name, fault in failures.items())
        raise AssertionError(f"{said}\n{evaluation}")
    return evaluation
