"""P13 RNG firewall."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor

from sparring.checks.base import Answer, Context, check
from sparring.checks.controls import FunctionStage, context
from sparring.core.noise import Noise
from sparring.evaluation.judge import Judge


def _global(x: Tensor, noise: Noise) -> Tensor:
    return x + 0.5 * torch.randn_like(x)


def _keyed(x: Tensor, noise: Noise) -> Tensor:
    return x + 0.5 * noise.normal("firewall", x.shape[1:])


def _noisy(function) -> Context:
    return context(stages=(FunctionStage(function, name="noise", random=True),))


@check("P13", "RNG firewall", "J", "FATAL", fires=lambda: _noisy(_global), silent=lambda: _noisy(_keyed))
def rng_firewall(c: Context) -> list[Answer]:
    """Raised if: judging the same points twice gives other labels when only the global seeds changed, or the same
    logits under other judge keys.

    Why: an attack that reseeds the global generator (AutoAttack's APGD does) would silently re-align the noise of
    the defense.

    What to do: draw all noise from the ``noise`` argument of the stage.
    """
    answers: list[Answer] = []
    for defended in (d for d in c.systems if d.random):
        system = defended.system()
        judged = []
        with _global_state():
            for seed in (1, 2):
                random.seed(seed)
                np.random.seed(seed)
                torch.manual_seed(seed)
                judged.append(Judge(draws=3, seed=c.seed).labels(system, c.x, c.keys))
        with torch.no_grad():
            apart = system.logits(c.x, c.noise("judge"), 1) - system.logits(c.x, c.noise("other"), 1)
        tied = float((judged[0] != judged[1]).double().mean())
        frozen = float(apart.abs().max()) == 0
        ok = tied == 0 and not frozen
        message = (
            "noise follows the judge's keys alone"
            if ok
            else (
                f"defense noise is tied to the global RNG ({100 * tied:.0f} % of labels moved with it); judge draws are not independent"
                if tied
                else "other judge keys move no logit: the noise is too weak to change an image (std far below 1/255, no room to shift), or it is not drawn "
                "from the stage's noise argument; judge draws are not independent"
            )
        )
        answers.append(Answer(ok, tied, 0.0, message, defended.name, defense=defended.name))
    return answers


class _global_state:
    """Restores the global generators: a check leaves no trace."""

    def __enter__(self) -> None:
        self.state = random.getstate(), np.random.get_state(), torch.get_rng_state()

    def __exit__(self, *_: object) -> None:
        random.setstate(self.state[0])
        np.random.set_state(self.state[1])
        torch.set_rng_state(self.state[2])
