"""``robustbench:NAME``: a model of RobustBench, from an environment that has it, with what its leaderboard says beside what is measured here."""

from __future__ import annotations

import importlib
import json
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple

from torch import nn

from sparring.core.errors import SparringError, one_line
from sparring.core.registry import MODELS, suggest
from sparring.models.classifier import Classifier

Dataset = Literal["cifar10", "cifar100", "imagenet"]
Threat = Literal["Linf", "L2"]


class Published(NamedTuple):
    """A line of the leaderboard, in percent over 10,000 (ImageNet: 5,000) images: clean, left by AutoAttack, left by the best attack that is known."""

    dataset: str
    threat: str
    name: str
    eps: str
    clean: float
    autoattack: float
    best_known: float


@MODELS("robustbench")
def robustbench_model(name: str, dataset: Dataset = "cifar10", threat: Threat = "Linf") -> Classifier:
    """A model of RobustBench by its name there. RobustBench must be installed (it is no dependency: it pins other packages); its own code downloads and reads the
    weights, which may be pickles. What its leaderboard says is told beside the numbers.
    """
    text = f"robustbench:{name},dataset={dataset},threat={threat}"
    known = {p.name: p for p in published()[1] if (p.dataset, p.threat) == (dataset, threat)}
    try:
        load = importlib.import_module("robustbench.utils").load_model
    except ImportError as error:
        raise SparringError(
            f"{text}: RobustBench is not installed here ({error}); its own environment is best: pip install git+https://github.com/RobustBench/robustbench"
        ) from None
    try:
        network = load(model_name=name, dataset=dataset, threat_model=threat)
    except Exception as error:  # whatever its loaders say
        raise SparringError(
            f"{text} cannot be loaded ({one_line(error)}){suggest(name, known) if name not in known else ''}"
        ) from None
    if not isinstance(network, nn.Module):
        raise SparringError(f"{text} is no network but {type(network).__name__}")
    classifier = Classifier(network.eval(), name=text)
    classifier.told = (
        told(known[name]) if name in known else f"RobustBench's leaderboard as of {published()[0]} has no {name}"
    )
    return classifier


def told(line: Published) -> str:
    """What a line says, in words."""
    better = f", the best attack known {line.best_known:g} %" if line.best_known < line.autoattack else ""
    ball = f"{line.threat.lower()} {line.eps}"
    return f"RobustBench says clean {line.clean:g} %, AutoAttack leaves {line.autoattack:g} %{better} ({ball}; {published()[0]})"


@cache
def published() -> tuple[str, tuple[Published, ...]]:
    """Where the leaderboard was read, and its lines."""
    content = json.loads(files("sparring.models.shipped").joinpath("robustbench.json").read_text())
    return content["source"], tuple(Published(*row) for row in content["rows"])
