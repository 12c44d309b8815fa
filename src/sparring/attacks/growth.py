"""Perturbations that grow: in length, and in the number of pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.attacks.method import Kind, Method
from sparring.attacks.query import Query
from sparring.core.geometry import per_row, steepest_step
from sparring.core.losses import LossName
from sparring.core.ranges import Count, Part
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows
from sparring.core.victim import Goal


@ATTACKS("growth")
@dataclass(frozen=True, kw_only=True)
class Growth(Method):
    """Each step begins anew at the clean image and goes along the gradient at the last point. In the first third of the steps all coordinates move, by little
    at first and by the whole budget at last; in the others they go all the way, of one in a thousand at first to all at last, those of which the
    gradient promises most. Norms: linf, l2.

    What spends its budget everywhere at once never sees short and sparse points. A defense that answers with a robust network once it estimates
    much noise is honest wherever such an attack comes, and has its weak network nearer to the image, or where few pixels move far. The order, few
    pixels first, is that of JSMA (Papernot et al., arXiv:1511.07528, sec. III). Source: this project. Differs from the paper: one gradient for all
    pixels at a time instead of a Jacobian's saliency for two, a ball, and pixels that are chosen anew each step.
    """

    norms = ("linf", "l2")
    steps: Count = 60
    loss: LossName = "margin"

    @property
    def kind(self) -> Kind:
        """Every point is a single step from the image: who iterates must do better, or has gone astray."""
        return "single step"

    def init(self, q: Query) -> Rows:
        return Rows(x=q.clean)

    def advance(self, q: Query, s: Rows) -> Rows:
        shorter, step = self.steps // 3, q.t + 1
        anew = per_row(q.t == shorter, s.x)  # the second way begins at the image, too
        grad = q.gradient(torch.where(anew, q.clean, s.x), self.loss).grad
        length = (step / max(1, shorter)).clamp(max=1)
        share = torch.where(step > shorter, ((step - shorter) / (self.steps - shorter)) ** 2, 1.0)
        room = torch.where(grad > 0, 1 - q.clean, q.clean)  # a pixel on the edge of the box goes nowhere
        chosen = grad * _largest(grad.abs() * room, share)
        return Rows(x=q.project(steepest_step(q.clean, chosen, q.ball.norm, length * q.ball.eps)))


@ATTACKS("growing_fgsm")
@dataclass(frozen=True, kw_only=True)
class GrowingFGSM(Method):
    """FGSM (Goodfellow et al., arXiv:1412.6572, sec. 4) at the least eps that fools, of each image: one gradient at the clean image, along which lengths
    are tried from the shortest on. Norm: linf.

    ``steps``: lengths up to ``largest`` (255 and 1: whole levels of 8 bits). Differs from the paper: it has one eps for all; the search is
    Foolbox's (arXiv:1707.04131), without its second search between the last two lengths.
    """

    goal = Goal.MINIMAL
    settled = True
    steps: Count = 255
    largest: Part = 1.0
    loss: LossName = "ce"

    @property
    def kind(self) -> Kind:
        """Every point is a single step from the image."""
        return "single step"

    @property
    def opening(self) -> tuple[int, int]:
        return 1, 1

    def gradients(self, targeted: bool) -> int:
        return 0

    def init(self, q: Query) -> Rows:
        answer = q.gradient(q.clean, self.loss, "clean")
        return Rows(x=q.clean, grad=answer.grad, fooled=q.margin(answer.logits) > 0)

    def advance(self, q: Query, s: Rows) -> Rows:
        length = (q.t + 1).to(q.clean.dtype) / self.steps * self.largest
        x = steepest_step(q.clean, s.grad, q.ball.norm, length).clamp(0, 1)
        fooled = q.fooled(q.labels(x, only=~s.fooled))
        return s.put(x=x, fooled=fooled | s.fooled)

    def done(self, q: Query, s: Rows) -> Tensor:
        return s.fooled


def _largest(gain: Tensor, share: Tensor) -> Tensor:
    """(B,C,H,W) of 0 and 1: the share (B,) of an image's values, one at least, of the largest gain."""
    ordered = gain.flatten(1).sort(1, descending=True).values
    count = (share * ordered.shape[1]).long().clamp(1, ordered.shape[1])
    least = ordered.gather(1, count[:, None] - 1)
    return (gain.flatten(1) >= least).reshape(gain.shape).to(gain.dtype)
