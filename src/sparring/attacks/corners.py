"""From few pixels to all of them, each at the edge of the ball."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attacks.method import Kind, Method
from sparring.attacks.query import Query
from sparring.core.geometry import steepest_step
from sparring.core.losses import LossName
from sparring.core.ranges import Count
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows


@ATTACKS("corners")
@dataclass(frozen=True, kw_only=True)
class Corners(Method):
    """Each step begins anew at the clean image and goes all the way, in the coordinates of which the gradient at the last point promises most: one of a
    thousand at first, all at last. Norms: linf, l2.

    What spends its budget everywhere at once never sees sparse points. A defense that answers with a robust network once it estimates much noise
    is honest wherever such an attack comes, and has its weak network where few pixels move far. The order, few pixels first, is that of JSMA (Papernot et
    al., arXiv:1511.07528, sec. III). Source: this project. Differs from the paper: one gradient for all pixels at a time instead of a Jacobian's
    saliency for two, a ball, and pixels that are chosen anew each step.
    """

    norms = ("linf", "l2")
    steps: Count = 40
    loss: LossName = "margin"

    @property
    def kind(self) -> Kind:
        """Every point is a single step from the image: who iterates must do better, or has gone astray."""
        return "single step"

    def init(self, q: Query) -> Rows:
        return Rows(x=q.clean)

    def advance(self, q: Query, s: Rows) -> Rows:
        grad = q.gradient(s.x, self.loss).grad
        room = torch.where(grad > 0, 1 - q.clean, q.clean)  # a pixel on the edge of the box goes nowhere
        chosen = grad * _largest(grad.abs() * room, ((q.t + 1) / self.steps) ** 2)
        return Rows(x=q.project(steepest_step(q.clean, chosen, q.ball.norm, q.ball.eps)))


def _largest(gain: Tensor, share: Tensor) -> Tensor:
    """(B,C,H,W) of 0 and 1: the share (B,) of an image's values, one at least, of the largest gain."""
    ordered = gain.flatten(1).sort(1, descending=True).values
    count = (share * ordered.shape[1]).long().clamp(1, ordered.shape[1])
    least = ordered.gather(1, count[:, None] - 1)
    return (gain.flatten(1) >= least).reshape(gain.shape).to(gain.dtype)
