"""The files of a run folder, read: each is what was written, or it is named as damaged."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from safetensors.torch import load
from torch import Tensor

from sparring.core.columns import Json
from sparring.core.errors import SparringError
from sparring.evaluation.records.place import Place, inside, place_of
from sparring.evaluation.records.seal import BLANK, Damaged, Unreadable, read_sealed, seal_of
from sparring.evaluation.records.shape import misfit

NOTE = "sparring"  # the key of a file's metadata under which it says what it is
NEEDED = ("identity", "environment", "images", "complete", "checks")
DECIDED = ("tier", "defenses", "threats", "attacks", "model", "seed", "weights", "data")
PICTURED = ("images", "attacks", "runs")  # lists as JSON, of as many


def note(folder: Place, file: Place, **facts: Any) -> str:
    """What a file says of itself: its place in the run folder, ``facts``, and (once it is sealed) its checksum."""
    return json.dumps({"place": str(inside(file, folder).with_suffix("")), **facts, "checksum": BLANK})


def noted(metadata: Mapping[str, str], folder: Place, file: Place, identity: str = "") -> Json:
    """What a file says of itself, or {} of earlier editions' files. Raises Damaged if it was written as another file, or for a run
    other than ``identity``: a copy is not counted twice, and never in another run.
    """
    facts = json.loads(metadata.get(NOTE, "{}"))
    if facts and facts["place"] != str(inside(file, folder).with_suffix("")):
        raise Damaged(f"it was written as {facts['place']}")
    if identity and facts.get("identity", identity) != identity:
        raise Damaged("it belongs to another run")
    return facts


# of an identity what decides no row, only which rows there are
GROWS = ("data", "block", "defenses", "threats", "attacks", "draws")


def row_identity(identity: Json) -> str:
    """Hash of what decides the rows of a run, whichever images, defenses, threats and attacks stand beside them."""
    return hash_of({k: v for k, v in identity.items() if k not in GROWS})


def identity_of(record: Json) -> str:
    """What rows and pictures of a run with this record say that they belong to; before runs could grow, to all that it was asked."""
    identity = record["identity"]
    return row_identity(identity) if "blocks" in record else hash_of(identity)


def hash_of(identity: Json) -> str:
    """sha256 of what decides a run's answers."""
    return hashlib.sha256(json.dumps(json_safe(identity), sort_keys=True, default=str).encode()).hexdigest()


def block_id(images: Sequence[str]) -> str:
    """What a block of images is called: by their names alone, wherever it stands and whatever stands beside it."""
    return hashlib.sha256("".join(images).encode()).hexdigest()[:20]


def read_tensors(
    folder: Place, file: Place, sealed: bool, identity: str = ""
) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """The tensors of one safetensors file and its metadata, or None where there is none; raises Damaged."""
    content = read_sealed(file, sealed)
    if content is None:
        return None
    try:
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__", {})
        noted(metadata, folder, file, identity)
        return load(content), metadata
    except Damaged:
        raise
    except Exception as error:
        raise Damaged(f"it holds no tensors ({first_line(error)})") from None


Pictures = list[tuple[dict[str, str], dict[str, Tensor]]]


def scan_pictures(folder: str | Place, record: Json) -> tuple[Pictures, list[str]]:
    """(what it is, tensors clean / adversarial / defended) of every whole stored example, and a line on each damaged file."""
    pictures: Pictures = []
    folder, damaged = place_of(folder), []
    for file in sorted(folder.glob("pictures/*.safetensors")):
        try:
            content = read_tensors(folder, file, "checksum" in record, identity_of(record))
            if content is None:
                continue
            tensors, about = content
            if "attack" in about:  # of an earlier edition, a file for each attack
                continue
            if not {"clean", "adversarial", "defended"} <= set(tensors) or not {"defense", "threat", *PICTURED} <= set(
                about
            ):
                raise Damaged("it holds no example")
            counts = {len(json.loads(about[name])) for name in PICTURED} | {len(t) for t in tensors.values()}
            if len(counts) > 1 or not all(t.dim() == 4 for t in tensors.values()):
                raise Damaged("its pictures are not those that it names")
        except (Damaged, ValueError, TypeError, RecursionError) as why:
            damaged.append(damage(folder, file, why if isinstance(why, Damaged) else Damaged(first_line(why))))
        else:
            pictures.append((about, tensors))
    return pictures, damaged


def read_run(folder: str | Place) -> Json:
    """run.json of a run folder; raises SparringError if there is none or it is damaged."""
    file = place_of(folder) / "run.json"
    try:
        record = parse_run(file)
    except Unreadable as why:
        raise SparringError(f"{file} cannot be read ({why}); make it readable, or move it away") from None
    except Damaged as why:
        raise SparringError(f"{file} is damaged ({why}); the same command with the same --out writes it anew") from None
    if record is None:
        raise SparringError(
            f"{folder} holds no run.json; is it a sparring run folder? (a lost one is written anew by the same command with the same --out)"
        )
    return record


def parse_run(file: Place) -> Json | None:
    """The content of a run.json, or None where there is none; raises Damaged."""
    content = read_sealed(file, sealed=False)
    if content is None:
        return None
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Damaged(first_line(error)) from None
    if not isinstance(record, dict):
        raise Damaged("it holds no record")
    whole = isinstance(record.get("identity"), dict) and isinstance(record.get("environment"), dict)
    lacks = [k for k in NEEDED if k not in record] + [k for k in DECIDED if whole and k not in record["identity"]]
    if lacks or not whole:
        raise Damaged(f"it lacks {', '.join(lacks) or 'what was run'}")
    if fault := misfit(record):
        raise Damaged(fault)
    if ("format" in record or "checksum" in record) and not seal_of(content):
        raise Damaged("it has no checksum")
    return record


def damage(folder: Place, file: Place, why: Damaged) -> str:
    """One line on a damaged file."""
    return f"{inside(file, folder)} is {'unreadable' if isinstance(why, Unreadable) else 'damaged'}: {why}"


def first_line(error: Exception) -> str:
    """What an exception says, in a line."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON of ``json_safe`` values."""
    return json.dumps(json_safe(value), indent=indent, default=str)


def json_safe(value: Any) -> Any:
    """The same with infinities and NaN as strings ("inf", "nan"), so that no reader of JSON chokes and none is lost."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): json_safe(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(v) for v in value]
    return value
