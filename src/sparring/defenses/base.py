"""``Stage``, ``Surrogate``, ``Defense``, ``Defended``: a defended system that carries its own adaptive attack."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import MISSING, dataclass, field, is_dataclass, replace
from functools import cached_property, partial
from types import FunctionType
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sparring.core.code import code_of, code_of_network
from sparring.core.errors import SparringError, one_line
from sparring.core.noise import Noise, image_keys
from sparring.core.ranges import Draws
from sparring.core.registry import DEFENSES
from sparring.core.shown import many, shown
from sparring.core.spec import build, check_ranges, entry_of, parse, registered_name, signature, spec_text, split
from sparring.core.system import Part, Readout, Reparametrisation, Rule, System
from sparring.models.classifier import weights_hash
from sparring.models.repair import Mending, repaired_stage

Backward = Literal["exact", "identity"] | nn.Module
REPAIRED = "repaired"  # the variant that nobody declared
ALWAYS: Mapping[str, Backward] = {"exact": "exact", "identity": "identity"}  # what can be tried on any stage


@dataclass(frozen=True, kw_only=True)
class Surrogate:
    """What an attacker may use as a stage's gradient. Required of every stage: leaving it out is a TypeError.

    ``backward``: variants by name, the default first: "exact" (autograd is right), "identity" or a stand-in module
    (BPDA). ``random``: fresh noise at every call (checked). ``why``: one sentence, printed in the report. ``atoms``:
    a random stage does one of so many equally likely things, chosen by ``noise.choice``; an informed attacker goes through all of
    them (PROTOCOL 1.2: at most 16). 0: not finitely many.
    """

    backward: Mapping[str, Backward]
    random: bool
    why: str
    atoms: int = 0

    @property
    def default(self) -> str:
        return next(iter(self.backward))


class Stage(nn.Module):
    """Images in [0,1] (B,C,H,W) -> images, same shape. ``forward`` is exactly what is deployed.

    ``reparametrisations``: changes of variable x' = h(v) that an informed attacker tries (PROTOCOL T9), by name.
    """

    def __init__(
        self,
        name: str,
        surrogate: Surrogate,
        reparametrisations: Mapping[str, Reparametrisation] | None = None,
    ) -> None:
        super().__init__()
        self.name, self.surrogate = name, surrogate
        self.reparametrisations = dict(reparametrisations or {})
        self.register_forward_pre_hook(_on_a_copy)
        self.eval()

    def forward(self, x: Tensor, noise: Noise) -> Tensor:
        raise NotImplementedError

    def part(self, variant: str | None = None) -> Part:
        """The stage as an attacker sees it, with one of its declared backwards, or "exact" or "identity" though it declares neither."""
        backwards: dict[str, Backward] = {**ALWAYS, **self.surrogate.backward}
        backward = backwards[variant or self.surrogate.default]
        return Part(self.name, self, backward, self.surrogate.random, self.surrogate.atoms)

    @cached_property
    def fingerprint(self) -> str:
        """What the stage has learned, and what its code says if it is not ours, as a hash; empty where there is neither."""
        return (weights_hash(self) if self.state_dict() else "") + code_of_network(self)


def _on_a_copy(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[object, ...]:
    """A stage may write into its input (``x.clamp_()``): that is not the attacker's point."""
    return given[0].clone(), *given[1:]


@dataclass(frozen=True)
class Variant:
    """One way an informed attacker differentiates a defended system: a system and perhaps a change of variable."""

    name: str
    system: System
    reparam: Reparametrisation | None = None


