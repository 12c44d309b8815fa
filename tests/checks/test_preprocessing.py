"""P8's look at the images: which change of them a network would answer far better, and silence where none is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparring.checks.preprocessing import STATISTICS, better_input

COLORS = torch.tensor([[level, 0.4, 0.2] for level in (0.35, 0.5, 0.65, 0.8)] + [[0.2, 0.4, 0.5], [0.2, 0.4, 0.7]])


def by_color(x: Tensor) -> Tensor:
    """The nearest of six colors, four shades of red and two of blue."""
    return -torch.cdist(x.mean((2, 3)), COLORS)


def colored(count: int = 60) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(count) % len(COLORS)
    return (COLORS[y][:, :, None, None] + 0.05 * torch.randn(count, 3, 4, 4, generator=generator)).clamp(0, 1), y


MEAN, STD = (torch.tensor(part)[:, None, None] for part in STATISTICS["ImageNet's"])


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (lambda x: by_color(x * STD + MEAN), "images normalized by"),
        (lambda x: by_color((x - MEAN) / STD), "is undone"),
        (lambda x: by_color(x / 255), "pixels in 0..255"),
        (lambda x: by_color(x.flip(1)), "blue, green, red"),
    ],
)
def test_a_wrong_input_is_named_with_both_shares(network, says):
    better = better_input(network, *colored())
    assert better is not None
    assert says in better.text
    assert better.accuracy > 0.9
    assert f"{100 * better.accuracy:.1f} % in place of" in better.text


def test_a_right_input_is_not_doubted():
    assert better_input(by_color, *colored()) is None


def test_nor_is_a_network_that_is_wrong_for_another_reason():
    x, y = colored()
    assert better_input(by_color, x, y.roll(1)) is None


def test_nor_one_that_has_too_few_images_to_say():
    x, y = colored()
    assert better_input(lambda x: by_color(x * STD + MEAN), x[:6], y[:6]) is None


def test_a_network_that_refuses_other_images_is_let_be():
    def strict(x: Tensor) -> Tensor:
        if not bool(((x >= 0) & (x <= 1)).all()):
            raise ValueError("pixels are outside [0,1]")
        return by_color(x.flip(2))

    x, y = colored()
    assert better_input(strict, x, y.roll(7)) is None
