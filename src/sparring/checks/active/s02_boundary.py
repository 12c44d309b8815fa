"""S2 boundary."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.checks.base import Answer
from sparring.checks.controls import linear_net
from sparring.checks.thresholds import thresholds
from sparring.checks.trials import active_check, toy_trial
from sparring.core.geometry import per_row
from sparring.core.losses import margin
from sparring.core.noise import Noise
from sparring.evaluation.run.trial import Trial

BEFORE, MOST = thresholds("S2", "before", "most")
HALVINGS = 12
FEWEST = 3  # images that a median is taken of


class _Honeypot(nn.Module):
    """Answers as one linear classifier does, and shows the slope of another."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.decoy = linear_net(), linear_net(seed=1, scale=0.01)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        decided = F.one_hot(self.network(x.detach()).argmax(1), 4)
        return 10.0 * decided + self.decoy(x)


@active_check(
    "S2",
    "boundary",
    "A",
    "FAIL",
    HALVINGS + 2,
    fires=lambda: toy_trial(model=_Honeypot()),
    silent=toy_trial,
    first=True,
)
def boundary(t: Trial) -> list[Answer]:
    """Raised if: on the way from an image to one of another class, just before the label changes (a hundredth of the way to there), more than half of
    the image's margin is still left, in the median over images.

    Why: logits that are continuous tie where the label changes, so whoever lowers the margin comes closer to it. Where they jump, or fall at the last
    moment, the label is decided by something that neither a gradient nor a score shows, and what they do show may lead elsewhere.

    What to do: give the attacks the values that decide (before rounding, comparing or looking up), or attack by labels alone (hopskipjump, boundary).
    """
    victim, noise = t.frozen(next(iter(t.victims.values()))), Noise.of(t.seed, "boundary", t.keys)
    with torch.no_grad():
        said = victim.logits(t.x, noise)
        right = said.argmax(1) == t.y
        other = (t.y[:, None] != t.y) & right
        rows = (other.any(1) & right).nonzero()[:, 0]
        if len(rows) < FEWEST:
            return [Answer(True, 0.0, MOST, "too few images of two classes to look for a boundary")]
        x, y, noise = t.x[rows], t.y[rows], noise.at(rows)
        way = t.x[other[rows].double().argmax(1)] - x
        near, far = torch.zeros(len(rows)).to(x), torch.ones(len(rows)).to(x)
        for _ in range(HALVINGS):
            middle = (near + far) / 2
            kept = victim.logits(x + per_row(middle, x) * way, noise).argmax(1) == y
            near, far = torch.where(kept, middle, near), torch.where(kept, far, middle)
        last = victim.logits(x + per_row((1 - BEFORE) * near, x) * way, noise)
        left = (margin(last, y) / margin(said[rows], y).clamp(max=-1e-30)).abs()
    value = float(left.median())
    text = f"{100 * value:.3g} % of an image's margin is left just before its label changes"
    if value > MOST:
        text += ": what decides is shown by no gradient and no score"
    return [Answer(value <= MOST, value, MOST, text)]