@dataclass(frozen=True)
class Defended:
    """A classifier behind stages, with its deployed readout: what is evaluated. ``id`` fingerprints the classifier.
    ``bare``: the classifier without a defense that is built into ``network``, where there is one. ``noisy``: the network itself
    draws, it is called as network(x, noise). ``repaired``: the network with another gradient, where its own is stopped, blunted or
    replaced (models/repair.py): one more way to attack it. ``decider``: with the gradient of what decides in it, where that is not what its
    scores show: asked where a check finds that they cannot be believed.
    """

    network: nn.Module
    stages: tuple[Stage, ...] = ()
    readout: Readout = field(default_factory=Readout)
    name: str = "none"
    id: str = ""
    bare: nn.Module | None = None
    noisy: bool = False
    repaired: nn.Module | None = None
    decider: nn.Module | None = None

    def __repr__(self) -> str:
        return shown(self, self.name, many(len(self.stages), "stage"), "random" if self.random else "deterministic")

    @property
    def random(self) -> bool:
        return self.noisy or any(s.surrogate.random for s in self.stages)

    def system(self, variants: Mapping[int, str] | None = None) -> System:
        """The system with each stage's default backward, except for stage numbers in ``variants``.

        ``variants`` with the value "exact" or "identity" may override what a stage declares (white-exact,
        white-identity).
        """
        chosen = dict(variants or {})
        parts: list[Part] = []
        for i, stage in enumerate(self.stages):
            name = chosen.get(i, stage.surrogate.default)
            parts.append(stage.part(name))
        label = "+".join(f"{s.name}[{chosen.get(i, s.surrogate.default)}]" for i, s in enumerate(self.stages)) or "none"
        learned = "".join(s.fingerprint for s in self.stages)
        identity = hashlib.sha256(f"{self.id}|{self.name}|{label}|{self.readout}{learned}".encode()).hexdigest()
        return System(self.network, tuple(parts), self.readout, label, identity, noisy=self.noisy)

    def drop(self, stages: set[int] | None = None) -> Defended:
        """drop(D,R): the same classifier without some stages (default: without all of them, and a plain readout)."""
        if stages is None:
            bare = self.bare
            return Defended(self.network, id=self.id) if bare is None else Defended(bare, id=weights_hash(bare))
        kept = tuple(s for i, s in enumerate(self.stages) if i not in stages)
        name = "+".join(s.name for s in kept) or "none"
        readout = self.readout if self.noisy or any(s.surrogate.random for s in kept) else Readout()
        return replace(self, stages=kept, name=f"{name}/{self.readout.rule}", readout=readout)

    def variants(self) -> list[Variant]:
        """The default backward, then every other declared backward and reparametrisation, one stage at a time."""
        variants = [Variant("default", self.system())]
        for i, stage in enumerate(self.stages):
            others = [b for b in list(stage.surrogate.backward)[1:] if b != REPAIRED]
            variants += [Variant(f"{stage.name}={b}", self.system({i: b})) for b in others]
        for name, reparam in self.stages[0].reparametrisations.items() if self.stages else ():
            variants.append(Variant(f"{self.stages[0].name}={name}", self.system(), reparam))
        mended = {i: REPAIRED for i, s in enumerate(self.stages) if REPAIRED in s.surrogate.backward}
        if mended or self.repaired is not None:
            system = self.system(mended)
            system = replace(system, network=self.repaired or system.network, id=f"{system.id}|{REPAIRED}")
            variants.append(Variant(REPAIRED, system))
        return variants

    def mended(self, x: Tensor) -> Defended:
        """The same with what its gradients lack at images ``x`` (B,C,H,W): for the network, and for stages with no backward but autograd's."""

        def through(u: Tensor, stage: Stage, number: int) -> Tensor:
            noise = Noise.of(0, "repair", image_keys([str(i) for i in range(len(u))]).to(u.device))
            return stage(u, noise.child(f"stage{number}"))

        stages: list[Stage] = []
        for i, stage in enumerate(self.stages):
            declared = dict(stage.surrogate.backward)
            plain = list(declared.values()) == ["exact"] and not stage.surrogate.random
            if plain and (stand_in := repaired_stage(partial(through, stage=stage, number=i), x)) is not None:
                stage = copy(stage)
                stage.surrogate = replace(stage.surrogate, backward={**declared, REPAIRED: stand_in})
            stages.append(stage)
            with torch.no_grad():
                x = through(x, stage, i)
        if self.noisy:
            return replace(self, stages=tuple(stages))
        mending = Mending(self.network, x)
        return replace(self, stages=tuple(stages), repaired=mending.repaired(), decider=mending.decider())


