"""The engine: one loop through any method, with continuous batching of jobs."""

from sparring.attacks.engine.loop import cost_per_image, run
from sparring.attacks.engine.outcome import Batch, Outcome, RunOptions, Stop

__all__ = ["Batch", "Outcome", "RunOptions", "Stop", "cost_per_image", "run"]
