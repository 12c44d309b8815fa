"""``Planned``: what an evaluation is about and what it will do, loaded and checked, before anything is attacked."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, NamedTuple

from sparring.attacks.attack import Attack, attack
from sparring.checks.active.g03_eot import draws_that_agree
from sparring.conduct.engine import Engine
from sparring.conduct.inventory import read_inventory, write_inventory
from sparring.conduct.shards import Shard
from sparring.conduct.workers import cut
from sparring.core.access import Access, offered
from sparring.core.code import code_of
from sparring.core.columns import Json
from sparring.core.errors import SparringError
from sparring.core.registry import THREATS
from sparring.data.inventory import Inventory
from sparring.data.sources import load_data
from sparring.defenses.base import DefenseLike, defense, name_of
from sparring.evaluation.judge import Judge
from sparring.evaluation.plan.budgets import refuse_idle, refuse_large, with_budgets
from sparring.evaluation.plan.grid import Plan, make_plan
from sparring.evaluation.plan.partition import Partition
from sparring.evaluation.plan.spec import EvaluationSpec
from sparring.evaluation.plan.tiers import DRAWS, JUDGES, default_attacks
from sparring.evaluation.records.claim import Claim
from sparring.evaluation.records.finding import Finding
from sparring.evaluation.records.place import Place
from sparring.evaluation.records.provenance import code_hash
from sparring.evaluation.records.reuse import Former
from sparring.evaluation.records.rows import blocks_before
from sparring.evaluation.records.store import Store
from sparring.evaluation.run.pace import Progress
from sparring.evaluation.run.ring import Ring
from sparring.evaluation.run.trial import trial_before
from sparring.models.classifier import weights_hash
from sparring.models.load import load_model, require_trained
from sparring.subject import PROBED, Subject
from sparring.threats import Options, threat
from sparring.verdict.read import refuse_unasked

Say = Callable[[str], None]
Keep = Literal["8bit", "float", "none"]


class Kept(NamedTuple):
    """What stays of points: ``floats``, those of images that fell as well (survivors and nearest errors stay as floats); ``points``, any at all
    once the run is complete."""

    floats: bool
    points: bool


KEEPS: dict[Keep, Kept] = {"8bit": Kept(False, True), "float": Kept(True, True), "none": Kept(False, False)}


def keep_of(text: str) -> Keep:
    """The rule of this name. Raises SparringError for what is none."""
    for name in KEEPS:
        if name == text:
            return name
    raise SparringError(f"keep={text} is not one of {', '.join(KEEPS)}")


@dataclass(frozen=True)
class Running:
    """How an evaluation runs, which changes nothing that it says."""

    slots: int
    device: str | None
    workers: int | Literal["auto"] | None
    shard: Shard | None
    progress: Progress | None
    keep: Keep = "8bit"
    engine: Engine | None = None
    reuse: Place | None = None

    def say(self, text: str) -> None:
        """Tell who listens what is being done."""
        if self.progress:
            self.progress(0, 1, text)


@dataclass(frozen=True)
class Planned:
    """What an evaluation is about, before anything is attacked."""

    spec: EvaluationSpec
    subject: Subject
    blocks: Partition
    plan: Plan
    options: dict[str, Options]
    attacks: list[Attack]
    threats: list[str]
    known: frozenset[str] = frozenset()

    @property
    def identity(self) -> Json:
        """What decides the answers."""
        spec, subject, judge = self.spec, self.subject, self.plan.judge
        own = code_of(*(type(a.method) for a in self.attacks), *(c.threat.kind.make for c in self.plan.cells))
        return {
            "code": code_hash(),
            "own_code": subject.own_code + own,
            "model": subject.model.name,
            "weights": weights_hash(subject.model),
            "data": subject.images.hash,
            "defenses": list(subject.systems),
            "threats": self.threats,
            "attacks": [str(a) for a in self.attacks],
            "sources": [o.id for o in subject.others],
            "tier": spec.tier,
            "seed": spec.seed,
            "draws": {name: o.draws for name, o in self.options.items()},
            "amp": spec.amp,
            "judge": [judge.select, judge.draws],
            "block": spec.block,
            "survivors": spec.on_survivors,
        }

    def cut(self, folder: Place, processes: int) -> Planned:
        """The same with new images in blocks so small that so many processes share them; asked just before the folder is, so that all of them see
        the blocks that one has written."""
        images = self.subject.images
        size = cut(len(images), self.spec.block, processes)
        return replace(self, blocks=Partition.of(images, size, blocks_before(folder), self.known))

    def store(self, folder: Place) -> Store:
        """The run folder, which is of this configuration or of a part of it. Raises SparringError."""
        store = Store(folder, self.identity, self.blocks.names)
        store.require_same(self.subject.answers())
        return store

    def tell_images(self, folder: Place) -> None:
        """Write down, for those who join, what was seen of a set that is larger than memory."""
        inventory = Inventory.of(self.subject.images)
        meant = self.spec.images_meant(self.subject.model.fitting)
        if inventory and meant and read_inventory(folder, meant) != inventory:
            write_inventory(folder, inventory, meant)

    def take_over(self, folder: Place, store: Store, cells: Sequence[str], say: Say) -> int:
        """Put into the store what the run of another folder has of these images; how many blocks of rows. Raises SparringError where that is of another
        configuration.
        """
        former, images, taken = Former(folder, store), self.blocks.images, 0
        store.require_alike(folder, PROBED)
        for rows, names in zip(self.blocks.slices, self.blocks.names, strict=True):
            if self.known.issuperset(names):
                taken += former.give(cells, self.blocks.id(rows), names, images.ids[rows])
                say(f"taking over what {folder} has: {taken} blocks of rows")
        return taken

    def ring(self, store: Store, running: Running) -> Ring:
        """What attacks and judges."""
        floats = KEEPS[running.keep].floats
        return Ring(self.subject, self.plan, store, running.slots, self.blocks, running.progress, floats)


def planned_of(
    spec: EvaluationSpec,
    folder: Place | None,
    device: str | None,
    say: Say,
    *,
    joining: bool = False,
    known: frozenset[str] = frozenset(),
) -> Planned:
    """Load, check against each other, plan. The images of the run that ``folder`` holds come first, in its order. ``joining``: another process is at work
    there; what it has seen of a set that is larger than memory need not be read again. ``known``: names of images of which another run has rows.
    """
    tier, seed = spec.tier, spec.seed
    threats = list(dict.fromkeys(str(threat(t)) for t in spec.threats))
    if spec.sources and not any(threat(t).kind.needs for t in threats):
        asking = ", ".join(name for name in THREATS if threat(name).kind.needs)
        raise SparringError(
            f"sources are used by no threat of {', '.join(threats)}: name one that asks them ({asking}), or leave sources out"
        )
    attacks = [attack(a) for a in (spec.attacks or default_attacks(tier, threats))]
    refuse_large(attacks, spec.eps, spec.large_eps)
    if spec.attacks:  # of a tier it is documented which take it
        refuse_idle(attacks, spec.eps)
    say("loading the model and the images")
    model = require_trained(load_model(spec.model))
    meant = spec.images_meant(model.fitting)
    seen = read_inventory(folder, meant) if folder and joining and meant else None
    images = load_data(spec.data, limit=spec.limit, skip_bad=spec.skip_bad, fitting=model.fitting, known=seen, say=say)
    blocks = Partition.of(images, spec.block, blocks_before(folder) if folder else (), known)
    subject = Subject.of(model, blocks.images, once(spec.defenses), sources=spec.sources, device=device)
    chosen = with_budgets(attacks, spec.eps, subject.images.shape, of_tier=not spec.attacks)
    numbers = {(t, a.norm, a.budget) for t in threats for a in chosen}
    refuse_unasked(spec.baseline, [Claim.of(text) for text in spec.claims], subject.systems, numbers)
    judge = Judge(*JUDGES[tier], seed=seed)
    say("planning")
    options = options_of(subject, spec, judge)
    plan = make_plan(
        subject.systems,
        threats,
        chosen,
        others=subject.others,
        options=options,
        judge=judge,
        seed=seed,
        classes=subject.classes,
        values=subject.images.values,
        survivors=spec.on_survivors,
    )
    if spec.draws is not None and not any(view.victim.random for c in plan.cells for view in c.seat.views):
        warnings.warn(f"draws={spec.draws} is used by nothing here: no system is random", stacklevel=3)
    return Planned(spec, subject, blocks, plan, options, chosen, threats, known)


def options_of(subject: Subject, spec: EvaluationSpec, judge: Judge) -> dict[str, Options]:
    """What the seats of each system share: how many draws make a gradient."""
    most = spec.draws if isinstance(spec.draws, int) else DRAWS[spec.tier]
    draws = dict.fromkeys(subject.systems, most)
    for name, defended in subject.systems.items() if spec.draws == "auto" else ():
        if not defended.random or offered(defended.network) < Access.GRADIENT:
            continue
        trial = trial_before(subject, name, attack("apgd:eps=8/255"), judge, most, spec.seed)
        draws[name] = min(most, draws_that_agree(trial)) if trial else most
    return {name: Options(count, spec.amp) for name, count in draws.items()}


def once(defenses: Sequence[DefenseLike]) -> list[DefenseLike]:
    """The same defense given twice, whatever its spelling, counts once."""
    distinct: dict[str, DefenseLike] = {}
    for given in defenses:
        name = str(defense(given)) if isinstance(given, str) else name_of(given)
        before = distinct.setdefault(name, given)
        if not isinstance(given, str) and not isinstance(before, str) and before is not given and before != given:
            raise SparringError(
                f"two different defenses are called {name}; give each a class or function of its own name"
            )
    return list(distinct.values())


def facts_of(subject: Subject, plan: Plan, findings: list[Finding], notes: dict[str, str]) -> Json:
    return {
        "prepared": notes,
        "data_name": subject.images.name,
        "images": len(subject.images),
        "rows_per_image": plan.rows_per_image(len(subject.systems)),
        "runs": list(plan.runs),
        "class_names": list(subject.images.classes),
        "lattice": subject.images.lattice,
        "classes": subject.classes,
        "worst_case_cost_per_image": plan.cost(),
        "checks": [asdict(f) for f in findings],
        "skipped": [asdict(s) for s in plan.skipped],
        "surrogates": {
            name: [
                {
                    "stage": s.name,
                    "variants": list(s.surrogate.backward),
                    "random": s.surrogate.random,
                    "why": s.surrogate.why,
                }
                for s in d.stages
            ]
            for name, d in subject.systems.items()
        },
        "attacks_resolved": {
            str(r.attack): {**vars(r.attack.method), **vars(r.attack.setting)} for r in plan.runs.values()
        },
        "threats": {str(c.threat): c.threat.facts() for c in plan.cells},
        "seats": {
            f"{c.defense} / {c.threat}": {
                "source": c.seat.source,
                "access": c.seat.access.name,
                "stop": c.seat.stop,
            }
            for c in plan.cells
        },
    }
