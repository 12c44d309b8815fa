"""Draws: every element independent, every alternative reached, in turn where draws are exhaustive."""

from dataclasses import replace

import torch

from sparring.core.noise import Noise, image_keys


def _noise(count: int) -> Noise:
    return Noise.of(0, "test", image_keys([str(i) for i in range(count)]))


def test_the_halves_of_a_normal_draw_are_independent():
    """Box-Muller makes them from the same words: cosine and sine."""
    first, second = _noise(1).normal("n", (20_000,))[0].split(10_000)
    for a, b in ((first, second), (first.square(), second.square()), (first, second.square())):
        assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 0.05


def test_a_choice_reaches_every_alternative_evenly():
    count = torch.bincount(_noise(4000).choice("side", 4), minlength=4)
    assert len(count) == 4
    assert ((count - 1000).abs() < 5 * (4000 * 0.25 * 0.75) ** 0.5).all()


def test_exhaustive_choices_go_through_the_alternatives_draw_by_draw():
    noise = replace(_noise(3).repeat(8), exhaustive=True)
    assert noise.choice("side", 4).tolist() == [0, 1, 2, 3, 0, 1, 2, 3] * 3
    inner = replace(_noise(2).repeat(3).repeat(4), exhaustive=True)
    assert inner.choice("side", 4).tolist() == [0, 1, 2, 3] * 6, "also inside of other draws"


def test_draws_are_numbered_within_their_row():
    """Row i's draw j is the same whoever stands beside it."""
    together = _noise(3).repeat(4).uniform("u", (5,)).unflatten(0, (3, 4))
    for row in range(3):
        alone = _noise(3).at(torch.tensor([row]))
        assert torch.equal(together[row], alone.repeat(4).uniform("u", (5,)))
        assert torch.equal(together[row, 2:3], alone.repeat(1, 2).uniform("u", (5,)))
