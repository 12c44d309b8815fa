"""T6, T7, T10: who knows the defense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sparring.core.ranges import Draws
from sparring.core.system import Combine, System
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
def white_identity(defended: Defended, others: Sequence[Defended], options: Options) -> Seat:
    """T7: every stage's backward is the identity, evaluated at the stage's true output (BPDA-identity)."""
    return through(defended, dict.fromkeys(range(len(defended.stages)), "identity"), options)


@threat_kind(
    "adaptive",
    grants=Access.GRADIENT,
    over=("score", "twin", "oblivious", "transfer", "white-exact", "white-identity"),
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
