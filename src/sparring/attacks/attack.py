"""``Attack``: a method with its ball, restarts and goal; what a spec text names and what users run."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from sparring.attacks import engine
from sparring.attacks.engine import Batch, Outcome, RunOptions, Stop
from sparring.attacks.engine.given import images_of, labels_of, mask_of, network_of, start_of
from sparring.attacks.engine.loop import Aim
from sparring.attacks.engine.pixels import pixel_mask, pixels_of
from sparring.attacks.libraries import LIBRARIES
from sparring.attacks.method import Method
from sparring.core.access import offered
from sparring.core.errors import SparringError
from sparring.core.geometry import EPS_SLACK, Norm
from sparring.core.network import off_probabilities
from sparring.core.noise import Noise, image_keys
from sparring.core.prepare import prepare as prepared_copy
from sparring.core.ranges import Count, Limit, Natural, NonNegative
from sparring.core.registry import ATTACKS, suggest
from sparring.core.shown import shown
from sparring.core.spec import (
    PYTHON,
    Fields,
    build,
    check_fields,
    check_ranges,
    check_value,
    parse,
    show,
    signature,
    spec_text,
)
from sparring.core.system import System
from sparring.core.victim import Access, Goal, Victim

EXAMPLES = 4  # images that a copy is proved on
PAYS = 1000  # gradients of an image, below which it would cost more than it saves
TargetChoice = Literal["random", "next", "least"] | Natural


@dataclass(frozen=True)
class Setting:
    """The fields every attack spec shares, whatever the method.

    norm, eps (pixel units of [0,1]; None: the data's default budget, unbounded for minimum-norm methods), restarts,
    targets (aim at this many runner-up classes in turn, success still untargeted), target (a targeted goal:
    "random", "next", "least" likely, or a class number), mask (a registered rule: only its pixels may change).
    """

    norm: Norm | None = None
    eps: NonNegative | None = None
    restarts: Count = 1
    targets: Natural = 0
    target: TargetChoice | None = None
    mask: str | None = None


SHARED = signature(Setting)
# fields as foolbox, torchattacks, ART, advertorch and AutoAttack call them: what each is here
ELSEWHERE = {
    **dict.fromkeys(
        ("alpha", "eps_step", "eps_iter", "abs_stepsize", "absolute_step_size", "stepsize", "step_length"),
        "step_size is a share of eps: step_size = alpha / eps",
    ),
    **dict.fromkeys(("rel_stepsize", "relative_step_size"), "it is step_size, a share of eps as well"),
    **dict.fromkeys(("iters", "max_iter", "nb_iter", "n_iter", "num_steps", "iterations"), "it is steps"),
    **dict.fromkeys(("epsilon", "epsilons", "max_eps", "radius"), "it is eps, for images in [0,1]"),
    **dict.fromkeys(("n_restarts", "num_restarts", "num_random_init", "random_restarts"), "it is restarts"),
    **dict.fromkeys(("random_start", "rand_init", "rand_start"), "it is start=random or start=clean"),
    **dict.fromkeys(("p", "ord", "order"), "it is norm=linf, l2, l1 or l0"),
    **dict.fromkeys(("n_queries", "max_queries"), "a budget of queries is the threat's: score:queries=5000"),
    "targeted": "a targeted goal is target=random, next, least or a class",
    "eot_iter": "draws of a random defense are the evaluation's: --draws",
}


@dataclass(frozen=True)
class Attack(ABC):
    """A method in a setting. Frozen; ``dataclasses.replace`` to vary. ``str()`` is its canonical spec text.

    There are three kinds: one method in the engine, a cascade, a peer's attack. All are entered through ``on``, which no kind overrides: it
    refuses a missing ball, a missing access and a budget that is no number before ``perform`` sees anything.
    """

    method: Method
    setting: Setting = Setting()
    unused: ClassVar[tuple[str, ...]] = ()
    """Settings that this kind has no use for; giving one is an error."""

    def __post_init__(self) -> None:
        check_ranges(self.name, self.method)
        check_ranges(self.name, self.setting)
        setting, blank = self.setting, Setting()
        for field in self.unused:
            if vars(setting)[field] != vars(blank)[field]:
                raise SparringError(f"{self.name}: {field}= has no use here: {type(self).why_unused(field)}")
        if self.norm not in self.method.norms:
            raise SparringError(
                f"{self.name}: norm={self.norm} is not supported (takes {', '.join(self.method.norms)})"
            )
        if setting.mask is not None:
            pixel_mask(setting.mask)
        if setting.target is not None and setting.targets:
            raise SparringError(
                f"{self.name}: target= (a targeted goal) and targets= (a multi-target untargeted attack) exclude each other"
            )

    @classmethod
    def why_unused(cls, field: str) -> str:
        """One clause for the error about a setting in ``unused``."""
        return "this kind of attack does not read it"

    @abstractmethod
    def perform(self, victim: Victim, batch: Batch, eps: Tensor, options: RunOptions) -> Outcome:
        """Make the points. ``eps`` (N,): the budgets, checked."""

    @abstractmethod
    def cost(self, victim: Victim, classes: int, values: int) -> tuple[int, int]:
        """(forwards, backwards) of an image of so many ``values`` that survives everything; what a dry run prints."""

    @abstractmethod
    def brief(self, steps: int) -> Attack:
        """The same attack cut to a few steps and one job: for checks that ask whether it runs at all."""

    @property
    def norm(self) -> Norm:
        return self.setting.norm or self.method.norms[0]

    @property
    def name(self) -> str:
        """The method's registered name, or where it is to be imported from."""
        return spec_text(self.method, bare=True)

    def __str__(self) -> str:
        parts = [spec_text(self.method)]
        for field in fields(self.setting):
            value, default = (
                vars(self.setting)[field.name],
                self.method.norms[0] if field.name == "norm" else field.default,
            )
            if value is not None and value != default:
                parts.append(f"{field.name}={show(value)}")
        first = ":" if parts[0] == self.name and not self.name.startswith("python:") else ","
        return f"{parts[0]}{first}{','.join(parts[1:])}" if parts[1:] else parts[0]

    def __repr__(self) -> str:
        return shown(self, str(self))

    @property
    def budget(self) -> float:
        """eps: the setting's, else the method's own (one pixel), else infinite."""
        eps = self.setting.eps if self.setting.eps is not None else self.method.own_eps
        return math.inf if eps is None else float(eps)

    @property
    def bounded(self) -> bool:
        """Has the attack the ball it needs?"""
        return self.budget < math.inf or self.method.boundless

    def with_eps(self, eps: float) -> Attack:
        """The same attack at another budget."""
        return replace(self, setting=replace(self.setting, eps=eps))

    def refuse_beyond_box(self, shape: Sequence[int]) -> None:
        """Raises SparringError for a finite ball that is larger than the box [0,1] of images (C,H,W): it was meant in other units."""
        channels, height, width = shape
        values = channels * height * width
        most = {"linf": 1.0, "l2": math.sqrt(values), "l1": float(values), "l0": float(height * width)}[self.norm]
        if most < self.budget < math.inf:
            meant = f"; did you mean {self.budget:g}/255?" if self.norm == "linf" else ""
            raise SparringError(
                f"{self.name}: eps={show(self.budget)} is larger than the whole box: two images of shape {tuple(shape)} are at most {self.norm} "
                f"{most:g} apart{meant}"
            )

    def on(self, victim: Victim, batch: Batch, options: RunOptions | None = None) -> Outcome:
        """Run against a victim; the one entry of every kind of attack. A batch's ``eps`` overrides the setting's."""
        options = options or RunOptions()
        if victim.access < self.method.needs:
            raise SparringError(
                f"{self.name} needs {self.method.needs.name} access, this seat grants {victim.access.name}"
            )
        eps = batch.eps
        if eps is None:
            if not self.bounded:
                raise SparringError(f"{self.name}: eps is missing; write {self.name}:eps=8/255")
            eps = torch.full((len(batch),), self.budget, device=batch.clean.device)
        if bool((eps.isnan() | (eps < 0)).any()) or not (self.method.boundless or bool(eps.isfinite().all())):
            raise SparringError(
                f"{self.name}: every eps must be a number that is not negative, and finite for this attack"
            )
        if self.setting.mask is None:
            return self.perform(victim, batch, eps.to(batch.clean.dtype), options)
        pixels = pixels_of(self.setting.mask, *batch.clean.shape[1:]).to(batch.clean)
        outcome = self.perform(victim, batch.masked(pixels), eps.to(batch.clean.dtype), options)
        if len(batch) and float(((outcome.x - batch.clean).abs() * (1 - pixels)).max()) > EPS_SLACK:
            raise AssertionError(f"{self.name} moved a pixel outside {self.setting.mask}: a bug, please report it")
        return outcome

    def run(
        self,
        model: nn.Module | System | Victim,
        x: Tensor,
        y: Tensor,
        *,
        seed: int = 0,
        slots: int = 64,
        stop: Stop = "success",
        ids: list[str] | None = None,
        mask: Tensor | None = None,
        queries: int | None = None,
        start: Tensor | None = None,
        prepare: bool = True,
    ) -> Outcome:
        """Attack ``model`` (images in [0,1] -> logits) on images x (N,C,H,W) in [0,1] with true labels y (N,).

        Returns an ``Outcome``: ``.x`` the adversarial images, ``.success``, ``.distance``, ``.forwards`` per image. ``queries``: forwards an
        image may spend. ``start`` (N,C,H,W): points that decision attacks begin at. ``mask``: pixels that may change.
        ``prepare``: long attacks in a ball run on a faster copy of a module (``core/prepare.py``: BatchNorm folded, channels last; proved by logits
        and gradients). Images whose label the copy and the module do not agree on at the end are attacked again on the module itself. The calls for
        all this are no part of the costs.
        Parameters, buffers, modes, ``.grad`` and the inputs are left as they are, but for what the model's own forward changes.
        A model that writes into its input is handed copies. Raises SparringError for images, labels, a mask, a start or a model that are not
        what is said here, each in one line.
        """
        x = images_of(x)
        y, own = labels_of(y, x), model
        self.refuse_beyond_box(x.shape[1:])
        check_value(self.name, "queries", Limit, queries)
        if ids is not None and (isinstance(ids, str) or len(ids) != len(x)):
            raise SparringError(f"{len(x)} images and ids={ids!r:.80}; one text per image is needed")
        if not isinstance(model, Victim):
            if not isinstance(model, System):
                network, x = network_of(model, x, y)
                self._look_at_gradient(network, x[:1])
                model = System(network=network)
            model = Victim((model,), offered(model.network))
        keys = image_keys([str(i) for i in (range(len(x)) if ids is None else ids)]).to(x.device)
        batch = Batch(x, y, keys, mask=mask_of(mask, x), start=start_of(start, x)).capped(queries)
        options = RunOptions(stop, slots, seed)
        copied = self._copy(own, model, x) if prepare and isinstance(own, nn.Module) else None
        return self._on_copy(copied, model, batch, options) if copied else self.on(model, batch, options)

    def _copy(self, network: nn.Module, victim: Victim, x: Tensor) -> Victim | None:
        """The victim with a prepared copy of its network; None where that could not be made, or would not pay. Nearest points lie where rounding
        decides, so that attacks that look for them stay on the network itself.
        """
        gradients = self.cost(victim, 2, x[0].numel())[1] if len(x) else 0
        if self.method.needs is not Access.GRADIENT or self.method.goal is Goal.MINIMAL or gradients * len(x) < PAYS:
            return None
        try:
            prepared = prepared_copy(network, x[:EXAMPLES].clone())
        except Exception:  # scripts, locks, what writes into its input: whatever cannot be copied is attacked as it is
            return None
        return None if prepared.alone else replace(victim, systems=(System(network=prepared.model),))

    def _on_copy(self, copied: Victim, victim: Victim, batch: Batch, options: RunOptions) -> Outcome:
        """On the copy; again on the network itself where the two do not agree on a point."""
        outcome = self.on(copied, batch, options)
        noise = Noise.of(options.seed, "attack", batch.keys)
        apart = (copied.labels(outcome.x, noise) != victim.labels(outcome.x, noise)).nonzero()[:, 0]
        return outcome.paste(apart, self.on(victim, batch.at(apart), options)) if len(apart) else outcome

    def _look_at_gradient(self, network: Callable[[Tensor], Tensor], example: Tensor) -> None:
        """An evaluation of a network without gradient, or with one that saturates, goes on and reports it; a call of ``run`` has no report: the
        one is refused, of the other a warning is given.
        """
        if self.method.needs is not Access.GRADIENT or torch.is_inference_mode_enabled() or not len(example):
            return
        with torch.enable_grad():
            logits = network(example.clone().requires_grad_(True))
        if not logits.requires_grad:
            raise SparringError(
                f"{self.name}: the network's logits have no gradient (no_grad, detach, argmax, integers): a gradient attack cannot run on it"
            )
        if off_probabilities(logits.detach()) < 1e-5:
            warnings.warn(
                f"{self.name}: the network returns probabilities, and losses on these saturate: what withstands is no evidence; take the logits, "
                "or sparring.evaluate, which looks for them",
                stacklevel=3,
            )


@dataclass(frozen=True, repr=False)
class MethodAttack(Attack):
    """One method, run by the engine."""

    def jobs(self, classes: int) -> int:
        """Jobs per image: restarts x targets (at most classes - 1)."""
        return self.setting.restarts * max(1, min(self.setting.targets, classes - 1))

    def cost(self, victim: Victim, classes: int, values: int) -> tuple[int, int]:
        jobs, targeted = self.jobs(classes), self._looks_for_targets
        forwards, backwards = engine.cost_per_image(self.method, victim, jobs, targeted, values)
        return forwards + (victim.score_cost if targeted else 0), backwards

    def brief(self, steps: int) -> Attack:
        setting = replace(self.setting, restarts=1, targets=min(1, self.setting.targets))
        return replace(self, method=self.method.brief(steps), setting=setting)

    def perform(self, victim: Victim, batch: Batch, eps: Tensor, options: RunOptions) -> Outcome:
        price = victim.score_cost if self._looks_for_targets else 0
        if batch.queries is not None and price:
            able = (batch.queries >= price).nonzero()[:, 0]
            if len(able) < len(batch):  # who cannot pay for the look at the classes is not attacked
                part = self.perform(victim, batch.at(able), eps[able], options)
                nobody = Outcome.unseen(batch.clean).put(distance=torch.zeros_like(eps))
                return nobody.paste(able, part)
            batch = replace(batch, queries=batch.queries - price)
        targets, must_hit, extra = self._targets(victim, batch, options.seed)
        aim = Aim(self.norm, eps, targets, must_hit, self.setting.restarts)
        outcome = engine.run(self.method, victim, batch, aim, options)
        return outcome.put(forwards=outcome.forwards + extra)

    @property
    def _looks_for_targets(self) -> bool:
        return self.setting.target is not None or bool(self.setting.targets)

    def _targets(self, victim: Victim, batch: Batch, seed: int) -> tuple[Tensor | None, bool, int]:
        """((N,T) classes or None, must they be hit?, extra forwards per image)."""
        x, y, keys = batch.clean, batch.label, batch.keys
        choice, count = self.setting.target, self.setting.targets
        if not self._looks_for_targets or not len(x):
            return None, choice is not None, 0
        cost = victim.score_cost
        scores = victim.scores(x, Noise.of(seed, "targets", keys))
        classes = scores.shape[1]
        others = scores.scatter(1, y[:, None], -torch.inf)
        if choice is None:
            return others.topk(min(count, classes - 1), 1).indices, False, cost
        if isinstance(choice, int):
            if not 0 <= choice < classes:
                raise SparringError(f"{self.name}: target={choice} is not one of the {classes} classes")
            target = torch.full_like(y, choice)
        elif choice == "least":
            target = scores.scatter(1, y[:, None], torch.inf).argmin(1)
        elif choice == "next":
            target = (y + 1) % classes
        else:
            shift = Noise.of(seed, "targets", keys).integers("class", classes - 1, (1,))[:, 0]
            target = (y + 1 + shift) % classes
        return target[:, None], True, cost


def _refuse_unknown(name: str, given: Mapping[str, object], known: Fields) -> None:
    """Raise SparringError for a field that the attack has not: with what it is here, where another library calls it so, or with what is near."""
    for field in (f for f in given if f and f not in known):
        here = ELSEWHERE.get(field)
        fix = f"; here {here} (docs/migration.md)" if here else suggest(field, [*known, *SHARED])
        raise SparringError(f"{name}: unknown field {field!r}{fix}")


def attack(text: str | Attack | Method) -> Attack:
    """An ``Attack`` from spec text: ``attack("pgd:eps=8/255,steps=40,restarts=5")``; one of another library:
    ``attack("torchattacks.PGD:eps=8/255,steps=40")``; or from a method of your own.
    """
    if isinstance(text, Attack):
        return text
    if isinstance(text, Method):
        return (text.attack_kind or MethodAttack)(text)
    spec = parse(text)
    if spec.name.partition(".")[0] in LIBRARIES:
        from sparring.attacks.peer import peer_attack  # which imports this module

        return peer_attack(spec)
    if spec.name != PYTHON:
        ATTACKS[spec.name]  # an unknown name is refused before its fields are
    own = {k: v for k, v in spec.values.items() if k not in SHARED}
    if spec.name != PYTHON:
        _refuse_unknown(spec.name, own, signature(ATTACKS[spec.name]))
    shared = check_fields(spec.name, {k: v for k, v in spec.values.items() if k in SHARED}, SHARED)
    method: Method = build(ATTACKS, replace(spec, values=own))
    return (method.attack_kind or MethodAttack)(method, Setting(**shared))
