"""Networks that do not return logits (B,K) alone: a tuple, a table, a record with logits in it, or maps (B,K,1,1)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from torch import Tensor, nn

from sparring.core.errors import SparringError
from sparring.core.network import tried
from sparring.models.classifier import Classifier

LOGITS = "logits"  # what a record calls them where it calls them anything


class Chosen(nn.Module):
    """A network whose logits are one part of its answer: ``output`` is a key, a field's name or a position; "" the answer itself. Maps (B,K,1,1)
    are flattened.
    """

    def __init__(self, network: nn.Module, output: str = "") -> None:
        super().__init__()
        self.network, self.output = network, output
        self.training = network.training

    def extra_repr(self) -> str:
        return f"output={self.output!r}"

    def forward(self, x: Tensor) -> object:
        answer = self.network(x)
        if self.output:
            parts = members(answer)
            if isinstance(answer, tuple):  # of a named one positions will do, too
                parts = {**{str(position): part for position, part in enumerate(answer)}, **parts}
            if self.output not in parts:
                raise SparringError(f"the model's answer has no output {self.output!r}; it has {', '.join(parts)}")
            answer = parts[self.output]
        if isinstance(answer, Tensor) and answer.dim() == 4 and answer.shape[2:] == (1, 1):
            return answer.flatten(1)
        return answer


def members(answer: object) -> dict[str, object]:
    """The parts of an answer by name: keys, the fields of an object or a named tuple, or positions; of a tensor there are none."""
    if isinstance(answer, Mapping):
        return {str(key): value for key, value in answer.items()}
    if isinstance(answer, tuple | list):
        if names := vars(type(answer)).get("_fields"):  # what Python calls the fields of a named tuple
            return dict(zip(names, answer, strict=True))
        return {str(position): value for position, value in enumerate(answer)}
    if isinstance(answer, Tensor):
        return {}
    with suppress(TypeError):  # of what has no fields at all
        return dict(vars(answer))
    return {}


class Choice(NamedTuple):
    """Which part of an answer is taken for logits, and a sentence that says so ("" where the answer is logits)."""

    output: str
    says: str


def scores(part: object, count: int) -> bool:
    """Could this be logits of so many images?"""
    if not isinstance(part, Tensor) or not part.is_floating_point() or part.dim() not in (2, 4):
        return False
    return len(part) == count and part.shape[1] >= 2 and set(part.shape[2:]) <= {1}


def choose(network: nn.Module, example: Tensor, name: str) -> Choice:
    """What of the answer on ``example`` (B,C,H,W) is logits: the whole, what is called so, or the only part that can be. Raises SparringError where
    there are several: an auxiliary head that is attacked in place of what is deployed would look robust.
    """
    answer = tried(network, example, name)
    if isinstance(answer, Tensor):
        flat = answer.dim() == 4 and scores(answer, len(example))
        return Choice("", f"maps {tuple(answer.shape[1:])} flattened to logits" if flat else "")
    parts = members(answer)
    fitting = [key for key, part in parts.items() if scores(part, len(example))]
    if LOGITS in fitting or len(fitting) == 1:
        taken = LOGITS if LOGITS in fitting else fitting[0]
        others = ", ".join(key for key in parts if key != taken)
        return Choice(
            taken, f"output {taken!r} of the model's answer is taken for logits" + (f", not {others}" if others else "")
        )
    if not fitting:
        raise SparringError(
            f"{name} must return logits (B,K), or a tuple or table that holds them; it returns {type(answer).__name__} with {', '.join(parts) or 'no parts'}"
        )
    shapes = ", ".join(f"{key} {tuple(part.shape)}" for key, part in parts.items() if isinstance(part, Tensor))
    raise SparringError(
        f"{name} returns several outputs that could be its logits ({shapes}); pick one with output=NAME"
    )


def with_logits(classifier: Classifier, example: Tensor) -> tuple[Classifier, str]:
    """A classifier that returns logits and nothing else, and a sentence that says which part of its answer they are, "" where that is all of it."""
    choice = choose(classifier, example, classifier.name)
    if not choice.says:
        return classifier, ""
    network, name = Chosen(classifier, choice.output), classifier.name
    channels, size, fitting = classifier.channels, classifier.size, classifier.fitting
    return Classifier(network, name=name, channels=channels, size=size, fitting=fitting), choice.says
