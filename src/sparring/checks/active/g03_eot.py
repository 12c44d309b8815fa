"""G3 reliability of averaged gradients."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sparring.checks.base import Answer
from sparring.checks.controls import FunctionStage
from sparring.checks.thresholds import thresholds
from sparring.checks.trials import active_check, toy_trial
from sparring.core.losses import margin
from sparring.core.noise import Noise
from sparring.evaluation.run.trial import Trial

LEAST, GOOD = thresholds("G3", "least", "good")
SAMPLE = 16


def _loud(x: Tensor, noise: Noise) -> Tensor:
    """Another random tenth of the pixels each time."""
    return x * (noise.uniform("mask", x.shape[1:]) < 0.004).to(x.dtype)


def _quiet(x: Tensor, noise: Noise) -> Tensor:
    return x + 0.001 * noise.normal("gauss", x.shape[1:]).to(x.dtype)


@active_check(
    "G3",
    "averaged gradients",
    "A",
    "FAIL",
    64,
    fires=lambda: toy_trial((FunctionStage(_loud, random=True),)),
    silent=lambda: toy_trial((FunctionStage(_quiet, random=True),)),
)
def averaged_gradients(t: Trial) -> list[Answer]:
    """Raised if: the attacker's gradient, averaged over as many draws as it uses, has a cosine below .5 with the mean gradient, as two
    independent averages say (below .8: a warning). Random systems only.

    Why: an attack along a direction that is mostly noise is weak, and its failure says little (Athalye et al., arXiv:1802.00420, sec. 4.2).

    What to do: more draws (--draws, adaptive:draws=N): the message says how many would do.
    """
    if not t.random:
        return []
    best = max((_cosine(t, name) for name in t.victims), key=lambda pair: pair[0])
    cosine, draws = best
    needed = _needed(cosine, draws, GOOD)
    text = f"{draws} draws give a gradient of cosine {cosine:.2f} with their mean" + (
        f"; {needed} draws would reach {GOOD}" if cosine < GOOD and needed else ""
    )
    severity = "FAIL" if cosine < LEAST else "WARN"
    return [Answer(cosine >= GOOD, cosine, LEAST if cosine < LEAST else GOOD, text, severity=severity)]


def draws_that_agree(t: Trial) -> int:
    """The smallest number of draws of which two independent averages have a cosine of .8, in the view that needs most; that of the views themselves
    where more are needed.
    """
    most = max(victim.draws for victim in t.victims.values())
    needed = [_needed(*_cosine(t, name), math.sqrt(GOOD)) or most for name in t.victims]
    return min(most, max(needed))


def _needed(cosine: float, draws: int, goal: float) -> int:
    """How many draws give a gradient of cosine ``goal`` with its mean, where ``draws`` give one of ``cosine``; 0: nobody knows."""
    single = cosine**2 / (draws - (draws - 1) * cosine**2) if cosine < 1 else 1.0  # Spearman and Brown, backwards
    return max(1, math.ceil(goal**2 * (1 - single) / ((1 - goal**2) * single))) if single > 0 else 0


def _cosine(t: Trial, view: str) -> tuple[float, int]:
    """Of an averaged gradient with the mean gradient, in the median over images, and the draws it averages."""
    rows, victim = slice(0, SAMPLE), t.victims[view]
    y, points = t.y[rows], (t.x if t.points is None else t.points)[rows]
    halves = []
    for half in range(2):
        noise = Noise.of(t.seed, f"half{half}", t.keys[rows])
        halves.append(
            victim.gradient(points, lambda z, i: margin(z, y[i]), noise).grad.flatten(1).nan_to_num(0.0, 0.0, 0.0)
        )
    alike = torch.nn.functional.cosine_similarity(*halves, eps=1e-30)
    return math.sqrt(max(0.0, float(alike.median()))), victim.draws
