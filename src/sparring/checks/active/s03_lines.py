"""S3 lines."""

from __future__ import annotations

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
SAMPLE = 8  # survivors
SIDES = (1, 1, 4, 4)  # of the blocks of equal signs: one a direction
ROUGH = 1000.0  # times the change, squared, by which two means may differ: ResNet-20 at 16/255 some ten times, a fine ripple a hundred thousand
PIECES = 4  # of a line, a gradient in each, twice


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
    len(SIDES) * (2 + 2 * 2 * PIECES) * SAMPLE // 32,
    fires=lambda: toy_trial(model=_HalfHidden()),
    silent=toy_trial,
)
def lines(t: Trial) -> list[Answer]:
    """Raised if: on straight lines through survivors, from one side of the ball to the other in random directions, what the gradient adds up to
    is not how the margin changes: more than 7 % of that change, squared, is missing, in the median over survivors. The view of the attacker
    that misses least counts; stages with a backward that stands in are left out.

    Why: of any function with a true gradient it is, however rough it is (the fundamental theorem of calculus). A network of which a part is hidden
    (behind numpy, a table, another library, stairs too steep to see) has useful slopes, S1 passes, and the attack never sees what the hidden part does.

    What to do: make the whole differentiable or declare a backward for it; attack with scores alone (square, spsa, random_search). Source: this
    project; an ensemble with a hidden half read 31 % where 22 % was true.
    """
    rows = t.survivors.nonzero()[:SAMPLE, 0]
    shown = _shown(t)
    if not len(rows) or not shown:
        return []
    value = min(float(missing(t, victim, rows).median()) for victim in shown)
    text = f"{100 * value:.2g} % of how the margin changes across the ball is missing from the gradient"
    if value > MOST:
        text += ": part of the network is hidden from it"
    return [Answer(value <= MOST, value, MOST, text)]


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


def missing(t: Trial, victim: Victim, rows: Tensor) -> Tensor:
    """(m,) share of the squared change of the margin, end to end, that the mean gradient along each line does not explain. Two means of gradients at
    other points miss what is hidden alike, and what is only rough each in its own way: their product is 0 on average where nothing is hidden, so that
    it may come out below 0. All is missing where the two differ by more than thirty times that change: what says anything explains nothing.
    """
    x, y, noise = t.x[rows], t.y[rows], Noise.of(t.seed, "line-draw", t.keys[rows])
    ways = Noise.of(t.seed, "line-ways", t.keys[rows])
    off, all_of_it, apart = torch.zeros(3, len(rows), dtype=torch.float64)
    for number, side in enumerate(SIDES):
        draw = ways.repeat(1, number)
        way = block_signs(x, draw, side)
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
        off, all_of_it = off + (change - said[0]) * (change - said[1]), all_of_it + change.square()
        apart = apart + (said[0] - said[1]).square()
    share = torch.where(apart > ROUGH * all_of_it, 1.0, off / all_of_it)
    return torch.where((all_of_it == 0) & (apart == 0), 0.0, share).nan_to_num(1.0, 1.0, 1.0)
