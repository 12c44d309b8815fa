"""Threat models: (defended system, pool of other models) -> a seat. Exact meanings: PROTOCOL 1.4, docs/threats.md.

A threat knows no attack; an attack knows no threat. The evaluation is their product, minus what the access rules
out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn

from sparring.core.errors import SparringError
from sparring.core.registry import THREATS, suggest
from sparring.core.spec import Spec, check_fields, parse, signature
from sparring.core.system import Combine, Reparametrisation, System
from sparring.core.victim import Access, Victim
from sparring.defenses.base import Defended
from sparring.defenses.retrained import ghosts, install_masks


@dataclass(frozen=True)
class View:
    """One way the attacker in a seat looks at its source; each view is a separate run, the pool keeps the best."""

    name: str
    victim: Victim
    reparam: Reparametrisation | None = None
    judge: System | None = None  # only where this view's points are judged on another system than the seat's
    draw: int = 0  # which draw of an averaged threat it is

    @property
    def id(self) -> str:
        """Everything about the source that can change an answer."""
        v = self.victim
        members = [(s.id, s.frozen, s.random, *([True] if s.exhaustive else [])) for s in v.systems]
        draws = v.draws if v.random else 1
        combine = v.combine if v.random or len(v.systems) > 1 else ""
        answers = v.answers if v.random else 1
        return repr((members, int(v.access), draws, combine, v.amp, answers, repr(self.reparam)))


@dataclass(frozen=True)
class Seat:
    """Where an attacker sits: the views it may use, when it stops, which system judges, and how results count.

    ``pooled``: its points join the closed pool of stronger threats. ``averaged``: the *mean* accuracy over its draws (a
    view's ``draw``) is reported, worst view within a draw; ``repeats``: how often an attack is drawn
    anew. ``judge``: the deployed system unless the threat says otherwise. ``queries``: what an image may cost. ``warm``: name
    of the threat whose points decision attacks begin at.
    """

    threat: str
    views: tuple[View, ...]
    access: Access
    stop: Literal["success", "never"]
    judge: System
    source: str
    pooled: bool = True
    averaged: bool = False
    repeats: int = 1
    queries: int | None = None
    warm: str = ""

    @property
    def judged_elsewhere(self) -> bool:
        """Is its judge another system than the deployed one? Then its cells hold clean rows of their own."""
        return not self.pooled and not self.averaged


@dataclass(frozen=True)
class Options:
    """What all seats share: EOT draws per gradient for adaptive seats, bfloat16 gradients."""

    draws: int = 8
    amp: bool = False


@dataclass(frozen=True)
class Threat:
    """A named threat with its fields filled. ``seat`` makes the seat; ``str()`` is its spec text."""

    name: str
    arguments: tuple[tuple[str, Any], ...]
    text: str

    def __str__(self) -> str:
        return self.text

    def seat(self, defended: Defended, others: Sequence[Defended] = (), options: Options | None = None) -> Seat:
        """The seat against ``defended``; ``others``: models that share no weights with it (transfer)."""
        made = THREATS[self.name](defended, others, options or Options(), **dict(self.arguments))
        return replace(made, threat=self.text)


MOST_ATOMS = 16  # of a stage's finite randomness: enumerated up to here, sampled beyond (PROTOCOL 1.2)
_CONTEXT = ("defended", "others", "options")


def threat(text: str) -> Threat:
    """A ``Threat`` from spec text: ``oblivious``, ``transfer:mode=probs``, ``noise:draws=20``."""
    spec: Spec = parse(text)
    known = signature(THREATS[spec.name], _CONTEXT)
    arguments = check_fields(spec.name, spec.values, known)
    return Threat(spec.name, tuple(sorted(arguments.items())), str(spec))


# Who may use whose points (PROTOCOL 1.5): anything on the right may use whatever is on its left, transitively.
_BELOW: dict[str, tuple[str, ...]] = {
    "decision": (),
    "score": ("decision",),
    "twin": ("oblivious", "transfer"),  # T1, T3 -> T4, T5
    "adaptive": ("score", "twin", "oblivious", "transfer", "white-exact", "white-identity", "reparam"),
    "known-w": ("adaptive", "fixed-w"),
}


def dominated(name: str) -> set[str]:
    """The names of all threats whose points a threat inherits, itself included."""
    found = {name}
    for below in _BELOW.get(name, ()):
        found |= dominated(below)
    return found


def _white(defended: Defended, variants: dict[int, str], options: Options) -> Seat:
    # one draw per step: "white-box through the defense, autograd as is"
    system = defended.system(variants)
    victim = Victim((system,), Access.GRADIENT, 1, system.readout.combine, options.amp)
    stop = "never" if defended.random else "success"
    return Seat("", (View("default", victim),), Access.GRADIENT, stop, defended.system(), defended.name)


@THREATS("noise")
def noise(defended: Defended, others: Sequence[Defended], options: Options, draws: int = 10) -> Seat:
    """T0: no access; random noise, ``draws`` fresh draws per image, mean accuracy. Nothing is pooled."""
    victim = Victim((defended.system(),), Access.NONE)
    return Seat(
        "",
        (View("default", victim),),
        Access.NONE,
        "never",
        defended.system(),
        "none",
        pooled=False,
        averaged=True,
        repeats=draws,
    )


@THREATS("oblivious")
def oblivious(defended: Defended, others: Sequence[Defended], options: Options, drop: str = "") -> Seat:
    """T1: gradients of the classifier without its defense; run to the end; judged with the defense. ``drop``: the one
    stage the attacker does not know of (``drop=shift``); default: all of them.
    """
    unknown = {i for i, s in enumerate(defended.stages) if s.name == drop}
    if drop and defended.stages and not unknown:
        raise SparringError(
            f"oblivious: {defended.name} has no stage {drop!r}{suggest(drop, [s.name for s in defended.stages])}"
        )
    bare = defended.drop(unknown if drop else None)
    victim = Victim((bare.system(),), Access.GRADIENT, amp=options.amp)
    return Seat(
        "",
        (View("default", victim),),
        Access.GRADIENT,
        "never",
        defended.system(),
        f"{defended.name} without {drop}" if drop else "classifier without its defense",
    )


@THREATS("bait")
def bait(defended: Defended, others: Sequence[Defended], options: Options) -> Seat:
    """T2: gradients through the defense, which is then removed: judged on the bare classifier. Not pooled."""
    seat = _white(defended, {}, options)
    return replace(seat, stop="never", judge=defended.drop().system(), pooled=False)


@THREATS("transfer")
def transfer(
    defended: Defended,
    others: Sequence[Defended],
    options: Options,
    source: int | None = None,
    mode: Literal["logits", "probs", "loss"] = "logits",
    ghost: float = 1.0,
    draws: int | None = None,
) -> Seat:
    """T3: gradients of other models only. source=N takes the N-th of --sources alone; else all, combined by
    ``mode``. ``ghost``: below 1, units of their early feature maps are kept with this probability, anew in each of ``draws``
    draws per gradient: standard models that imitate defective ones (PROTOCOL 4.2, D3).
    """
    if not others:
        raise SparringError(
            "threat transfer needs models to attack: pass --sources SPEC[,SPEC...] (none may share weights with the target)"
        )
    if source is not None and not 0 <= source < len(others):
        raise SparringError(f"transfer: source={source}, but there are {len(others)} sources (0..{len(others) - 1})")
    chosen = list(others) if source is None else [others[source]]
    if any(o.id == defended.id for o in chosen):
        raise SparringError("transfer: a source has the same weights as the target; that is the oblivious threat")
    combine: Combine = mode
    systems, eot = tuple(o.system() for o in chosen), 1
    if ghost != 1:
        systems, eot = tuple(ghosts(s, ghost) for s in systems), draws or options.draws
    victim = Victim(systems, Access.GRADIENT, eot, combine, options.amp)
    name = f"{len(chosen)} other model(s), {mode}" + (f", units kept {ghost:g}" if ghost != 1 else "")
    return Seat("", (View("default", victim),), Access.GRADIENT, "never", defended.system(), name)


@THREATS("white-exact")
def white_exact(defended: Defended, others: Sequence[Defended], options: Options) -> Seat:
    """T6: gradients through the defense, autograd as is, one draw per step."""
    return _white(defended, dict.fromkeys(range(len(defended.stages)), "exact"), options)


@THREATS("white-identity")
def white_identity(defended: Defended, others: Sequence[Defended], options: Options) -> Seat:
    """T7: every stage's backward is the identity, evaluated at the stage's true output (BPDA-identity)."""
    return _white(defended, dict.fromkeys(range(len(defended.stages)), "identity"), options)


@THREATS("adaptive")
def adaptive(defended: Defended, others: Sequence[Defended], options: Options, draws: int | None = None) -> Seat:
    """T10: everything but the noise: every declared backward, EOT over ``draws``, each objective; worst case
    counts.
    """
    count = draws or options.draws
    views = []
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


def _frozen(system: System, w: int) -> System:
    """The system with its randomness fixed at draw ``w``."""
    return replace(system, frozen=w, id=f"{system.id}/w{w}")


@THREATS("fixed-w")
def fixed_w(defended: Defended, others: Sequence[Defended], options: Options, w: int = 0) -> Seat:
    """T13 (diagnostic): the defense's randomness is frozen at draw ``w`` for attack and judge alike."""
    frozen = _frozen(defended.system(), w)
    victim = Victim((frozen,), Access.GRADIENT, amp=options.amp)
    return Seat(
        "",
        (View("default", victim),),
        Access.GRADIENT,
        "success",
        frozen,
        f"{defended.name} at w={w}",
        pooled=False,
    )


@THREATS("known-w")
def known_w(defended: Defended, others: Sequence[Defended], options: Options, draws: int = 10) -> Seat:
    """T14 (diagnostic): the attacker knows the draw that the judge will make (a leaked seed): ``draws`` times, mean
    accuracy. The lower envelope of every claim that rests on randomness.
    """
    judge, views = defended.system(), []
    for w in range(draws if defended.random else 1):
        for variant in defended.variants():
            victim = Victim((_frozen(variant.system, w),), Access.GRADIENT, 1, judge.readout.combine, options.amp)
            views.append(View(variant.name, victim, variant.reparam, _frozen(judge, w), w))
    source = f"{defended.name} with the judge's own draws"
    return Seat("", tuple(views), Access.GRADIENT, "success", judge, source, pooled=False, averaged=True)


@THREATS("twin")
def twin(
    defended: Defended,
    others: Sequence[Defended],
    options: Options,
    phi: Literal["same", "new"] = "same",
    draws: int | None = None,
) -> Seat:
    """T4, T5: gradients of models of the same architecture behind the same defense, trained from another start
    (--sources); their mean loss. phi=same: they hold the target's own masks; phi=new: other masks of the same law.
    """
    if not others:
        raise SparringError("threat twin needs models of the same architecture, trained anew: pass --sources SPEC")
    shape = _shape(defended.network)
    for other in others:
        if other.id == defended.id:
            raise SparringError("twin: a source has the same weights as the target; that is the adaptive threat")
        if _shape(other.network) != shape:
            raise SparringError("twin: a source has another architecture than the target; that is the transfer threat")
    masks = install_masks(defended.network)
    chosen = [o for o in others if (install_masks(o.network) == masks) == (phi == "same" or not masks)]
    if not chosen:
        kept = "other masks than" if phi == "same" else "the same masks as"
        raise SparringError(f"twin:phi={phi}: every source has {kept} the target")
    systems = tuple(replace(defended, network=o.network, id=o.id).system() for o in chosen)
    eot = draws or options.draws if defended.random else 1
    victim = Victim(systems, Access.GRADIENT, eot, "loss", options.amp)
    source = f"{len(chosen)} twin(s) of {defended.name}, phi {phi}"
    return Seat("", (View("default", victim),), Access.GRADIENT, "never", defended.system(), source)


def _shape(network: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(p.shape)) for name, p in network.named_parameters()]


