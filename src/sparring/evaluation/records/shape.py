"""What stands in a run.json, as far as anything is read from it: foreign types are told from a record before they become numbers."""

from __future__ import annotations

from typing import Annotated, NotRequired

from annotated_types import Ge, Len
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic asks for it below Python 3.12

from sparring.core.columns import Json
from sparring.evaluation.records.finding import Scope, Severity

Number = float | str  # infinities and nan are texts


class Identity(TypedDict):
    """What decides a run's answers."""

    tier: str
    defenses: list[str]
    threats: list[str]
    attacks: list[str]
    model: str
    seed: int
    weights: str
    data: str


class Environment(TypedDict):
    """Where it was made."""

    sparring: str


class Said(TypedDict):
    """A finding."""

    check: str
    subject: str
    ok: bool
    severity: Severity
    scope: Scope
    value: Number
    threshold: Number
    message: str
    defense: NotRequired[str]
    threat: NotRequired[str]
    norm: NotRequired[str]
    eps: NotRequired[Number | None]
    images: NotRequired[list[str]]


class Facts(TypedDict):
    """Facts of a threat."""

    name: str
    dominated: list[str]
    merges: NotRequired[bool]
    pictured: NotRequired[bool]
    deployed: NotRequired[bool]
    shows: NotRequired[str]
    grants: NotRequired[str]
    adaptive: NotRequired[bool]
    queries: NotRequired[int | None]


class SkippedCell(TypedDict):
    """A cell that was not run."""

    defense: str
    threat: str
    attack: str


class Declared(TypedDict):
    """What an attacker may use of a stage."""

    stage: str
    variants: list[str]
    random: bool
    why: str


class Passed(TypedDict):
    """What the run was asked."""

    baseline: NotRequired[str]
    claims: NotRequired[list[str]]


class Execution(TypedDict):
    """Who did the work. nodes, devices: how many workers of each; session: of the process that gave the work."""

    workers: NotRequired[int]
    threads: NotRequired[int]
    shards: NotRequired[int]
    engine: NotRequired[str]
    retries: NotRequired[int]
    nodes: NotRequired[dict[str, int]]
    devices: NotRequired[dict[str, int]]
    precision: NotRequired[dict[str, str | bool]]
    session: NotRequired[str]


class Record(TypedDict):
    """The whole; fields that only some editions write need not be there."""

    identity: Identity
    environment: Environment
    images: Annotated[int, Ge(0)]
    complete: bool
    checks: list[Said]
    rows_per_image: NotRequired[Annotated[int, Ge(1)]]
    class_names: NotRequired[list[str]]
    classes: NotRequired[Annotated[int, Ge(1)]]
    prepared: NotRequired[dict[str, str]]
    model_note: NotRequired[str]
    skipped: NotRequired[list[SkippedCell]]
    threats: NotRequired[dict[str, Facts]]
    surrogates: NotRequired[dict[str, list[Declared]]]
    passed: NotRequired[Passed]
    blocks: NotRequired[list[list[str]]]
    cells: NotRequired[list[str]]
    runs: NotRequired[list[str]]
    running: NotRequired[Execution]
    failed: NotRequired[dict[str, str]]
    answers: NotRequired[dict[str, list[Annotated[list[float], Len(2, 2)]]]]


_RECORD = TypeAdapter(Record)


def misfit(record: Json) -> str:
    """The first thing in a record that is not what a run writes, or ""."""
    try:
        _RECORD.validate_python(record, strict=True)
    except ValidationError as error:
        fault = error.errors()[0]
        return f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
    return ""
