"""What the preflight checks look at: a subject's first images and all of its systems."""

from __future__ import annotations

from collections.abc import Sequence

from sparring.attacks.attack import Attack
from sparring.evaluation.checks.base import Context
from sparring.subject import Subject

PREFLIGHT_IMAGES = {"quick": 32, "standard": 128, "thorough": 128}
CHECK_BUDGET = 32 * 3072 * 8  # input elements of the preflight subset: large images get fewer of them


def context(subject: Subject, attacks: Sequence[Attack], tier: str, expected_clean: float | None, seed: int) -> Context:
    """The checks' ``Context``: the first images of the set, every defended system, the attacks that are to be run."""
    images = subject.images
    count = max(4, min(PREFLIGHT_IMAGES[tier], CHECK_BUDGET // images.x[0].numel()))
    part = slice(0, min(count, len(images)))
    return Context(
        model=subject.model,
        network=subject.prepared.model,
        x=images.x[part],
        y=images.y[part],
        ids=images.ids[part],
        systems=list(subject.systems.values()),
        attacks=attacks,
        expected_clean=expected_clean,
        all_x=images.x,
        all_y=images.y,
        seed=seed,
    )
