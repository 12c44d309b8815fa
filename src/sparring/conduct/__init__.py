"""``evaluate``: plan, run on one process or many, ask the checks, give the verdict."""

from sparring.conduct.evaluation import evaluate

__all__ = ["evaluate"]
