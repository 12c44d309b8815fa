"""``EvaluationSpec``: what is evaluated, as one value; to and from TOML or JSON."""

from __future__ import annotations

import hashlib
import json
import tomllib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from torch import nn

from sparring.core.columns import Json
from sparring.core.errors import SparringError
from sparring.core.fitting import Fitting
from sparring.core.ranges import Count, Draws, Limit, Positive, Seed, Share, adapter
from sparring.core.registry import suggest
from sparring.core.shown import many, shown
from sparring.core.spec import PYTHON, convert, signature, split, without
from sparring.defenses.base import name_of
from sparring.evaluation.plan.tiers import TIERS
from sparring.evaluation.records.claim import Claim
from sparring.evaluation.records.seal import write_text

BLOCK = 256  # images that are attacked, judged and stored together
SETTINGS = (
    "seed",
    "limit",
    "draws",
    "expect_clean",
    "amp",
    "skip_bad",
    "block",
    "large_eps",
    "survivors",
    "no_follow_up",
)
LISTS = ("defenses", "threats", "attacks", "eps", "sources")


@dataclass(frozen=True)
class EvaluationSpec:
    """model, data, defenses, threats, attacks, sources (other models for transfer): spec texts, or objects (a module, tensors, an image
    set, an ``Attack``, a defense); one text where several may stand is split as on the command line. eps: budgets for attacks without
    their own. tier: quick, standard or thorough. draws: EOT draws per gradient, None: the tier's;
    "auto": for each random system as few as agree, by check G3 on its first images, at most the tier's. expect_clean: declared clean accuracy
    in [0,1]. amp: bfloat16 gradients. skip_bad: leave unreadable images out. block: images stored together (of photos fewer). large_eps: an linf eps
    above 0.5 is meant. survivors: an attack looks only at images that its threat's closed pool still counts as right, white-box attacks first;
    None: so with a tier's attacks, while named ones, which are to be compared, attack all images. no_follow_up: the attacks that failed checks ask
    for are not made, so that their doubts stay (and nothing can be said to hold, since more budget was not tried). baseline: the defense that each
    number is compared with, "": none. claims: what somebody says a number is, such as "adaptive,linf 8/255 = 0.45"; both are asked of the rows and
    change none.

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
    seed: Seed = 0
    limit: Limit = None
    draws: Draws | Literal["auto"] | None = None
    expect_clean: Share | None = None
    amp: bool = False
    skip_bad: bool = False
    block: Count = BLOCK
    large_eps: bool = False
    survivors: bool | None = None
    no_follow_up: bool = False
    baseline: str = ""
    claims: Sequence[str] = ()

    def __post_init__(self) -> None:
        known = signature(EvaluationSpec)
        for name in LISTS:
            object.__setattr__(self, name, _several(name, vars(self)[name]))
        object.__setattr__(self, "eps", convert("evaluate", "eps", tuple[Positive, ...], self.eps))
        for name in SETTINGS:
            object.__setattr__(self, name, convert("evaluate", name, known[name][0], vars(self)[name]))
        for name in ("model", "data"):
            if vars(self)[name] is None or (isinstance(vars(self)[name], str) and not vars(self)[name].strip()):
                is_what = "None" if vars(self)[name] is None else "an empty text"
                raise SparringError(f"evaluate: {name} is {is_what}; name a {name.replace('data', 'data set')}")
        if self.tier not in TIERS:
            raise SparringError(f"tier={self.tier} is not one of {', '.join(TIERS)}")
        # a claim holds a comma itself, so one text is one claim
        claims = (self.claims,) if isinstance(self.claims, str) else tuple(self.claims)
        object.__setattr__(self, "claims", tuple(str(Claim.of(text)) for text in claims))

    def __repr__(self) -> str:
        asked = (
            many(len(self.defenses), "defense"),
            many(len(self.threats), "threat"),
            many(len(self.attacks), "attack"),
        )
        return shown(self, _text(self.model), _text(self.data), *asked, self.tier)

    @classmethod
    def of(cls, **given: Any) -> EvaluationSpec:
        """From keyword arguments; an unknown one is refused by name."""
        known = [f.name for f in fields(cls)]
        for name in given:
            if name not in known:
                raise SparringError(f"evaluate: unknown option {name!r}{suggest(name, known)}")
        return cls(**given)

    def passed(self) -> dict[str, Any]:
        """What was passed, as plain values; objects by their names, and under "objects" which fields hold some."""
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
        given = {f.name: named.get(f.name, vars(self)[f.name]) for f in fields(self)}
        return {
            **given,
            "objects": [name for name in ("model", "data", "defenses", "sources") if not self._texts(name)],
        }

    def images_meant(self, fitting: Fitting | None) -> str:
        """The text of all that decides which images are meant, "" where they are objects."""
        if not self._texts("data"):
            return ""
        return json.dumps([str(self.data), self.limit, self.skip_bad, str(fitting)])

    def _texts(self, name: str) -> bool:
        """Is a field text, all of it?"""
        values = vars(self)[name] if name in LISTS else (vars(self)[name],)
        return all(isinstance(v, str | Path) for v in values)

    @property
    def on_survivors(self) -> bool:
        """Do attacks look at survivors alone?"""
        return not self.attacks if self.survivors is None else self.survivors

    @property
    def hash(self) -> str:
        """sha256 of what was passed."""
        return hashlib.sha256(json.dumps(self.passed(), sort_keys=True).encode()).hexdigest()

    def save(self, file: str | Path) -> None:
        """Write it as FILE.toml or FILE.json. Warns of fields that name code, which must be given again beside the file. Raises SparringError
        where a model, data or a defense is an object: a file holds texts.
        """
        passed = self.passed()
        for name in passed.pop("objects"):
            raise SparringError(f"{name} is an object of yours; a configuration file holds spec texts")
        content = {k: list(v) if isinstance(v, tuple) else v for k, v in passed.items() if v is not None}
        lines = [f"{k} = {json.dumps(v)}" for k, v in content.items()]  # JSON of these values is TOML too
        text = json.dumps(content, indent=2) if _is_json(file) else "\n".join(lines)
        if Path(file).exists() and Path(file).read_text() != text + "\n":
            raise SparringError(
                f"configuration {file} exists and says something else; choose another name, or remove it"
            )
        write_text(Path(file), text + "\n")
        if coded := [name for name, value in content.items() if _code_in(value)]:
            warnings.warn(
                f"{file} names code to import, which is never read from a file: give {' and '.join(coded)} on the command line beside --config",
                stacklevel=2,
            )

    @classmethod
    def read(cls, file: str | Path, **given: Any) -> EvaluationSpec:
        """From FILE.toml or FILE.json; ``given`` values win, and what the file says of these fields is not looked at. A file names registered
        things only, never code to import.
        """
        try:
            text = Path(file).read_text()
            content = json.loads(text, object_pairs_hook=_each_once) if _is_json(file) else tomllib.loads(text)
        except (OSError, ValueError) as error:
            raise SparringError(f"configuration {file} cannot be read ({error})") from None
        if not isinstance(content, dict):
            raise SparringError(f"configuration {file} holds no table of fields")
        checked = _checked(str(file), {k: v for k, v in content.items() if k not in given})
        if "limit" in given and isinstance(data := checked.get("data"), str):
            checked["data"] = without(data, "limit")[0]
        try:
            return cls.of(**{**checked, **given})
        except (TypeError, SparringError) as error:
            raise SparringError(f"configuration {file}: {error}") from None


def _each_once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    """A JSON object; ValueError for a key that stands in it twice, as TOML has it."""
    keys = [key for key, _ in pairs]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise ValueError(f"{twice[0]!r} is given twice")
    return dict(pairs)


def _is_json(file: str | Path) -> bool:
    suffix = Path(file).suffix
    if suffix not in (".json", ".toml"):
        raise SparringError(f"configuration {file}: write FILE.toml or FILE.json")
    return suffix == ".json"


def _text(model: Any) -> str:
    return model if isinstance(model, str) else type(model).__name__


def _several(name: str, value: object) -> tuple[object, ...]:
    """A list's members; one text is split as on the command line, anything else that is alone is a list of one. Nothing is no list."""
    if value is None:
        raise SparringError(f"evaluate: {name}=None is no list; leave {name} out for the default")
    if isinstance(value, str):
        return tuple(split(value))
    if isinstance(value, nn.Module | Mapping) or not isinstance(value, Iterable):
        return (value,)
    members = tuple(value)
    for member in members:
        if isinstance(member, str) and not member.strip():
            raise SparringError(f"evaluate: {name} holds an empty text; write a name, or leave it out")
        if name == "threats" and not isinstance(member, str):
            raise SparringError(f"evaluate: {member!r} in threats is no spec text")
    return members


def _checked(file: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the right types, none of which names code."""
    kinds: dict[str, object] = {
        **dict.fromkeys(("model", "data", "tier", "baseline"), str),
        **dict.fromkeys((*LISTS, "claims"), list[str] | str),
        **dict.fromkeys(("seed", "limit", "block"), int),
        "draws": int | str,
        **dict.fromkeys(("amp", "skip_bad", "large_eps", "survivors", "no_follow_up"), bool),
        "eps": list[float | str] | float | str,
        "expect_clean": float,
    }
    checked: dict[str, Any] = {}
    for name, value in content.items():
        try:
            checked[name] = adapter(kinds.get(name, object)).validate_python(value, strict=True)
        except ValidationError as error:
            raise SparringError(f"configuration {file}: {name} = {value!r}: {error.errors()[0]['msg']}") from None
        if text := _code_in(checked[name]):
            raise SparringError(
                f"configuration {file}: {name} names {text}, code to import; say it on the command line instead"
            )
    return checked


def _code_in(value: object) -> str:
    """The first text of a field's value that names code to import, or ""."""
    texts = [v for v in (value if isinstance(value, list | tuple) else [value]) if isinstance(v, str)]
    return next((text for text in texts if f"{PYTHON}:" in text), "")
