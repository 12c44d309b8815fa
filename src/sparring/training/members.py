"""Lists of attacks as data: what the members of an attacked set are, each a spec text and the sources that it is made on."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sparring.attacks.attack import attack
from sparring.core.errors import SparringError
from sparring.core.registry import suggest
from sparring.core.spec import named_by

SUFFIX = ".toml"


class AttackMember(BaseModel):
    """One way of distorting an image. ``attack``: spec text without eps, "" for the clean image; ``noise``: +-eps at random in its place.
    ``sources``: the numbers of those whose mean logits are attacked, all of them together, or each alone (a member for each).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    name: str
    attack: str = ""
    noise: bool = False
    sources: list[int] | Literal["all", "each"] = "all"

    def on(self, count: int) -> list[AttackMember]:
        """The same with the numbers of its sources, of so many. Raises SparringError for a number that is none of theirs, and for an attack that is none."""
        if self.noise and self.attack:
            raise SparringError(f"member {self.name}: noise stands in an attack's place; leave one of them out")
        if self.attack and attack(self.attack).setting.eps is not None:
            raise SparringError(
                f"member {self.name}: eps is drawn for each image (low, high); leave it out of {self.attack}"
            )
        if self.sources == "each":
            return [self.model_copy(update={"name": f"{self.name}-{i}", "sources": [i]}) for i in range(count)]
        numbers = list(range(count)) if self.sources == "all" else self.sources
        wrong = [i for i in numbers if not 0 <= i < count]
        if wrong or not numbers:
            raise SparringError(
                f"member {self.name}: sources={numbers}, but there are {count} (0..{count - 1}); give more --source, or another list"
            )
        return [self.model_copy(update={"sources": numbers})]


class AttackList(BaseModel):
    """What stands in the file of a list."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    member: list[AttackMember] = Field(min_length=1)


def known_lists() -> dict[str, Path]:
    """The packaged lists' files by name."""
    root = Path(str(files("sparring.training").joinpath("lists")))
    return {file.stem: file for file in sorted(root.glob(f"*{SUFFIX}"))}


def members_of(text: str, count: int) -> tuple[AttackMember, ...]:
    """The members of a packaged list, or of FILE.toml (a ``[[member]]`` each), on so many sources; one that repeats another is left out. Raises
    SparringError, by file, for what is none.
    """
    known = known_lists()
    if text not in known and not text.endswith(SUFFIX):
        raise SparringError(
            f"unknown list of attacks {text!r}{suggest(text, known)}; name a packaged list, or FILE{SUFFIX}"
        )
    file = known.get(text, Path(text))
    try:
        listed = AttackList.model_validate(tomllib.loads(file.read_text())).member
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise SparringError(f"list of attacks {file}: {where}: {fault['msg']}") from None
    except (OSError, ValueError) as error:
        raise SparringError(f"list of attacks {file} cannot be read ({error})") from None
    try:
        with named_by(file):
            every = [member for one in listed for member in one.on(count)]
    except SparringError as error:
        raise SparringError(f"list of attacks {file}: {error}") from None
    different = {(m.attack, m.noise, tuple(m.sources)): m for m in reversed(every)}  # of equal ones the first
    members = [m for m in every if m in different.values()]
    names = [m.name for m in members]
    for name in names:
        if names.count(name) > 1 or not name.replace("-", "").isalnum():
            raise SparringError(
                f"list of attacks {file}: member {name!r} names a file: letters, digits and -, each name once"
            )
    return tuple(members)
