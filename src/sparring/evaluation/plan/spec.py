"""``EvaluationSpec``: what is evaluated, as one frozen value; TOML and JSON in and out."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sparring.core.errors import SparringError
from sparring.core.registry import suggest
from sparring.core.spec import PYTHON, number
from sparring.defenses.base import name_of
from sparring.evaluation.plan.tiers import TIERS
from sparring.evaluation.records.seal import write_text

BLOCK = 256  # images that are attacked, judged and stored together
LISTS = ("defenses", "threats", "attacks", "eps", "sources")


@dataclass(frozen=True)
class EvaluationSpec:
    """model, data, defenses, threats, attacks, sources (other models for transfer): spec texts, or objects (a module, tensors, an image
    set, an ``Attack``, a defense). eps: budgets for attacks without their own. tier: quick, standard or thorough. draws: EOT draws per
    gradient, None: the tier's. expect_clean: declared clean accuracy in [0,1]. amp: bfloat16 gradients. skip_bad: leave unreadable images out.
    block: images stored together.

    Where it runs, how fast and where to is not its business. Raises SparringError for a field that is none or does not fit.
    """

    model: Any
    data: Any
    defenses: Sequence[Any] = ()
    threats: Sequence[str] = ("oblivious", "adaptive")
    attacks: Sequence[Any] = ()
    eps: Sequence[float] = ()
    sources: Sequence[Any] = ()
    tier: str = "quick"
    seed: int = 0
    limit: int | None = None
    draws: int | None = None
    expect_clean: float | None = None
    amp: bool = False
    skip_bad: bool = False
    block: int = BLOCK

    def __post_init__(self) -> None:
        for name in LISTS:
            object.__setattr__(self, name, tuple(vars(self)[name]))
        if self.tier not in TIERS:
            raise SparringError(f"tier={self.tier} is not one of {', '.join(TIERS)}")
        if self.block < 1 or (self.draws is not None and self.draws < 1):
            raise SparringError(f"block={self.block}, draws={self.draws}: each must be at least 1")

    @classmethod
    def of(cls, **given: Any) -> EvaluationSpec:
        """From keyword arguments; an unknown one is refused by name."""
        known = [f.name for f in fields(cls)]
        for name in given:
            if name not in known:
                raise SparringError(f"evaluate: unknown option {name!r}{suggest(name, known)}")
        return cls(**given)

    def passed(self) -> dict[str, Any]:
        """What was passed, as plain values; objects by their names."""
        named = {
            "model": _text(self.model),
            "data": self.data
            if isinstance(self.data, str)
            else str(self.data)
            if isinstance(self.data, Path)
            else "images passed as an object",
            "defenses": [name_of(d) for d in self.defenses],
            "attacks": [str(a) for a in self.attacks],
            "sources": [_text(s) for s in self.sources],
        }
        return {f.name: named.get(f.name, vars(self)[f.name]) for f in fields(self)}

    @property
    def hash(self) -> str:
        """sha256 of what was passed."""
        return hashlib.sha256(json.dumps(self.passed(), sort_keys=True).encode()).hexdigest()

    def save(self, file: str | Path) -> None:
        """Write it as FILE.toml or FILE.json. Raises SparringError where a model, data or a defense is an object: a file holds texts."""
        for name in ("model", "data", "defenses", "sources"):
            values = vars(self)[name] if name in LISTS else (vars(self)[name],)
            if not all(isinstance(v, str | Path) for v in values):
                raise SparringError(f"{name} is an object of yours; a configuration file holds spec texts")
        content = {k: list(v) if isinstance(v, tuple) else v for k, v in self.passed().items() if v is not None}
        lines = [f"{k} = {json.dumps(v)}" for k, v in content.items()]  # JSON of these values is TOML too
        text = json.dumps(content, indent=2) if _is_json(file) else "\n".join(lines)
        write_text(Path(file), text + "\n")

    @classmethod
    def read(cls, file: str | Path, **given: Any) -> EvaluationSpec:
        """From FILE.toml or FILE.json; ``given`` values win. A file names registered things only, never code to import."""
        try:
            text = Path(file).read_text()
            content = json.loads(text) if _is_json(file) else tomllib.loads(text)
        except (OSError, ValueError) as error:
            raise SparringError(f"configuration {file} cannot be read ({error})") from None
        if not isinstance(content, dict):
            raise SparringError(f"configuration {file} holds no table of fields")
        try:
            return cls.of(**{**_checked(str(file), content), **given})
        except TypeError as error:
            raise SparringError(f"configuration {file}: {error}") from None


def _is_json(file: str | Path) -> bool:
    suffix = Path(file).suffix
    if suffix not in (".json", ".toml"):
        raise SparringError(f"configuration {file}: write FILE.toml or FILE.json")
    return suffix == ".json"


def _text(model: Any) -> str:
    return model if isinstance(model, str) else type(model).__name__


def _checked(file: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the right types, none of which names code."""
    kinds: dict[str, Any] = {"model": str, "data": str, **dict.fromkeys(LISTS, list[str]), "eps": list[float | str]}
    kinds |= {
        "tier": str,
        "seed": int,
        "limit": int,
        "draws": int,
        "expect_clean": float,
        "amp": bool,
        "skip_bad": bool,
        "block": int,
    }
    found: dict[str, Any] = {}
    for name, value in content.items():
        try:
            found[name] = TypeAdapter(kinds.get(name, Any)).validate_python(value, strict=True)
        except ValidationError as error:
            raise SparringError(f"configuration {file}: {name} = {value!r}: {error.errors()[0]['msg']}") from None
        for text in found[name] if isinstance(found[name], list) else [found[name]]:
            if isinstance(text, str) and f"{PYTHON}:" in text:
                raise SparringError(
                    f"configuration {file}: {name} names {text}, code to import; say it on the command line instead"
                )
    if "eps" in found:
        found["eps"] = tuple(_eps(file, e) for e in found["eps"])
    return found


def _eps(file: str, value: float | str) -> float:
    try:
        return number(value) if isinstance(value, str) else float(value)
    except (ValueError, ZeroDivisionError):
        raise SparringError(f"configuration {file}: eps = {value!r} is not a number like 8/255") from None
