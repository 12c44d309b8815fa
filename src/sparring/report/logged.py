"""An evaluation in an experiment tracker: clean accuracy, robust accuracy at most, verdict and configuration."""

from __future__ import annotations

from sparring.core.columns import Json
from sparring.core.errors import SparringError
from sparring.core.spec import ball
from sparring.core.trackers import Log
from sparring.evaluation.records.files import read_run
from sparring.evaluation.results.load import Evaluation


def log_evaluation(evaluation: Evaluation, log: Log, asked: Json | None = None, run: str = "evaluation") -> None:
    """Log every number to report and every cell as one run. ``asked``: what was evaluated, the run's configuration; None: as the run's folder says.
    Of "DEFENSE / THREAT / BALL" the clean accuracy, the robust accuracy at most, and the verdict ("none" where it has none); of "DEFENSE / THREAT
    / ATTACK" the accuracy against its points. Shares in [0,1].

    Raises SparringError for an incomplete evaluation, whose numbers are of some of the images only.
    """
    if evaluation.missing or evaluation.plan is not None:
        raise SparringError(
            f"nothing is logged of an evaluation that is incomplete ({evaluation.missing or 'a dry run'})"
        )
    config: Json = asked or ({} if evaluation.folder is None else read_run(evaluation.folder)["passed"])
    values: dict[str, float | str] = {}
    words: dict[str, str] = {}
    for number in evaluation.closed:
        name = f"{number.defense} / {number.threat} / {ball(number.norm, number.eps)}"
        words[f"{name} / verdict"] = evaluation.word_on(number) or "none"
        values[f"{name} / clean_accuracy"] = number.clean_accuracy
        values[f"{name} / robust_at_most"] = number.robust_accuracy
    for cell in evaluation.cells:
        values[f"{cell.defense} / {cell.threat} / {cell.attack} / robust_accuracy"] = cell.robust_accuracy
    tracker = log.begin(run, {**config, "tier": evaluation.tier, **words})
    tracker.log(log.values({**values, **words}), step=0)
    tracker.finish()
