"""Tiles: every question is a corner of the ball, constant on a grid's tiles."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import sparring
from sparring.attacks.tiles import GRIDS


class Asked(nn.Module):
    """Class 0, whatever is shown; what was shown is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Tensor] = []
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.shown.append(x.detach().clone())
        return torch.stack([x.flatten(1).sum(1) * 0 + 1, x.flatten(1).sum(1) * 0], 1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("size", [(28, 28), (20, 35)])
def test_each_point_is_constant_on_the_tiles_of_the_grid_whose_turn_it_is(norm, size):
    network = Asked()
    x = torch.full((2, 3, *size), 0.5)
    eps = {"linf": 0.1, "l2": 2.0}[norm]
    sparring.attack(f"tiles:norm={norm},eps={eps},steps={len(GRIDS)}").run(network, x, torch.zeros(2).long())
    each = [shown - x for shown in network.shown if len(shown) == 2 and not torch.equal(shown, x)]
    moved = [c for c in each if torch.allclose(_length(c, norm), torch.full((2,), eps), atol=1e-5)]
    assert len(moved) >= len(GRIDS)
    changes = {grid: [c for c in moved if _is_tiled(c, -(-min(size) // grid))] for grid in GRIDS}
    assert all(changes.values()), "each grid had its turn"
    for change in moved:
        assert any(_is_tiled(change, -(-min(size) // grid)) for grid in GRIDS)
        assert not torch.equal(change[0], change[1]), "each image has draws of its own"


def _length(change: Tensor, norm: str) -> Tensor:
    return change.abs().amax((1, 2, 3)) if norm == "linf" else change.flatten(1).norm(dim=1)


def _is_tiled(change: Tensor, side: int) -> bool:
    """Is it constant on each channel's tiles of this side?"""
    height, width = change.shape[2:]
    tiles = [change[:, :, r : r + side, c : c + side] for r in range(0, height, side) for c in range(0, width, side)]
    return all(torch.equal(t.flatten(2).amin(2), t.flatten(2).amax(2)) for t in tiles)
