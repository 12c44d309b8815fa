"""Release controls (PROTOCOL 3.5, B2): systems that are known to be broken end BROKEN, whoever declares what; they test the library, not a user's model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
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


class Bait(nn.Module):
    """The shipped network behind an ACE of lambda .99 that needs no training: a pixel of four is kept and the others are drawn between them."""

    def __init__(self) -> None:
        super().__init__()
        self.network = sparring.load_model("mnist_cnn")
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        between = torch.tensor([0.5, 1.0, 0.5])
        kept, kernel = x[:, :, ::2, ::2], (between[:, None] * between)[None, None]
        drawn = nn.functional.conv_transpose2d(kept, kernel, stride=2, padding=1, output_padding=1)
        return self.network(0.01 * x + 0.99 * drawn)


def without_gradient(x: Tensor) -> Tensor:
    """Less contrast, apart from the graph."""
    return 0.9 * x.detach() + 0.05


BROKEN: dict[str, tuple[Callable[[], nn.Module | str], Sequence[DefenseLike]]] = {
    "undefended": (lambda: "mnist_cnn", ()),
    "logits x 10,000": (Scaled, ()),
    "a decoy's slopes": (Decoy, ()),
    "quantizer of 4 bits": (lambda: "mnist_cnn", ("cd:bits=4",)),
    "a stage without gradient": (lambda: "mnist_cnn", (without_gradient,)),
    "a bait, dodged by a random shift": (Bait, ("shift:side=random",)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_known_broken_systems_end_broken(name):
    model, defenses = BROKEN[name]
    attack = "pgd:steps=10,eps=0.25" if "random" in name else "cascade:eps=0.25"  # through each draw of the shift
    result = sparring.evaluate(model(), "mnist5k:split=test,limit=24", list(defenses), ["adaptive"], [attack])
    assert {v.word for v in result.verdicts} == {"BROKEN"}
    assert len(result.verdicts) == len(defenses) + 1