@THREATS("score")
def score(
    defended: Defended, others: Sequence[Defended], options: Options, queries: int = 1000, answers: int = 1
) -> Seat:
    """T11: scores of the deployed system, at most ``queries`` draws of it per image. ``answers``: draws of a random system
    averaged into one score.
    """
    return _black_box(defended, Access.SCORES, queries, answers)


@THREATS("decision")
def decision(
    defended: Defended,
    others: Sequence[Defended],
    options: Options,
    queries: int = 1000,
    answers: int = 5,
    warm: str = "",
) -> Seat:
    """T12: labels of the deployed system, at most ``queries`` draws of it per image. ``answers``: draws of a random system
    whose majority is believed, so that no point rests on one lucky draw. ``warm``: a threat of the same evaluation, such as
    transfer: attacks begin at the points of its first attack where these fool the target (PROTOCOL 4.2, D6).
    """
    return replace(_black_box(defended, Access.LABEL, queries, answers), warm=warm)


def _black_box(defended: Defended, access: Access, queries: int, answers: int) -> Seat:
    if min(queries, answers) < 1:
        raise SparringError("queries and answers must be at least 1")
    system = defended.system()
    victim = Victim((system,), access, answers=answers)
    stop = "never" if defended.random else "success"
    return Seat("", (View("default", victim),), access, stop, system, defended.name, queries=queries)
