"""P12 stage is active."""

from __future__ import annotations

import torch

from sparring.checks.base import Answer, Context, check
from sparring.checks.controls import context, linear_net
from sparring.checks.thresholds import thresholds
from sparring.defenses.base import defense

(SHARE,) = thresholds("P12", "share")


def _depth(bits: int) -> Context:
    net = linear_net()
    system = defense(f"cd:bits={bits}").install(context(net).systems[0])
    return context(net, systems=[system])


@check("P12", "stage is active", "J", "FAIL", fires=lambda: _depth(8), silent=lambda: _depth(3))
def active_stage(c: Context) -> list[Answer]:
    """Raised if: a stage changes fewer than 1 % of the inputs it sees.

    Why: a result for the defense would be a result for its absence (color depth of 8 bits on 8-bit images).

    What to do: check the stage's strength and its place in the chain.
    """
    answers: list[Answer] = []
    for defended in c.systems:
        system, noise, u = defended.system(), c.noise(), c.x
        with torch.no_grad():
            full = system.logits(c.x, noise, 1)[:, 0]
            for i, part in enumerate(system.parts):
                after = part.forward(u, noise.child(f"stage{i}"))
                changed = float(((after - u).abs().flatten(1).amax(1) > 1e-6).double().mean())
                without = defended.drop({i}).system()
                logits = without.logits(c.x, noise, 1)[:, 0]
                accuracy = float((logits.argmax(1) == c.y).double().mean())
                moved = float(((full - logits).abs().amax(1) > 1e-6).double().mean())
                ok = changed >= SHARE
                fact = f"changes {100 * changed:.0f} % of inputs and {100 * moved:.0f} % of logits; clean accuracy without it {100 * accuracy:.1f} %"
                message = fact if ok else f"stage {i} ({part.name}) does nothing on this data: it {fact}"
                answers.append(
                    Answer(ok, changed, SHARE, message, f"{defended.name} / {part.name}", defense=defended.name)
                )
                u = after
    return answers
