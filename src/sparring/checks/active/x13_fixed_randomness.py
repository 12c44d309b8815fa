"""X13 fixed randomness."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sparring.attacks.engine import Batch, RunOptions
from sparring.checks.base import Answer
from sparring.checks.controls import FunctionStage, eight_levels
from sparring.checks.pool import LOST
from sparring.checks.thresholds import thresholds
from sparring.checks.trials import active_check, toy_trial
from sparring.core.noise import Noise
from sparring.core.system import Readout
from sparring.evaluation.run.trial import STEPS, Trial

(MORE,) = thresholds("X13", "more")


def _quiet(x: Tensor, noise: Noise) -> Tensor:
    return x + 0.001 * noise.normal("gauss", x.shape[1:]).to(x.dtype)


def _masked() -> Trial:
    """Noise and rounding, of which the noise alone is lost: attacks with many draws saw through both."""
    rounding = FunctionStage(eight_levels, name="rounding")
    trial = toy_trial((FunctionStage(_quiet, random=True), rounding))
    return replace(trial, survivors=torch.arange(len(trial.x)) % 2 == 0)


def _shaken() -> Trial:
    return toy_trial((FunctionStage(_quiet, random=True),))


@active_check("X13", "fixed randomness", "A", "FAIL", 2 * STEPS + 2, fires=_masked, silent=_shaken)
def fixed_randomness(t: Trial) -> list[Answer]:
    """Raised if: with the randomness of each image held fixed, for the attack and for who judges it, the attack leaves over 10 points more of the images that
    active checks look at than all attacks on the random system left. Random systems only.

    Why: with chance switched off an attack must do better. One that does not is stopped by something else than chance, and more draws will not help
    (Carlini et al., arXiv:1902.06705, sec. 5.2).

    What to do: read S1, PL and P10 about the system's other stages; attack it with its noise left out. The threats fixed-w and known-w give the
    accuracies.
    """
    if not t.random:
        return []
    still = replace(t.deployed, frozen=t.seed, readout=Readout())  # one draw, as the attacker sees it
    left = torch.ones(len(t.x), dtype=torch.bool, device=t.x.device)
    for victim in map(t.frozen, t.victims.values()):
        rows = left.nonzero()[:, 0]
        if not len(rows):
            break
        outcome = t.attack.on(victim, Batch(t.x[rows], t.y[rows], t.keys[rows]), RunOptions("success", seed=t.seed))
        left[rows] = t.judge.score(still, outcome.x, t.y[rows], t.keys[rows]).p_select > LOST
    fixed, free = (float(share.double().mean()) for share in (left, t.survivors))
    text = f"with its randomness fixed {100 * fixed:.0f} % of {len(left)} images are left, with it {100 * free:.0f} %"
    if fixed - free > MORE:
        text += ": what stops the attack is not chance"
    return [Answer(fixed - free <= MORE, fixed - free, MORE, text)]
