"""S1 slope."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sparring.checks.base import Answer
from sparring.checks.controls import FunctionStage, eight_levels
from sparring.checks.thresholds import thresholds
from sparring.checks.trials import active_check, toy_trial
from sparring.core.geometry import Ball, per_row
from sparring.core.losses import margin
from sparring.core.noise import Noise
from sparring.core.victim import Victim
from sparring.evaluation.run.trial import Trial

LEAST, MOST, MISSED, SMOOTH = thresholds("S1", "least", "most", "missed", "smooth")
SHARE = 0.1  # of eps: how far it is stepped
SMALL = 0.01  # of eps: how far in random directions
NEAR = 0.2  # of eps: around the images
DIRECTIONS = 4
FEWEST = 3  # points that a median is taken of
SAMPLE = 16  # images before attacks


@active_check(
    "S1",
    "slope",
    "A",
    "FAIL",
    44,
    fires=lambda: toy_trial((FunctionStage(eight_levels),)),
    silent=toy_trial,
    first=True,
)
def slope(t: Trial) -> list[Answer]:
    """Raised if: the margin rises along the gradient by less than .4 of what the gradient says, in the median over images: at the images,
    at random points of the ball, or where the attack ended. (More than 1.5 is a warning: rough.) One view of the attacker that passes is enough;
    a warning too where another view has a backward that stands in (declared or repaired): slopes cannot try that one, PL does. Or: in random
    directions, where the loss is smooth, more than a fifth of how it changes is not in the gradient.

    Why: a gradient that does not say how the loss changes leads nowhere, and an attack along it proves nothing (shattered, stopped or
    replaced gradients). A gradient can be right at every image and wrong where it matters: only the last points show it; and right where it is,
    and missing for half of the pixels: only directions that are not its own show that.

    What to do: declare a backward for the stage that P10 names, or make it differentiable; attack with scores alone (square, spsa,
    random_search). Source: VERDICT of this project; central differences.
    """
    best: Answer | None = None
    for name in sorted(t.exact):
        answer = _of(t, name)
        if best is None or (answer.ok, answer.value) > (best.ok, best.value):
            best = answer
    if best is None:
        return []
    # another view has a backward that is no gradient of its forward: PL tries that one
    stands_in = len(t.exact) < len(t.victims)
    return [replace(best, severity="WARN") if stands_in and not best.ok else best]


def _of(t: Trial, view: str) -> Answer:
    victim = t.frozen(t.victims[view])
    first = torch.arange(len(t.x), device=t.x.device)[:SAMPLE]
    eps = torch.full((len(t.x),), t.eps, dtype=t.x.dtype, device=t.x.device)
    uniform = Ball(t.norm, eps).random(t.x, Noise.of(t.seed, "slope", t.keys))
    places = {"at the images": (t.x, first), "at random points": (uniform, first)}
    if t.points is not None:
        places["where the attack ended"] = (t.points, t.survivors.nonzero()[:, 0])
    medians = {
        place: float(ratios(t, victim, points[rows], rows).median())
        for place, (points, rows) in places.items()
        if len(rows) >= FEWEST
    }
    if not medians:
        return Answer(True, 1.0, LEAST, "too few images to measure slopes")
    worst = min(medians, key=lambda k: medians[k])
    value, text = medians[worst], "; ".join(f"{v:.2f} {k}" for k, v in medians.items())
    if value < LEAST:
        return Answer(
            False, value, LEAST, f"the loss rises along the gradient by {text} of what it should: it leads nowhere"
        )
    if max(medians.values()) > MOST:
        return Answer(
            False, value, MOST, f"the loss rises along the gradient by {text} of what it should: rough", severity="WARN"
        )
    lacking = {
        "near the images": missed(t, victim, _unlike(t, first, NEAR), first),
        "at random points": missed(t, victim, _unlike(t, first, 1.0), first),
    }
    most = max(lacking, key=lambda k: lacking[k])
    if len(first) >= FEWEST and lacking[most] > MISSED:
        share = f"{100 * lacking[most]:.0f} % of how the loss changes {most} is not in the gradient"
        return Answer(False, lacking[most], MISSED, f"{share}: part of the image has none")
    return Answer(True, value, LEAST, f"the loss rises along the gradient as it should ({text})")


def _unlike(t: Trial, rows: Tensor, share: float) -> Tensor:
    """Random points in a share of the ball, mirrored into the box, without two pixels alike: where a maximum or a median has ties it has no gradient,
    and none is missing.
    """
    x = t.x[rows]
    way = 2 * Noise.of(t.seed, "slope-nudge", t.keys[rows]).uniform("way", x.shape[1:]).to(x.dtype) - 1
    way = share * t.eps * (way if t.norm == "linf" else way / per_row(way.flatten(1).norm(dim=1), way))
    return torch.where(((x + way) < 0) | ((x + way) > 1), x - way, x + way).clamp(0, 1)


def missed(t: Trial, victim: Victim, points: Tensor, rows: Tensor) -> float:
    """The median over images of the share of the margin's change, squared, in random directions that the gradient does not explain; 0 where the
    margin is not smooth (twice the step is not twice the change): no gradient could.
    """
    y, noise = t.y[rows], Noise.of(t.seed, "slope-draw", t.keys[rows])
    g = victim.gradient(points, lambda z, i: margin(z, y[i]), noise).grad.nan_to_num(0.0, 0.0, 0.0).double()
    draws = Noise.of(t.seed, "slope-ways", t.keys[rows])
    rises: list[Tensor] = []
    for number in range(DIRECTIONS):
        way = t.eps * SMALL * draws.repeat(1, number).sign("way", points.shape[1:]).to(points.dtype)
        if t.norm != "linf":
            way = way / per_row(way.flatten(1).norm(dim=1) / (t.eps * SMALL), way)
        for size in (1, 2):
            ahead, back = (points + size * way).clamp(0, 1), (points - size * way).clamp(0, 1)
            rise = margin(victim.logits(ahead, noise), y).double() - margin(victim.logits(back, noise), y).double()
            rises += [rise, (g * (ahead - back).double()).flatten(1).sum(1)]
    one, said, two, _ = (torch.stack(rises[k::4]) for k in range(4))  # (DIRECTIONS,m)
    size = one.square().sum(0)
    bent = (two - 2 * one).square().sum(0) / (4 * size)
    lacking = (one - said).square().sum(0) / size
    return float(torch.where(bent <= SMOOTH, lacking, 0.0).nan_to_num(0.0, 0.0, 0.0).median()) if len(rows) else 0.0


def ratios(t: Trial, victim: Victim, points: Tensor, rows: Tensor) -> Tensor:
    """(m,) measured rise of the margin over what the gradient says, between two points on the gradient's line, inside the box; 0 where
    there is no gradient.
    """
    y, noise = t.y[rows], Noise.of(t.seed, "slope-draw", t.keys[rows])
    answer = victim.gradient(points, lambda z, i: margin(z, y[i]), noise)
    g = answer.grad.nan_to_num(0.0, 0.0, 0.0)
    length = g.flatten(1).norm(dim=1)
    step = t.eps * SHARE * (g.sign() if t.norm == "linf" else g / per_row(length.clamp_min(1e-30), g))
    ahead, back = (points + step).clamp(0, 1), (points - step).clamp(0, 1)
    rise = margin(victim.logits(ahead, noise), y).double() - margin(victim.logits(back, noise), y).double()
    said = (g.double() * (ahead - back).double()).flatten(1).sum(1)
    return torch.where(said.abs() > 0, rise / said, 0.0).nan_to_num(0.0, 0.0, 0.0)
