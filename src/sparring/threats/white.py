"""T6, T7, T10: who knows the defense."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from sparring.core.errors import SparringError
from sparring.core.noise import Noise
from sparring.core.ranges import Draws
from sparring.core.system import Combine, System, vjp, with_pullback
from sparring.core.victim import Access, Victim
from sparring.defenses.base import Defended
from sparring.threats.base import Options, Seat, View, threat_kind

MOST_ATOMS = 16  # of a stage's finite randomness: enumerated up to here, sampled beyond (PROTOCOL 1.2)


def through(defended: Defended, variants: dict[int, str], options: Options) -> Seat:
    """A seat with gradients through the defense, one draw a step."""
    system = defended.system(variants)
    victim = Victim((system,), Access.GRADIENT, 1, system.readout.combine, options.amp)
    stop = "never" if defended.random else "success"
    return Seat("", (View("default", victim),), Access.GRADIENT, stop, defended.system(), defended.name)


@threat_kind("white-exact", grants=Access.GRADIENT, deployed=True, shows="what autograd through the defense finds")
def white_exact(defended: Defended, others: Sequence[Defended], options: Options) -> Seat:
    """T6: gradients through the defense, autograd as is, one draw per step."""
    return through(defended, dict.fromkeys(range(len(defended.stages)), "exact"), options)


@threat_kind("white-identity", grants=Access.GRADIENT, deployed=True, shows="what the defense passed by hides")
def white_identity(
    defended: Defended, others: Sequence[Defended], options: Options, at: Literal["output", "x"] = "output"
) -> Seat:
    """T7: every stage's backward is the identity, evaluated at the stage's true output (BPDA-identity). ``at=x``: the logits are those of
    the defended image, the network's gradient is taken at the image itself, as the code of the channels paper does.
    """
    return by_identity(defended, options, at)


def by_identity(defended: Defended, options: Options, at: Literal["output", "x"]) -> Seat:
    """A seat whose every stage's backward is the identity, the network's gradient taken at the defended image or at the image itself."""
    seat = through(defended, dict.fromkeys(range(len(defended.stages)), "identity"), options)
    if at == "output" or not defended.stages:
        return seat
    if defended.noisy:
        raise SparringError(
            f"{defended.name}: a network that draws noise itself has no gradient at the image alone; leave x out"
        )
    (view,) = seat.views
    victim = replace(view.victim, systems=tuple(_at_the_image(s) for s in view.victim.systems))
    return replace(seat, views=(replace(view, victim=victim),), source=f"{seat.source}, gradients at the image")


def _at_the_image(system: System) -> System:
    """The same logits; their gradient is the bare network's, at the image before the defense."""

    def logits(x: Tensor, noise: Noise | None = None) -> Tensor:
        noise = noise or Noise.of(0, "unused", torch.zeros(len(x), dtype=torch.int64, device=x.device))
        with torch.no_grad():
            u = x.detach()
            for i, part in enumerate(system.parts):
                u = part.forward(u, noise.child(f"stage{i}"))
            z = system.network(u)
        return with_pullback(x, z, partial(vjp, system.network)) if x.requires_grad else z

    identity = hashlib.sha256(f"{system.id}|at the image".encode()).hexdigest()
    return replace(system, network=logits, parts=(), id=identity, noisy=system.has_noise)


@threat_kind(
    "adaptive",
    grants=Access.GRADIENT,
    over=("score", "twin", "oblivious", "transfer", "ensemble", "white-exact", "white-identity"),
    merges=True,
    pictured=True,
    deployed=True,
    adaptive=True,
    shows="what who knows everything but the noise leaves",
)
def adaptive(defended: Defended, others: Sequence[Defended], options: Options, draws: Draws | None = None) -> Seat:
    """T10: everything but the noise: every declared backward, EOT over ``draws``, each objective; worst case
    counts.
    """
    count = draws or options.draws
    views: list[View] = []
    for variant in defended.variants():
        system = variant.system
        rules: tuple[Combine, ...] = (system.readout.combine, "loss") if defended.random else (system.readout.combine,)
        for combine in rules:
            # a vote is attacked with at least as many draws as it has
            eot = max(count, system.readout.samples) if defended.random else 1
            system, eot = _exhaustive(system, eot)
            victim = Victim((system,), Access.GRADIENT, eot, combine, options.amp)
            name = f"{variant.name}/{combine}" if len(rules) > 1 else variant.name
            views.append(View(name, victim, variant.reparam))
    stop = "never" if defended.random else "success"
    return Seat(
        "",
        tuple(views),
        Access.GRADIENT,
        stop,
        defended.system(),
        f"{defended.name}, all declared surrogates",
    )


def _exhaustive(system: System, draws: int) -> tuple[System, int]:
    """A system with one finitely random stage goes through its alternatives: exactly those, or whole rounds of at least
    ``draws`` where other stages are random too (or the readout asks for more).
    """
    random = [p for p in system.parts if p.random]
    finite = [p for p in random if 0 < p.atoms <= MOST_ATOMS]
    if len(finite) != 1 or draws < 2:
        return system, draws
    atoms = finite[0].atoms
    rounds = 1 if len(random) == 1 and not system.noisy and system.readout.rule == "single" else -(-draws // atoms)
    return replace(system, exhaustive=True), rounds * atoms
