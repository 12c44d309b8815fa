"""Random signs on tiles of the image, by labels alone: every question lies in the ball."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attacks.query import Query
from sparring.attacks.random_search import RandomPoints
from sparring.core.geometry import distance, per_row
from sparring.core.ranges import Count
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows
from sparring.core.victim import Access

GRIDS = (2, 3, 4, 5, 7, 9, 14)  # tiles along the shorter side of an image, by turns


@ATTACKS("tiles")
@dataclass(frozen=True, kw_only=True)
class Tiles(RandomPoints):
    """Fresh random points whose signs are constant on tiles, which convolutional networks feel most (the tile prior of Ilyas et al., arXiv:1807.07978,
    sec. 3.2). Norms: linf, l2.

    By turns 2 to 14 tiles along the image; a channel's tile goes up or down by eps (l2: as far as its pixels can, all scaled to length eps). Only labels
    are asked, ``steps`` of them, each inside the ball: searches along rays or from far points see nothing of a ball that is plain
    inside an odd shell, and spend few queries badly. Differs from the paper: no gradient is estimated, each point is a draw of its own.
    """

    needs = Access.LABEL
    steps: Count = 1000

    def advance(self, q: Query, s: Rows) -> Rows:
        signs = _tiled(q)
        change = signs
        if q.ball.norm == "l2":
            room = (q.clean + signs).clamp(0, 1) - q.clean
            change = room / per_row(distance(room, "l2").clamp_min(1e-12), room)
        q.labels(q.project(q.clean + per_row(q.ball.eps, change) * change))
        return s


def _tiled(q: Query) -> Tensor:
    """(B,C,H,W) one sign a channel and tile, each image with the grid whose turn it is."""
    batch, channels, height, width = q.clean.shape
    device, finest = q.clean.device, GRIDS[-1]
    grid = torch.tensor(GRIDS, device=device)[q.t % len(GRIDS)][:, None]
    side = (min(height, width) + grid - 1) // grid  # of a tile, in pixels
    across = max(height, width) * finest // min(height, width) + 1
    signs = q.noise("tiles").sign("sign", (channels, across, across)).to(q.clean.dtype)
    rows = (torch.arange(height, device=device) // side)[:, :, None]
    columns = (torch.arange(width, device=device) // side)[:, None, :]
    image = torch.arange(batch, device=device)[:, None, None]
    return signs[image, :, rows, columns].movedim(-1, 1)