@runtime_checkable
class Defense(Protocol):
    """A frozen config that installs itself behind what is already there (the last installed stage runs last)."""

    def install(self, system: Defended) -> Defended: ...


DefenseLike = str | Defense | nn.Module | Callable[[Tensor], Tensor]  # spec text, a config, or the user's own code


@dataclass(frozen=True)
class InputDefense:
    """A defense that is one stage before the classifier. Subclasses write ``stage``."""

    spec_name: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Its fields are within their ranges. A defense with a check of its own calls this one first."""
        check_ranges(registered_name(type(self)) or type(self).__name__, self)

    def stage(self) -> Stage:
        raise NotImplementedError

    def install(self, system: Defended) -> Defended:
        return replace(system, stages=(*system.stages, self.stage()), name=joined(system.name, spec_text(self)))


@dataclass(frozen=True)
class Composition:
    """Several defenses, first to last, as one: ``fc:rate=0.5+gauss:std=0.02``. ``str()`` is its spec text."""

    parts: tuple[Defense, ...]

    def __str__(self) -> str:
        return "+".join(spec_text(p) for p in self.parts)

    def __repr__(self) -> str:
        return shown(self, str(self))

    def install(self, system: Defended) -> Defended:
        for part in self.parts:
            system = part.install(system)
        return system


@dataclass(frozen=True)
class OwnDefense:
    """A user's module or function, images in [0,1] (B,C,H,W) -> images, as a defense. It is tried as deterministic with autograd's own
    gradient; preflight says (P3, P10) where it must be declared as a ``Stage`` with noise or another backward.
    """

    function: Callable[[Tensor], Tensor]

    def __str__(self) -> str:
        owner = self.function if isinstance(self.function, FunctionType) else type(self.function)
        return owner.__qualname__

    def install(self, system: Defended) -> Defended:
        return replace(
            system, stages=(*system.stages, OwnStage(str(self), self.function)), name=joined(system.name, str(self))
        )


DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
MOODY = (*DROPOUTS, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)  # what does another thing in train mode


class OwnStage(Stage):
    """A function of images as a stage; see ``OwnDefense``."""

    def __init__(self, name: str, function: Callable[[Tensor], Tensor]) -> None:
        why = "the user's own code, taken for deterministic and differentiable as it is"
        super().__init__(name, Surrogate(backward={"exact": "exact"}, random=False, why=why))
        if isinstance(function, nn.Module):
            if moody := [type(m).__name__ for m in function.modules() if m.training and isinstance(m, MOODY)]:
                raise SparringError(
                    f"defense {name}: its {moody[0]} is in train mode; call eval() first, or declare a random stage"
                )
            function = function.eval().requires_grad_(False)
        self.function = function

    def forward(self, x: Tensor, noise: Noise) -> Tensor:
        try:
            return self.function(x)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except (Exception, SystemExit) as error:
            raise SparringError(
                f"defense {self.name} cannot take images of shape {tuple(x.shape)}: {one_line(error)}"
            ) from None

    @cached_property
    def fingerprint(self) -> str:
        """What it has learned and what its code says: another function of the same name is another defense."""
        own = code_of_network(self.function) if isinstance(self.function, nn.Module) else code_of(self.function)
        return hashlib.sha256(f"{weights_hash(self)}{own}".encode()).hexdigest()


def name_of(defense: DefenseLike) -> str:
    """What a defense is called in results: its spec text, or the name of the user's own class or function."""
    if isinstance(defense, str):
        return defense
    if isinstance(defense, nn.Module | FunctionType):
        return str(OwnDefense(defense))
    if not isinstance(defense, Defense) or isinstance(defense, type):
        raise _none(defense)
    return str(defense) if isinstance(defense, Composition | OwnDefense) else spec_text(defense)


def _none(given: object) -> SparringError:
    return SparringError(
        f"{given!r} is no defense: give a spec text, a config with install(), a module, or a function (def or lambda); of a class, an instance"
    )


