"""P9 eps = 0 identity."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from sparring.attacks.engine import Batch, RunOptions
from sparring.checks.base import Answer, Context, check
from sparring.checks.controls import FunctionStage, context
from sparring.core.access import Access, offered
from sparring.core.noise import Noise
from sparring.core.victim import Victim
from sparring.evaluation.judge import Judge

STEPS = 2
IMAGES = 4  # a leak is no matter of one image; more are asked after the attacks, by the judge
Z99 = 2.576


class _Counter:
    """A defense with memory: it works for its first calls and then gives in. An attack merely has to call it."""

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        self.patience -= 1
        return x if self.patience > 0 else 1 - x


def _tiring() -> Context:
    return context(stages=(FunctionStage(_Counter(8)),))


@check("P9", "eps = 0 identity", "J", "FATAL", fires=_tiring, silent=partial(context))
def zero_budget(c: Context) -> list[Answer]:
    """Raised if: an attack with a budget of zero, put through pool and judge, does not return clean accuracy.

    Why: any difference is a leak: state in the model, a mode flip, a shared random generator, or counting lucky
    draws as hits.

    What to do: look for state that a forward pass changes, and for randomness that is not declared.
    """
    answers: list[Answer] = []
    judge = Judge(seed=c.seed)
    x, y, keys = c.x[:IMAGES], c.y[:IMAGES], c.keys[:IMAGES]
    for defended in c.systems:
        system = defended.system()
        clean = (judge.labels(system, x, keys) == y).double().mean(0)
        offers = offered(defended.network)
        for attack in (a.brief(STEPS) for a in c.attacks if Access.NONE < a.method.needs <= offers):
            victim = Victim((system,), attack.method.needs, 2 if system.random else 1)
            batch = Batch(x, y, keys, eps=torch.zeros(len(x)))
            points = attack.on(victim, batch, RunOptions("never", seed=c.seed))
            inside = (points.x - x).abs().flatten(1).amax(1) == 0
            back = torch.where(inside[:, None, None, None], points.x, x)
            change = (judge.labels(system, back, keys) == y).double().mean(0) - clean
            difference = float(change.mean())
            spread = float(change.std() / len(x) ** 0.5) if system.random else 0.0
            ok = abs(difference) <= Z99 * spread + 1e-9
            message = (
                "zero budget, clean accuracy"
                if ok
                else f"{attack.name} with zero budget changed accuracy by {100 * difference:+.1f} points (state, mode, RNG or any-iterate counting)"
            )
            answers.append(
                Answer(ok, difference, Z99 * spread, message, f"{defended.name} / {attack.name}", defense=defended.name)
            )
    return answers
