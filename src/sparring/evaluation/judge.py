"""The judge: re-scores stored points on the deployed system, exact forward, fresh noise (PROTOCOL 2.4).

It never sees an attack. For random systems one set of draws selects among candidates, another counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sparring.core.losses import label_of, margin
from sparring.core.noise import Noise
from sparring.core.system import System
from sparring.core.victim import images_a_call


class Score(NamedTuple):
    """Per point (N,): share correct and mean margin (positive: label lost) in the selection draws, number correct
    in the judge draws, whether the first judge draw was correct, and its label.
    """

    p_select: Tensor
    margin: Tensor
    k: Tensor
    first: Tensor
    label: Tensor

    def put(self, mask: Tensor, other: Score) -> Score:
        """The same with what ``other`` says of the points in ``mask``."""
        return Score(*(whole.masked_scatter(mask, part) for whole, part in zip(self, other, strict=True)))


def _margin(scores: Tensor, y: Tensor) -> Tensor:
    """Infinite where the answer is no number: the label is lost."""
    return margin(scores, y).nan_to_num(torch.inf, torch.inf, -torch.inf)


@dataclass(frozen=True)
class Judge:
    """``select`` selection draws and ``draws`` judge draws for random systems; one forward for deterministic ones."""

    select: int = 10
    draws: int = 20
    seed: int = 0

    def draws_for(self, system: System) -> int:
        """Judge draws per point on this system."""
        return self.draws if system.random else 1

    def cost(self, system: System) -> int:
        """Network forwards per point."""
        return (self.select + self.draws) * system.forwards_per_call if system.random else 1

    def score(self, system: System, x: Tensor, y: Tensor, keys: Tensor) -> Score:
        """x (N,C,H,W) in [0,1], true labels y (N,), noise keys (N,). The same keys give common random numbers."""
        with torch.no_grad():
            if not system.random:
                scores = self._ask(system, x, Noise.of(self.seed, "judge", keys), 1)[:, 0]
                right = (label := label_of(scores)) == y
                return Score(right.double(), _margin(scores, y), right.long(), right, label)
            chosen = self._ask(system, x, Noise.of(self.seed, "select", keys), self.select).unbind(1)
            p_select = torch.stack([(label_of(s) == y).double() for s in chosen]).mean(0)
            average = torch.stack([_margin(s, y) for s in chosen]).mean(0)
            labels = self.labels(system, x, keys)
            right = labels == y
            return Score(p_select, average, right.sum(0), right[0], labels[0])

    def labels(self, system: System, x: Tensor, keys: Tensor) -> Tensor:
        """(draws,N) labels in the judge draws."""
        with torch.no_grad():
            scores = self._ask(system, x, Noise.of(self.seed, "judge", keys), self.draws_for(system))
            return torch.stack([label_of(s) for s in scores.unbind(1)])

    def _ask(self, system: System, x: Tensor, noise: Noise, draws: int) -> Tensor:
        """(N,draws,K): all draws of all points, in calls as large as the device takes."""
        size = images_a_call(x, system.forwards_per_call)
        each = noise.repeat(draws)
        row = torch.arange(draws * len(x), device=x.device)
        parts = [row[i : i + size] for i in range(0, len(row), size)]
        scores = [system.scores(x[part // draws], each.at(part)) for part in parts]
        return torch.cat(scores).reshape(len(x), draws, -1)
