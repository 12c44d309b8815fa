"""T3 to T5: gradients of other models, strangers or twins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from torch import nn

from sparring.core.errors import SparringError
from sparring.core.ranges import Draws, Natural, Part
from sparring.core.system import Combine
from sparring.core.victim import Access, Victim
from sparring.defenses.base import Defended
from sparring.defenses.retrained import ghosts, install_masks
from sparring.threats.base import Options, Seat, View, threat_kind


@threat_kind(
    "transfer",
    grants=Access.GRADIENT,
    needs="models to attack (none may share weights with the target)",
    pictured=True,
    shows="what other models' points do",
)
def transfer(
    defended: Defended,
    others: Sequence[Defended],
    options: Options,
    source: Natural | None = None,
    mode: Literal["logits", "probs", "loss"] = "logits",
    ghost: Part = 1.0,
    draws: Draws | None = None,
) -> Seat:
    """T3: gradients of other models only. source=N takes the N-th of --sources alone; else all, combined by
    ``mode``. ``ghost``: below 1, units of their early feature maps are kept with this probability, anew in each of ``draws``
    draws per gradient: standard models that imitate defective ones (PROTOCOL 4.2, D3).
    """
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


@threat_kind(
    "ensemble",
    grants=Access.GRADIENT,
    needs="models to attack beside the target (none may share weights with it)",
    shows="what points of the classifier and other models together do, made in ignorance of the defense",
)
def ensemble(
    defended: Defended,
    others: Sequence[Defended],
    options: Options,
    mode: Literal["logits", "probs", "loss"] = "logits",
) -> Seat:
    """T1 and T3 together: gradients of the classifier without its defense and of the models of --sources, combined by ``mode``: the white test
    set of HGD (arXiv:1712.02976, sec. 4.1).
    """
    if any(o.id == defended.id for o in others):
        raise SparringError(
            "ensemble: a source has the same weights as the target, which is attacked anyway; leave it out"
        )
    systems = (defended.drop().system(), *(o.system() for o in others))
    victim = Victim(systems, Access.GRADIENT, 1, mode, options.amp)
    name = f"classifier without its defense and {len(others)} other model(s), {mode}"
    return Seat("", (View("default", victim),), Access.GRADIENT, "never", defended.system(), name)


@threat_kind(
    "twin",
    grants=Access.GRADIENT,
    needs="models of the same architecture, trained anew",
    over=("oblivious", "transfer"),
    shows="what points of a twin network do",
)
def twin(
    defended: Defended,
    others: Sequence[Defended],
    options: Options,
    phi: Literal["same", "new"] = "same",
    draws: Draws | None = None,
) -> Seat:
    """T4, T5: gradients of models of the same architecture behind the same defense, trained from another start
    (--sources); their mean loss. phi=same: they hold the target's own masks; phi=new: other masks of the same law.
    """
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