def defense(text: DefenseLike) -> Defense:
    """A defense from spec text: names joined by ``+``; a readout (vote, mean-prob, mean-logit) comes last. Or a config of your own, a
    module or a function (see ``OwnDefense``).
    """
    if isinstance(text, nn.Module | FunctionType):
        return OwnDefense(text)
    if isinstance(text, Defense) and not isinstance(text, type):
        for part in text.parts if isinstance(text, Composition) else (text,):
            if is_dataclass(part):
                check_ranges(registered_name(type(part)) or type(part).__name__, part)
        return text
    if not isinstance(text, str):
        raise _none(text)
    if not text.strip():
        raise SparringError("empty defense spec; write none, or NAME:field=value joined by +")
    parts = [_named(p) for p in split(text, "+")]
    if len(parts) > 1 and any(isinstance(p, NoDefense) for p in parts):
        raise SparringError(
            f"{text}: none is the undefended model, no stage; leave it out (it is always evaluated, too)"
        )
    readouts = [i for i, p in enumerate(parts) if isinstance(p, ReadoutDefense)]
    if len(readouts) > 1 or (readouts and readouts[0] != len(parts) - 1):
        raise SparringError(f"{text}: a readout (vote, mean-prob, mean-logit) comes once and last")
    return Composition(tuple(parts))


def _named(text: str) -> Defense:
    """What the spec of one part names: something that installs itself. A function of images is refused by name, it has no spec."""
    entry, spec = entry_of(DEFENSES, parse(text))
    if isinstance(entry, FunctionType) and "" not in spec.values:
        known = signature(entry)
        lacks = [k for k, (_, default) in known.items() if default is MISSING and k not in spec.values]
        if len(lacks) == 1 and (known[lacks[0]][0] is Tensor or lacks[0] not in entry.__annotations__):
            raise SparringError(
                f"{text}: {entry.__name__} is a function of {lacks[0]}; a function of images is a defense only in Python "
                f"(defenses=[{entry.__name__}]): name a class with install(), or a factory, whose fields are given as ,{lacks[0]}=..."
            )
    config: object = build(DEFENSES, text)
    if not isinstance(config, Defense):
        raise SparringError(
            f"{text}: {type(config).__name__} has no install(), so it is no defense; make it a frozen dataclass that inherits "
            "sparring.defenses.base.InputDefense and has stage(), see docs/plugins.md"
        )
    return config


def joined(before: str, name: str) -> str:
    """The name of a system after one more defense."""
    return name if before == "none" else f"{before}+{name}"


@DEFENSES("none")
@dataclass(frozen=True)
class NoDefense:
    """The undefended classifier: the baseline of every evaluation."""

    def install(self, system: Defended) -> Defended:
        return system


@dataclass(frozen=True)
class ReadoutDefense:
    """A rule over several draws of a random system, decided together."""

    spec_name: ClassVar[str] = ""
    rule: ClassVar[Rule] = "vote"
    samples: Draws = 16

    def __post_init__(self) -> None:
        check_ranges(self.spec_name, self)

    def install(self, system: Defended) -> Defended:
        if not system.random:
            raise SparringError(f"{self.spec_name}: {system.name} is deterministic, there is nothing to average")
        return replace(system, readout=Readout(self.rule, self.samples), name=joined(system.name, spec_text(self)))


@DEFENSES("vote")
@dataclass(frozen=True)
class Vote(ReadoutDefense):
    """Plurality over ``samples`` draws; ties go to the larger mean probability (channels paper, sec. 3.1)."""


@DEFENSES("mean-prob")
@dataclass(frozen=True)
class MeanProb(ReadoutDefense):
    """The class with the largest mean probability over ``samples`` draws."""

    rule: ClassVar[Rule] = "mean-prob"


@DEFENSES("mean-logit")
@dataclass(frozen=True)
class MeanLogit(ReadoutDefense):
    """The class with the largest mean logit over ``samples`` draws."""

    rule: ClassVar[Rule] = "mean-logit"
