"""sparring: put a defended image classifier in the ring.

import sparring
result = sparring.evaluate("lite0", "imagenet20", ["cd:bits=4"], ["oblivious", "adaptive"], ["pgd:eps=4/255"])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sparring.version import __version__

if TYPE_CHECKING:
    from sparring.analysis.base import analyze
    from sparring.analysis.panel import Panel
    from sparring.attacks.attack import Attack, attack
    from sparring.conduct import evaluate
    from sparring.core.errors import SparringError
    from sparring.data.images import ImageSet
    from sparring.data.sources import load_data
    from sparring.defenses.base import defense
    from sparring.deploy.adapters import as_art, as_foolbox, as_torchattacks
    from sparring.deploy.export import export
    from sparring.deploy.module import defend
    from sparring.evaluation.plan.spec import EvaluationSpec
    from sparring.evaluation.results.load import Evaluation
    from sparring.models.load import load_model
    from sparring.report.page import write_report
    from sparring.subject import Subject
    from sparring.training.base import train
    from sparring.verdict.read import load_evaluation

__all__ = [
    "Attack",
    "Evaluation",
    "EvaluationSpec",
    "ImageSet",
    "Panel",
    "SparringError",
    "Subject",
    "__version__",
    "analyze",
    "as_art",
    "as_foolbox",
    "as_torchattacks",
    "attack",
    "defend",
    "defense",
    "evaluate",
    "export",
    "load_data",
    "load_evaluation",
    "load_model",
    "train",
    "write_report",
]

# where each name lives; imported when it is first asked for, so that ``sparring --help`` does not wait for torch
_HOME = {
    "Attack": "attacks.attack",
    "Evaluation": "evaluation.results.load",
    "EvaluationSpec": "evaluation.plan.spec",
    "ImageSet": "data.images",
    "Panel": "analysis.panel",
    "SparringError": "core.errors",
    "Subject": "subject",
    "analyze": "analysis.base",
    "as_art": "deploy.adapters",
    "as_foolbox": "deploy.adapters",
    "as_torchattacks": "deploy.adapters",
    "attack": "attacks.attack",
    "defend": "deploy.module",
    "defense": "defenses.base",
    "evaluate": "conduct",
    "export": "deploy.export",
    "load_data": "data.sources",
    "load_evaluation": "verdict.read",
    "load_model": "models.load",
    "train": "training.base",
    "write_report": "report.page",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sparring' has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(f"sparring.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
