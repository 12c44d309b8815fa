"""X5 large budget."""

from __future__ import annotations

import math

import torch
from torch import nn

from sparring.attacks.engine import Batch, RunOptions
from sparring.checks.base import Answer
from sparring.checks.controls import linear_net
from sparring.checks.thresholds import thresholds
from sparring.checks.trials import active_check, toy_trial
from sparring.evaluation.run.trial import Trial

LARGE, MOST = thresholds("X5", "eps", "most")


class _Stuck(nn.Module):
    """A linear classifier whose logits are computed without gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.network = linear_net()
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x.round().detach())


@active_check("X5", "large budget", "A", "FAIL", 41, fires=lambda: toy_trial(model=_Stuck()), silent=toy_trial)
def large_budget(t: Trial) -> list[Answer]:
    """Raised if: in a ball of linf .5 (l2: half of the box's diagonal) the attack leaves more than 5 % of the survivors, and of other images
    the system has right.

    Why: there every image can be turned into one that does not depend on its class; what is left is the attack's failure.

    What to do: look at the attack's gradients (S1, P10) and its steps; its small-budget number says nothing either. Source: Carlini et al.,
    arXiv:1902.06705, sec. 3.3.
    """
    eps = LARGE if t.norm == "linf" else LARGE * math.sqrt(t.x[0].numel())
    attack = t.attack.with_eps(eps)
    right = torch.ones(len(t.x), dtype=torch.bool, device=t.x.device)
    for victim in t.victims.values():
        left = right.nonzero()[:, 0]
        if not len(left):
            break
        outcome = attack.on(
            victim,
            Batch(t.x[left], t.y[left], t.keys[left]),
            RunOptions("never" if t.random else "success", seed=t.seed),
        )
        score = t.judge.score(t.deployed, outcome.x, t.y[left], t.keys[left])
        right[left] = score.p_select > 0.5
    share = float(right.double().mean())
    text = f"in a ball of {t.norm} {eps:.3g} {int(right.sum())} of {len(right)} images stay right"
    if share > MOST:
        text += ": the attack is the limit, not the model"
    return [Answer(share <= MOST, share, MOST, text)]
