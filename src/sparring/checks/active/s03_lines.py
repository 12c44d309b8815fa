"""S3 lines."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from sparring.checks.base import Answer
from sparring.checks.controls import linear_net
from sparring.checks.thresholds import thresholds
from sparring.checks.trials import active_check, toy_trial
from sparring.core.geometry import block_signs, per_row
from sparring.core.losses import margin
from sparring.core.noise import Noise
from sparring.core.victim import Victim
from sparring.evaluation.run.trial import Trial

(MOST,) = thresholds("S3", "most")
SAMPLE, LINES = 8, 32  # survivors, and lines through all of them together
SIDES = (1, 4)  # of the blocks of equal signs, in turn
ROUGH = 1000.0  # times the change, squared, by which two means may differ: ResNet-20 at 16/255 some ten times, a fine ripple a hundred thousand
PIECES = 4  # of a line, a gradient in each, twice
SURE = 3.0  # standard errors


class _HalfHidden(torch.nn.Module):
    """The mean of two classifiers, of which one sees the image through rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.shown, self.hidden = linear_net(), linear_net(seed=1)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.shown(x) + self.hidden((x * 7).round() / 7)


@active_check(
    "S3",
    "lines",
    "A",
    "FAIL",
    LINES * (2 + 2 * 2 * PIECES) // 32,
    fires=lambda: toy_trial(model=_HalfHidden()),
    silent=toy_trial,
)
def lines(t: Trial) -> list[Answer]:
    """Raised if: on straight lines through survivors, from one side of the ball to the other in random directions, what the gradient adds up to
    is not how the margin changes: surely more than 2 % of that change, squared, is missing (three standard errors over the lines). The view of the
    attacker that misses least counts; stages with a backward that stands in are left out.

    Why: of any function with a true gradient it is, however rough it is (the fundamental theorem of calculus). A network of which a part is hidden
    (behind numpy, a table, another library, stairs too steep to see) has useful slopes, S1 passes, and the attack never sees what the hidden part does.

    What to do: make the whole differentiable or declare a backward for it; attack with scores alone (square, spsa, random_search). Source: this
    project; an ensemble with a hidden half read 31 % where 22 % was true.
    """
    rows = t.survivors.nonzero()[:SAMPLE, 0]
    shown = _shown(t)
    if not len(rows) or not shown:
        return []
    share, least = min((missing(t, victim, rows) for victim in shown), key=lambda pair: pair[1])
    text = f"{100 * max(0.0, share):.2g} % of how the margin changes across the ball is missing from the gradient (surely {100 * max(0.0, least):.2g} %)"
    if least > MOST:
        text += ": part of the network is hidden from it"
    return [Answer(least <= MOST, least, MOST, text)]


def _shown(t: Trial) -> list[Victim]:
    """The views without stages whose backward stands in, each once; but those whose network would then see another size."""
    shown: dict[object, Victim] = {}
    for name in sorted(t.victims):
        victim = t.frozen(t.victims[name])
        system, image = victim.systems[0], t.x[:1]
        exact = tuple(p for p in system.parts if p.backward == "exact")
        for number, part in enumerate(system.parts if exact != system.parts else ()):
            image = part.forward(image, Noise.of(t.seed, "line-draw", t.keys[:1]).child(f"stage{number}"))
        if image.shape != t.x[:1].shape:
            continue
        shown.setdefault((id(system.network), exact), replace(victim, systems=(replace(system, parts=exact),)))
    return list(shown.values())


def missing(t: Trial, victim: Victim, rows: Tensor) -> tuple[float, float]:
    """The share of the squared change of the margin, end to end, that the mean gradient along lines does not explain, and what it surely is at least.

    Two means of gradients at other points miss what is hidden alike, and what is only rough each in its own way: the product of what they miss is 0 on average where
    nothing is hidden, so that it may come out below 0. All is missing where the two differ by more than thirty times the change: what says anything
    explains nothing.
    """
    x, y, noise = t.x[rows], t.y[rows], Noise.of(t.seed, "line-draw", t.keys[rows])
    ways = Noise.of(t.seed, "line-ways", t.keys[rows])
    missed, changes, apart = list[Tensor](), list[Tensor](), list[Tensor]()
    for number in range(-(-LINES // len(rows))):
        draw = ways.repeat(1, number)
        way = block_signs(x, draw, SIDES[number % len(SIDES)])
        way = t.eps * (way if t.norm == "linf" else way / per_row(way.flatten(1).norm(dim=1), way))
        back, ahead = (x - way).clamp(0, 1), (x + way).clamp(0, 1)
        change = (
            margin(victim.logits(ahead, noise), y).double() - margin(victim.logits(back, noise), y).double()
        ).cpu()
        at = draw.uniform("at", (2, PIECES))
        said = []
        for turn in range(2):
            mean = torch.zeros_like(change)
            for piece in range(PIECES):
                point = back + per_row((piece + at[:, turn, piece]) / PIECES, x) * (ahead - back)
                g = victim.gradient(point, lambda z, i: margin(z, y[i]), noise).grad.nan_to_num(0.0, 0.0, 0.0)
                mean += (g.double() * (ahead - back).double()).flatten(1).sum(1).cpu() / PIECES
            said.append(mean)
        missed.append((change - said[0]) * (change - said[1]))
        changes.append(change.square())
        apart.append((said[0] - said[1]).square())
    off, whole, between = (torch.cat(each) for each in (missed, changes, apart))
    total = float(whole.sum())
    if not math.isfinite(total) or float(between.sum()) > ROUGH * total:
        return 1.0, 1.0
    if total == 0:
        return 0.0, 0.0
    share = float(off.sum()) / total
    error = float((off - share * whole).square().sum().sqrt()) / total  # of a ratio of sums over independent lines
    return share, share - SURE * error
