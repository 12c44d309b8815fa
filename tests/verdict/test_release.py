"""Release controls (PROTOCOL 3.5, B2): systems that are known to be broken end BROKEN, whoever declares what; they test the library, not a user's model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from torch import Tensor, nn

import sparring
from sparring.defenses.base import DefenseLike


class Scaled(nn.Module):
    """The shipped network with logits so large that softmax is saturated."""

    def __init__(self) -> None:
        super().__init__()
        self.network = sparring.load_model("mnist_cnn")
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return 1e4 * self.network(x)


class Decoy(nn.Module):
    """Decides by the shipped network, in a table of labels, and shows the slopes of one that was never trained."""

    def __init__(self) -> None:
        super().__init__()
        self.network = sparring.load_model("mnist_cnn")
        self.shown = sparring.load_model("small_cnn:weights=random")
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        label = self.network(x).argmax(1)
        return 10.0 * nn.functional.one_hot(label, 10) + self.shown(x)


def without_gradient(x: Tensor) -> Tensor:
    """Less contrast, apart from the graph."""
    return 0.9 * x.detach() + 0.05


BROKEN: dict[str, tuple[Callable[[], nn.Module | str], Sequence[DefenseLike]]] = {
    "undefended": (lambda: "mnist_cnn", ()),
    "logits x 10,000": (Scaled, ()),
    "a decoy's slopes": (Decoy, ()),
    "quantizer of 4 bits": (lambda: "mnist_cnn", ("cd:bits=4",)),
    "a stage without gradient": (lambda: "mnist_cnn", (without_gradient,)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_known_broken_systems_end_broken(name):
    model, defenses = BROKEN[name]
    result = sparring.evaluate(
        model(), "mnist5k:split=test,limit=24", list(defenses), ["adaptive"], ["cascade:eps=0.25"]
    )
    assert {v.word for v in result.verdicts} == {"BROKEN"}
    assert len(result.verdicts) == len(defenses) + 1
