"""What a check sees (``Context``) and says (``Finding``), and how it is enrolled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from sparring.attacks.attack import Attack
from sparring.core.noise import Noise, image_keys
from sparring.core.registry import CHECKS
from sparring.core.shown import shown
from sparring.data.images import ImageSet
from sparring.defenses.base import Defended
from sparring.evaluation.records.finding import Finding, Scope, Severity
from sparring.subject import Subject

PREFLIGHT_IMAGES = {"quick": 32, "standard": 128, "thorough": 128}
CHECK_BUDGET = 32 * 3072 * 8  # input elements of the preflight subset: large images get fewer of them


@dataclass(frozen=True)
class Context:
    """The set-up in question, before any attack: the user's model as given, what is evaluated, a few images.

    x (n,C,H,W), y (n,); ``whole`` the set that they are the first of, None: themselves; ``network`` the prepared copy;
    ``left_out`` the images that were skipped because they cannot be read.
    """

    model: nn.Module
    network: nn.Module
    x: Tensor
    y: Tensor
    ids: Sequence[str]
    systems: Sequence[Defended]
    attacks: Sequence[Attack] = ()
    expected_clean: float | None = None
    whole: ImageSet | None = None
    left_out: Sequence[str] = ()
    seed: int = 0

    @classmethod
    def of(
        cls, subject: Subject, attacks: Sequence[Attack], tier: str, expected_clean: float | None, seed: int
    ) -> Context:
        """Of the first images of a subject's set, every defended system, and the attacks that are to be run."""
        images = subject.images
        count = max(4, min(PREFLIGHT_IMAGES[tier], CHECK_BUDGET // images.values))
        part = slice(0, min(count, len(images)))
        return cls(
            model=subject.model,
            network=subject.prepared.model,
            x=images.pixels(part),
            y=images.y[part],
            ids=images.ids[part],
            systems=[replace(s, name=name) for name, s in subject.systems.items()],  # as results call them
            attacks=attacks,
            expected_clean=expected_clean,
            whole=images,
            left_out=images.left_out,
            seed=seed,
        )

    @property
    def keys(self) -> Tensor:
        return image_keys(list(self.ids))

    def noise(self, role: str = "check") -> Noise:
        return Noise.of(self.seed, role, self.keys)

    def logits(self) -> Tensor:
        """(n,K) of the prepared network."""
        with torch.no_grad():
            return self.network(self.x)


@dataclass(frozen=True)
class Answer:
    """What a check's function returns for one subject; scope and severity are the check's unless overridden. ``defense`` and so on: see
    ``Finding``.
    """

    ok: bool
    value: float
    threshold: float
    message: str
    subject: str = ""
    severity: Severity | None = None
    defense: str = ""
    threat: str = ""
    norm: str = ""
    eps: float | None = None
    images: tuple[str, ...] = ()
    scope: Scope | None = None


Seen = TypeVar("Seen")  # what a kind of check looks at


@dataclass(frozen=True)
class Enrolled(Generic[Seen]):
    """An enrolled check. ``fires`` and ``silent`` build what it must fire on and stay silent on."""

    id: str
    title: str
    scope: Scope
    severity: Severity
    ask: Callable[[Seen], list[Answer]]
    fires: Callable[[], Seen]
    silent: Callable[[], Seen]

    def __repr__(self) -> str:
        return shown(self, self.id, self.title, self.severity)

    def __post_init__(self) -> None:
        object.__setattr__(self, "__module__", self.ask.__module__)  # it is from where its function is

    @property
    def doc(self) -> str:
        return self.ask.__doc__ or ""

    def answers(self, seen: Seen) -> list[Answer]:
        """What its function says."""
        return self.ask(seen)

    def run(self, seen: Seen) -> list[Finding]:
        """What it says as findings; scope and severity are the check's unless an answer has its own."""
        return [
            Finding(
                self.id,
                a.subject,
                a.ok,
                a.severity or self.severity,
                a.scope or self.scope,
                float(a.value),
                float(a.threshold),
                a.message,
                a.defense,
                a.threat,
                a.norm,
                a.eps,
                a.images,
            )
            for a in self.answers(seen)
        ]


class Check(Enrolled[Context]):
    """A check of a set-up, before any attack."""


Kind = TypeVar("Kind")


def in_order(kind: type[Kind]) -> list[Kind]:
    """All enrolled checks of a kind, in order of letter and number."""
    chosen = [(name, c) for name, c in CHECKS.items() if isinstance(c, kind)]
    return [
        c
        for _, c in sorted(
            chosen, key=lambda pair: (pair[0].rstrip("0123456789"), int(pair[0].lstrip(ascii_uppercase) or 0))
        )
    ]


def check(
    id: str,
    title: str,
    scope: Scope,
    severity: Severity,
    *,
    fires: Callable[[], Context],
    silent: Callable[[], Context],
) -> Callable[[Callable[[Context], list[Answer]]], Check]:
    """Decorator: enrol a function Context -> list[Answer]. Its docstring says when it is raised, why, and what to
    do.
    """

    def enrol(ask: Callable[[Context], list[Answer]]) -> Check:
        return CHECKS(id)(Check(id, title, scope, severity, ask, fires, silent))

    return enrol


def run_checks(
    context: Context, only: Sequence[str] | None = None, say: Callable[[str], None] | None = None
) -> list[Finding]:
    """Findings of all enrolled preflight checks (or of ``only`` these ids), in order of number. ``say`` is told each before it runs."""
    findings: list[Finding] = []
    for c in in_order(Check):
        if only is not None and c.id not in only:
            continue
        if say:
            say(f"{c.id} {c.title}")
        findings += c.run(context)
    return findings
