"""What was evaluated, said again as a command, with changes: what a verdict proposes next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sparring.core.registry import PLUGINS
from sparring.core.spec import show

FLAGS = {
    "defenses": "--defense",
    "threats": "--threat",
    "attacks": "--attack",
    "eps": "--eps",
    "sources": "--source",
    "tier": "--tier",
    "seed": "--seed",
    "limit": "--limit",
    "draws": "--draws",
    "expect_clean": "--expect-clean",
    "amp": "--bf16",
    "skip_bad": "--skip-bad",
    "large_eps": "--large-eps",
    "survivors": "--survivors",
    "no_follow_up": "--no-follow-up",
    "baseline": "--baseline",
    "claims": "--claim",
}
OFF = {"survivors": "--no-survivors"}  # what says False where it is not the default
SET_UP = ("defenses", "limit", "seed", "expect_clean", "skip_bad", "large_eps")  # what ``doctor`` takes


@dataclass(frozen=True)
class Command:
    """``passed``: fields of an EvaluationSpec as a run remembers them; those named in its "objects" have no text, so that the command is one in Python."""

    passed: Mapping[str, object] = field(default_factory=dict)

    def texts(self, name: str) -> tuple[str, ...]:
        """The members of a list among the fields."""
        value = self.passed.get(name, ())
        return tuple(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else ()

    def number(self, name: str) -> int | None:
        """A whole number among the fields, None where it was left open."""
        value = self.passed.get(name)
        return value if isinstance(value, int) else None

    def evaluate(self, *more: str, **changes: object) -> str:
        """The evaluation with some fields changed and its follow-ups made, and ``more`` words at its end."""
        passed = {**self.passed, "no_follow_up": False, **changes}
        if self.texts("objects"):
            return self._python(passed)
        return self._words("evaluate", passed, tuple(FLAGS), *more)

    def doctor(self) -> str:
        """The checks of the set-up alone."""
        return self._python(dict(self.passed)) if self.texts("objects") else self._words("doctor", self.passed, SET_UP)

    def _words(self, command: str, passed: Mapping[str, object], names: Sequence[str], *more: str) -> str:
        plugins = [word for file in PLUGINS for word in ("--plugin", file)]
        words = [
            "sparring",
            *plugins,
            command,
            str(passed.get("model", "MODEL")),
            "--data",
            str(passed.get("data", "DATA")),
        ]
        for name in names:
            value = passed.get(name)
            if value is True:
                words.append(FLAGS[name])
            elif value is False and name in OFF:
                words.append(OFF[name])
            elif value:  # neither nothing, nor what the option is without being said
                for each in value if isinstance(value, list | tuple) else (value,):
                    words += [FLAGS[name], show(each)]
        return shlex.join([*words, *more])

    def _python(self, passed: Mapping[str, object]) -> str:
        """A call: objects stand as names of variables."""
        objects = self.texts("objects")
        said = {
            k: k if k in objects else repr(v)
            for k, v in passed.items()
            if k in FLAGS and (v or k in objects or (v is False and k in OFF))
        }
        first = [k if k in objects else repr(passed[k]) for k in ("model", "data")]
        return f"sparring.evaluate({', '.join([*first, *(f'{k}={v}' for k, v in said.items())])})"
