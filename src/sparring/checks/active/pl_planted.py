"""PL planted target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from sparring.attacks.attack import Attack, attack
from sparring.attacks.engine import Batch, RunOptions
from sparring.checks.base import Answer
from sparring.checks.controls import FunctionStage, eight_levels
from sparring.checks.thresholds import thresholds
from sparring.checks.trials import active_check, toy_trial
from sparring.core.geometry import Ball, block_signs, distance, per_row
from sparring.core.noise import Noise
from sparring.core.system import Readout
from sparring.core.victim import Access
from sparring.evaluation.run.trial import Trial

(LEAST,) = thresholds("PL", "least")
DRAWS = 20
SEARCH = {  # by scores alone
    "linf": "square:steps=499",
    "l2": "square:steps=499",
    "l1": "growing_noise:steps=100",
    "l0": "local_search:steps=100",
}
BLOCKS = (1, 4, 7)  # sides of the blocks of corners, in pixels


@active_check(
    "PL",
    "planted target",
    "A",
    "FAIL",
    61,
    fires=lambda: toy_trial((FunctionStage(eight_levels),)),
    silent=toy_trial,
)
def planted_target(t: Trial) -> list[Answer]:
    """Raised if: on more than 10 % of up to 32 images the attack, cut to 20 steps, cannot raise a random combination of the logits above
    the best of 20 random points of the ball by half their standard deviation. One view of the attacker that can is enough.

    Why: the combination is planted, so points that reach it exist; an attack that does not find them cannot see through this system,
    and its failure on the real goal says nothing. No features, no training, and the head is seen.

    What to do: as for S1. Source: this project's VERDICT; it replaces the binarization test (Zimmermann et al., arXiv:2206.13991).
    """
    best: Answer | None = None
    for name in t.victims:
        answer = _of(t, name)
        if best is None or (answer.ok, answer.value) > (best.ok, best.value):
            best = answer
        if best.ok:
            break
    return [best] if best is not None else []


def _of(t: Trial, view: str) -> Answer:
    (system,) = t.victims[view].systems
    planted = replace(
        system, frozen=t.seed, noisy=True, readout=Readout(), network=_Planted(system.network, system.noisy, t.seed)
    )
    frozen = replace(t.victims[view], systems=(planted,), draws=1, answers=1)
    noise = Noise.of(0, "planted-points", t.keys)
    values = torch.stack([frozen.logits(x, noise)[:, 0] for x in _points(t)], 1)
    threshold, spread = values.amax(1), values.std(1)
    alive = spread > 1e-7 * values.abs().amax(1).clamp_min(1e-30)
    goal = replace(planted, network=_Raised(planted.network, t.keys, threshold + spread / 2))
    label = torch.zeros_like(t.y)
    outcome = t.attack.on(
        replace(frozen, systems=(goal,)), Batch(t.x, label, t.keys), RunOptions("success", seed=t.seed)
    )

    def reaches(x: Tensor) -> Tensor:
        return (frozen.logits(x, noise)[:, 0] > threshold + spread / 2) & alive

    reached = reaches(outcome.x)
    possible = torch.ones_like(reached)
    if float(reached.double().mean()) < LEAST:  # a goal that nothing reaches speaks against no attack
        search = _search(t.attack)
        scores = replace(frozen, systems=(goal,), access=Access.SCORES)
        searched = reaches(search.on(scores, Batch(t.x, label, t.keys), RunOptions("success", seed=t.seed)).x)
        possible = reached | searched | ~alive
    count, asked = int(reached.sum()), int(possible.sum())
    share = count / max(asked, len(t.x) / 2)  # a few goals within reach are no proof that the attack sees
    text = f"the attack reaches {count} of {asked} planted targets"
    if asked < len(t.x):
        text += f" ({len(t.x) - asked} more are out of reach of a search by scores, too)"
    if share < LEAST:
        text += ": it cannot see through this system"
    return Answer(share >= LEAST, share, LEAST, text)


def _search(chosen: Attack) -> Attack:
    """By scores alone, in the ball of ``chosen``."""
    return attack(f"{SEARCH[chosen.norm]},norm={chosen.norm},eps={chosen.budget!r}")


class _Planted(nn.Module):
    """(B,1) a combination of the logits, drawn per image: mean 0, length 1. Called with noise, which says which image it is."""

    def __init__(self, network: Callable[..., Tensor], noisy: bool, seed: int) -> None:
        super().__init__()
        self.network, self.noisy, self.seed = network, noisy, seed

    def forward(self, x: Tensor, noise: Noise) -> Tensor:
        z = self.network(x, noise) if self.noisy else self.network(x)
        w = Noise.of(self.seed, "planted", noise.image).normal("w", z.shape[1:]).to(z.dtype)
        w = w - w.mean(1, keepdim=True)
        return (z * w).sum(1, keepdim=True) / w.norm(dim=1, keepdim=True)


class _Raised(nn.Module):
    """(B,2): zero, and how far a planted combination lies above its image's threshold: label 0 is lost where it does."""

    def __init__(self, planted: Callable[..., Tensor], keys: Tensor, thresholds: Tensor) -> None:
        super().__init__()
        self.planted = planted
        self.keys, order = keys.sort()
        self.thresholds = thresholds[order]

    def forward(self, x: Tensor, noise: Noise) -> Tensor:
        above = self.planted(x, noise)[:, 0] - self.thresholds[torch.searchsorted(self.keys, noise.image)]
        return torch.stack([torch.zeros_like(above), above], 1)


def _points(t: Trial) -> list[Tensor]:
    """Random points of the ball: half uniform, half corners in blocks."""
    eps = torch.full((len(t.x),), t.eps, dtype=t.x.dtype, device=t.x.device)
    ball, points = Ball(t.norm, eps), []
    for number in range(DRAWS):
        noise = Noise.of(t.seed, f"planted-point{number}", t.keys)
        if number % 2:
            signs = block_signs(t.x, noise, BLOCKS[(number // 2) % len(BLOCKS)])
            points.append(ball.project(t.x + per_row(eps / distance(signs, t.norm), signs) * signs, t.x))
        else:
            points.append(ball.random(t.x, noise))
    return points
