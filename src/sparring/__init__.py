"""sparring: put a defended image classifier in the ring.

import sparring
result = sparring.evaluate("lite0", "imagenet20", ["cd:bits=4"], ["oblivious", "adaptive"], ["pgd:eps=4/255"])
"""

from sparring.attacks.attack import Attack, attack
from sparring.core.errors import SparringError
from sparring.data.images import ImageSet
from sparring.data.sources import load_data
from sparring.defenses.base import defense
from sparring.evaluation.run import Evaluation, evaluate, load_evaluation
from sparring.models.load import load_model

__version__ = "0.1.0"
__all__ = [
    "Attack",
    "Evaluation",
    "ImageSet",
    "SparringError",
    "attack",
    "defense",
    "evaluate",
    "load_data",
    "load_evaluation",
    "load_model",
]
