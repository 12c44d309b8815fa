"""Norm balls around images, cut with the pixel box [0,1]: distances, exact projections, random starts, steps.

Everything is row-wise: row i of a result depends on row i of the inputs alone. Images are (B,C,H,W) in [0,1],
budgets ``eps`` are (B,) in pixel units, ``inf`` means unbounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from sparring.core.noise import Noise

Norm = Literal["linf", "l2", "l1", "l0"]
NORMS: tuple[Norm, ...] = get_args(Norm)
EPS_SLACK = 1e-6  # absolute (round-off of float32 pixels), and 10x relative for l2 and l1: PROTOCOL 2.1
ROUNDS = 12  # active-set rounds, at most: exact, and over, once the set at the box stops changing for every row


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """Shape (B,) values so that they broadcast over the trailing dimensions of ``like`` (B,...)."""
    return values.reshape(-1, *(1,) * (like.dim() - 1))


def distance(delta: Tensor, norm: Norm) -> Tensor:
    """Norm of each row of ``delta`` (B,C,H,W), shape (B,). ``l0`` counts pixels, once over the channels."""
    flat = delta.flatten(1)
    if norm == "linf":
        return flat.abs().amax(1)
    if norm == "l2":
        return flat.square().sum(1).sqrt()
    if norm == "l1":
        return flat.abs().sum(1)
    return (delta != 0).any(1).flatten(1).sum(1).to(delta.dtype)


def slack(eps: Tensor, norm: Norm) -> Tensor:
    """(B,) how far beyond ``eps`` (B,) a distance may lie and still count as inside: round-off, and half a pixel for l0."""
    if norm in ("linf", "l0"):
        return torch.full_like(eps, EPS_SLACK if norm == "linf" else 0.5)
    return EPS_SLACK + 10 * EPS_SLACK * eps.clamp(max=1e9)


def within(delta: Tensor, eps: Tensor, norm: Norm) -> Tensor:
    """(B,) bool: does each row lie in its ball, up to round-off (checked in float64, PROTOCOL 2.1)?"""
    d, e = distance(delta.double(), norm), eps.double()
    return d <= e + slack(e, norm)


@dataclass(frozen=True)
class Ball:
    """The allowed perturbations of a batch: a norm, one radius per row, the box [0,1], optionally a pixel mask.

    ``eps`` (B,); ``mask`` None or 0/1 broadcastable to (B,C,H,W): pixels where it is 0 stay as they are.
    """

    norm: Norm
    eps: Tensor
    mask: Tensor | None = None

    def at(self, index: Tensor) -> Ball:
        """The ball of the rows in ``index``."""
        mask = None if self.mask is None else self.mask[index]
        return Ball(self.norm, self.eps[index], mask)

    def project(self, x: Tensor, clean: Tensor) -> Tensor:
        """The nearest point (Euclidean) of ball and box to each row of ``x``; a point inside is a fixed point."""
        delta = x - clean
        if self.mask is not None:
            delta = delta * self.mask
        eps = per_row(self.eps, x)
        if self.norm == "linf":
            return (clean + torch.minimum(torch.maximum(delta, -eps), eps)).clamp(0, 1)
        project = {"l2": _project_l2, "l1": _project_l1, "l0": _project_l0}[self.norm]
        kept = project(delta, -clean, 1 - clean, self.eps)
        point = (clean + kept).clamp(0, 1)
        if self.norm == "l0":
            return point
        # the last digits of many pixels add up to more than a small ball: where they do, they are rounded towards the clean image
        beyond = ((point - clean).abs() > kept.abs()) & ~per_row(within(point - clean, self.eps, self.norm), x)
        return torch.where(beyond, torch.nextafter(point, clean), point)

    def random(self, clean: Tensor, noise: Noise) -> Tensor:
        """A random point of ball and box: uniform in the ball (l0: random pixels, random values), then projected.

        An unbounded ball starts anywhere in the box.
        """
        shape, eps = clean.shape[1:], per_row(self.eps, clean)
        bounded = torch.isfinite(eps)
        radius = torch.where(bounded, eps, torch.ones_like(eps))
        if self.norm == "linf":
            delta = radius * (2 * noise.uniform("start", shape) - 1)
        elif self.norm == "l2":
            direction = noise.normal("start", shape)
            direction = direction / per_row(distance(direction, "l2"), clean).clamp_min(1e-12)
            size = clean[0].numel()
            delta = radius * direction * per_row(noise.uniform("radius", (1,))[:, 0] ** (1 / size), clean)
        elif self.norm == "l1":
            # d of d+1 exponential spacings are uniform on the simplex; random signs fill the l1 ball
            spread = -torch.log(noise.uniform("start", shape).clamp_min(1e-12))
            rest = -torch.log(noise.uniform("radius", (1,)).clamp_min(1e-12))[:, 0]
            sign = 2 * (noise.uniform("sign", shape) < 0.5).to(clean.dtype) - 1
            delta = radius * sign * spread / per_row(spread.flatten(1).sum(1) + rest, clean)
        else:
            order = noise.uniform("pixels", shape[1:]).flatten(1).argsort(1).argsort(1)
            chosen = (order < self.eps[:, None]).reshape(-1, 1, *shape[1:])
            delta = chosen * (noise.uniform("start", shape) - clean)
        anywhere = noise.uniform("start", shape) - clean
        return self.project(clean + torch.where(bounded, delta, anywhere), clean)


def block_signs(clean: Tensor, noise: Noise, side: int) -> Tensor:
    """(B,C,H,W) of +-1, one sign a channel and block of ``side`` x ``side`` pixels, for images ``clean``."""
    channels, height, width = clean.shape[1:]
    signs = noise.sign("signs", (channels, -(-height // side), -(-width // side))).to(clean.dtype)
    return signs.repeat_interleave(side, 2).repeat_interleave(side, 3)[:, :, :height, :width]


def ascent_direction(grad: Tensor, norm: Norm) -> Tensor:
    """Unit step of steepest ascent: the sign for linf, the normalised gradient for every other norm. Zero stays
    zero.
    """
    if norm == "linf":
        return grad.sign()
    return grad / per_row(distance(grad, "l2"), grad).clamp_min(1e-30)


def _project_l2(delta: Tensor, low: Tensor, high: Tensor, eps: Tensor) -> Tensor:
    """argmin |d - delta|_2 with |d|_2 <= eps, low <= d <= high (low <= 0 <= high).

    The solution is ``clip(s * delta)`` for one s in (0,1] per row. s grows from eps/|delta| as coordinates
    meet the box; each round solves for s exactly with the clipped set of the round before, never overshooting.
    """
    radius = eps.to(delta.dtype)
    clipped = delta.clamp(low, high)
    square = radius.square()
    scale = torch.ones_like(radius)
    outside = distance(clipped, "l2") > radius
    at_box = torch.zeros_like(delta, dtype=torch.bool)
    for _ in range(ROUNDS):
        free = (delta * ~at_box).flatten(1).square().sum(1)
        held = (clipped * at_box).flatten(1).square().sum(1)
        scale = ((square - held).clamp_min(0) / free.clamp_min(1e-30)).sqrt()
        moved = per_row(scale, delta) * delta
        before, at_box = at_box, (moved < low) | (moved > high)
        if torch.equal(before, at_box):
            break
    scale = torch.where(outside & torch.isfinite(radius), scale.clamp(max=1), torch.ones_like(scale))
    inside = (per_row(scale, delta) * delta).clamp(low, high)
    # round-off only: never leave the ball by more than a float's last digit
    shrink = (radius / distance(inside, "l2").clamp_min(1e-30)).clamp(max=1)
    return inside * per_row(torch.where(outside, shrink, torch.ones_like(shrink)), delta)


def _project_l1(delta: Tensor, low: Tensor, high: Tensor, eps: Tensor) -> Tensor:
    """argmin |d - delta|_2 with |d|_1 <= eps, low <= d <= high: soft threshold, then clip, threshold by sorting.

    |clip(soft(delta, t))|_1 falls piecewise linearly in t with kinks where a coordinate leaves its bound
    (|delta| - cap) and where it vanishes (|delta|); the kinks are sorted and the crossing interpolated.
    """
    magnitude = delta.flatten(1).abs()
    cap = torch.where(delta >= 0, high, -low).flatten(1)
    kinks = torch.cat([(magnitude - cap).clamp_min(0), magnitude], 1)
    slope = torch.cat([torch.ones_like(cap), -torch.ones_like(cap)], 1) * (torch.minimum(magnitude, cap) > 0).repeat(
        1, 2
    )
    kinks, order = kinks.sort(1)
    falling = slope.gather(1, order).cumsum(1)  # how many coordinates shrink after each kink
    width = torch.diff(kinks, dim=1, prepend=torch.zeros_like(kinks[:, :1]))
    drop = (width * torch.cat([torch.zeros_like(falling[:, :1]), falling[:, :-1]], 1)).cumsum(1)
    start = torch.minimum(magnitude, cap).sum(1)
    excess = (start - eps.to(delta.dtype)).clamp_min(0)
    at = (drop < excess[:, None]).sum(1).clamp(1, kinks.shape[1] - 1)[:, None]
    before = (at - 1).clamp_min(0)
    rate = falling.gather(1, before).clamp_min(1)
    threshold = kinks.gather(1, before) + (excess[:, None] - drop.gather(1, before)).clamp_min(0) / rate
    threshold = torch.where(excess[:, None] > 0, threshold, torch.zeros_like(threshold))
    shrunk = torch.minimum((magnitude - threshold).clamp_min(0), cap)
    # round-off only, as for l2
    shrunk = shrunk * (eps.to(delta.dtype) / shrunk.sum(1).clamp_min(1e-30)).clamp(max=1)[:, None]
    return shrunk.reshape(delta.shape) * delta.sign()


def _project_l0(delta: Tensor, low: Tensor, high: Tensor, eps: Tensor) -> Tensor:
    """Keep the eps pixels whose clipped change saves the most squared distance; the rest return to clean."""
    clipped = delta.clamp(low, high)
    gain = (delta.square() - (delta - clipped).square()).sum(1).flatten(1)
    rank = gain.argsort(descending=True, stable=True, dim=1).argsort(1)
    keep = (rank < eps[:, None]).reshape(-1, 1, *delta.shape[2:])
    return clipped * keep


def steepest_step(x: Tensor, grad: Tensor, norm: Norm, length: Tensor) -> Tensor:
    """x + the step of at most ``length`` (B,) that raises grad . x most: the sign for linf, along the gradient for l2;
    for l1 the coordinates of largest |grad| one after the other, each as far as the box allows.
    """
    if norm != "l1":
        return x + per_row(length, x) * ascent_direction(grad, norm)
    room = torch.where(grad > 0, 1 - x, x).flatten(1) * (grad != 0).flatten(1)
    order = grad.flatten(1).abs().argsort(1, descending=True)
    sorted_room = room.gather(1, order)
    before = sorted_room.cumsum(1) - sorted_room
    taken = torch.minimum((length[:, None] - before).clamp_min(0), sorted_room)
    return x + grad.sign() * torch.zeros_like(room).scatter(1, order, taken).reshape(x.shape)


def to_hyperplane(x: Tensor, normal: Tensor, gap: Tensor, norm: Norm) -> Tensor:
    """The smallest step d (in ``norm``) with normal . d = gap and x + d in the box [0,1]; where the box does not reach
    that far, the corner nearest to it. normal (B,C,H,W), gap (B,) of either sign (Croce & Hein, arXiv:1907.02044, sec. 3).

    Every coordinate moves in the direction that helps, by f(t) = min(t * rate, room), and t solves sum |normal| f =
    |gap|: exact once the set of coordinates at the box stops changing. rate: 1 for linf, |normal| for l2; for l1 the
    coordinates of largest |normal| are used up one after the other.
    """
    w = normal.flatten(1) * per_row(gap.sign() + (gap == 0), normal).flatten(1)
    need, flat = gap.abs(), x.flatten(1)
    room, slope = torch.where(w > 0, 1 - flat, flat), w.abs()
    if norm == "l1":
        order = slope.argsort(1, descending=True)
        room, slope = room.gather(1, order), slope.gather(1, order)
        before = (room * slope).cumsum(1) - room * slope
        step = torch.minimum((need[:, None] - before).clamp_min(0) / slope.clamp_min(1e-30), room)
        step = torch.zeros_like(step).scatter(1, order, step)
    else:
        rate = torch.ones_like(slope) if norm == "linf" else slope
        pull, held = slope * rate, slope * room
        t = need / pull.sum(1).clamp_min(1e-30)
        for _ in range(ROUNDS):  # a concave function: Newton's steps rise to the solution and never pass it
            at_box = t[:, None] * rate >= room
            free = (pull * ~at_box).sum(1)
            before, t = t, torch.maximum(t, (need - (held * at_box).sum(1)).clamp_min(0) / free.clamp_min(1e-30))
            if torch.equal(before, t):
                break
        step = torch.minimum(t.clamp(0, 1e30)[:, None] * rate, room) * (slope > 0)
    return (step * w.sign()).reshape(x.shape)
