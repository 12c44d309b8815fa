"""S4 half way."""

from __future__ import annotations

import torch
from torch import Tensor

from sparring.attacks.engine import Batch, RunOptions
from sparring.checks.base import Answer
from sparring.checks.controls import CLASSES, linear_layer, linear_net
from sparring.checks.pool import LOST
from sparring.checks.thresholds import thresholds
from sparring.checks.trials import active_check, toy_trial
from sparring.core.geometry import Ball, distance
from sparring.core.noise import Noise, image_keys
from sparring.evaluation.run.trial import MISSED, SAMPLE, STEPS, Missed, Trial

(LEAST,) = thresholds("S4", "least")
CHANCES = 8  # random points, of which none may be wrong: what they find needs no gradient
NEAR, HALF = 0.9, 0.5  # shares of the way from an image to the point that broke it


class _Stairs(torch.nn.Module):
    """A linear classifier of an image in eight levels, with a gradient that points nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.network = linear_net()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.network((x * 7).round() / 7) + 1e-6 * (x * 1000).sin().flatten(1)[:, :CLASSES]


def _across(x: Tensor, y: Tensor) -> Tensor:
    """Points just beyond the linear classifier's nearest boundary, in linf."""
    layer = linear_layer(linear_net())
    z = layer(x.flatten(1)).detach()
    rival = z.scatter(1, y[:, None], -torch.inf).argmax(1)
    way = layer.weight.detach()[rival] - layer.weight.detach()[y]
    gap = z.gather(1, y[:, None]) - z.gather(1, rival[:, None])
    return (x + (1.05 * gap / way.abs().sum(1, keepdim=True) * way.sign()).reshape(x.shape)).clamp(0, 1)


@active_check(
    "S4",
    "half way",
    "A",
    "WARN",
    2 * (2 * STEPS + CHANCES) * MISSED // SAMPLE,
    fires=lambda: toy_trial(model=_Stairs(), missed=_across),
    silent=lambda: toy_trial(missed=_across),
)
def half_way(t: Trial) -> list[Answer]:
    """Raised if: images fell to less than gradients (X6), and the gradient attack, begun half way to the points that broke them and held to half the
    distance around there, finds fewer than half of them again. The message also says how many it finds nine tenths of the way. What random points
    find there is not counted.

    Why: an attack that began at the wrong place finds them, once it is brought near; one that does not is blind, and then neither more steps nor
    more restarts help.

    What to do: found from half way: more restarts, other starts. Not found: look for what stops the gradient (P10, S1, PL), declare a backward
    for it, or rest the number on search (square, spsa, random_search). Source: this project.
    """
    if t.missed is None:
        return []
    (half, of_half), (near, of_near) = (_found(t, t.missed, share) for share in (HALF, NEAR))
    if not of_half:
        return []
    share = half / of_half
    text = f"of images that fell to less than gradients, these find {half} of {of_half} from half way and {near} of {of_near} from nine tenths of it: "
    text += "they begin at the wrong place" if share >= LEAST else "they are blind there"
    return [Answer(share >= LEAST, share, LEAST, text)]


def _found(t: Trial, missed: Missed, share: float) -> tuple[int, int]:
    """How many of the missed images are lost from this share of the way, whatever the view, and of how many: those that chance does not find there."""
    begin = missed.x + share * (missed.points - missed.x)
    rest = distance((missed.points - begin).double(), t.norm).to(begin.dtype)
    keys = image_keys(list(missed.ids)).to(begin.device)

    def lost(points: Tensor, rows: Tensor) -> Tensor:
        return t.judge.score(t.deployed, points, missed.y[rows], keys[rows]).p_select < LOST

    unbroken = torch.ones(len(begin), dtype=torch.bool, device=begin.device)
    chance = Noise.of(t.seed, "half-way", keys)
    for draw in range(CHANCES):
        left = unbroken.nonzero()[:, 0]
        if not len(left):
            return 0, 0
        way = Ball(t.norm, rest[left]).random(begin[left], chance.at(left).child(f"draw{draw}"))
        unbroken[left] = ~lost(way, left)
    count = int(unbroken.sum())
    for victim in t.victims.values():
        left = unbroken.nonzero()[:, 0]
        if not len(left):
            break
        batch = Batch(begin[left], missed.y[left], keys[left], eps=rest[left])
        points = t.attack.on(victim, batch, RunOptions("never" if t.random else "success", seed=t.seed)).x
        unbroken[left] = ~lost(points, left)
    return count - int(unbroken.sum()), count
