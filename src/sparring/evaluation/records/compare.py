"""Is what a folder holds a part of what is asked? A run may grow into a larger one, never become another."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow.compute as pc

from sparring.core.columns import Json
from sparring.core.errors import SparringError
from sparring.evaluation.records.files import GROWS, block_id, parse_run, row_identity
from sparring.evaluation.records.folder import is_ours
from sparring.evaluation.records.place import Place
from sparring.evaluation.records.provenance import made_by
from sparring.evaluation.records.rows import Piece, RowFile, row_files
from sparring.evaluation.records.seal import Damaged

Blocks = Sequence[Sequence[str]]


def grown_by(folder: Place, record: Json, identity: Json, blocks: Blocks) -> str:
    """What this configuration adds to that of a folder's record, in words, or "". Raises SparringError if that is another one, or holds more."""
    before, more = record.get("identity", {}), list[str]()
    changed = [k for k in {**before, **identity} if before.get(k) != identity.get(k)]
    if "blocks" in record:
        lost, more = _growth(record, identity, blocks)
        changed = [k for k in changed if k not in GROWS or k in lost]
    if changed == ["code"]:
        raise SparringError(
            f"output folder {folder} was {made_by(record)}: it can be reported, not resumed; choose another --out"
        )
    if changed == ["own_code"]:
        raise SparringError(
            f"output folder {folder} was made before your own code (plug-in, class, function) changed: it can be reported, not resumed; choose another --out"
        )
    if changed:
        passed, was = record.get("passed", {}), ""
        shares = (
            f", and --reuse {folder} for what both have" if "blocks" in record and set(changed) <= set(GROWS) else ""
        )
        if "data" in changed and "limit" in passed:
            was = f"; its data was {passed.get('data')} with limit {passed['limit'] or 'none'}"
        raise SparringError(
            f"output folder {folder} holds another configuration (differs in {', '.join(sorted(changed))}{was}); choose another --out{shares}"
        )
    return ", ".join(more)


def refuse_larger(folder: Place, identity: Json, blocks: Blocks) -> None:
    """Raises SparringError where a folder's record asks more by now than this run: it would be lost."""
    try:
        record = parse_run(folder / "run.json")
    except Damaged:
        return
    lost = _growth(record, identity, blocks)[0] if record and "blocks" in record else []
    if lost:
        raise SparringError(
            f"{folder} has grown beyond this run meanwhile ({', '.join(lost)}), by a larger command, which goes on with what this one made; start that one again"
        )


def _growth(record: Json, identity: Json, blocks: Blocks) -> tuple[list[str], list[str]]:
    """Fields of which the folder holds more than this configuration asks for, and what this one adds, in words."""
    before = record["identity"]
    lost, more = [], []
    for name in ("defenses", "threats", "attacks"):
        if set(before[name]) - set(identity[name]):
            lost.append(name)
        if new := [text for text in identity[name] if text not in before[name]]:
            more.append(f"{name} {', '.join(new)}")
    if any(identity["draws"].get(name, count) != count for name, count in before["draws"].items()):
        lost.append("draws")
    old, images = ({name for block in each for name in block} for each in (record["blocks"], blocks))
    if old - images:
        lost.append("data")
    if images - old:
        more.append(f"{len(images - old)} images beside {len(old & images)}")
    return lost, more


def adopted(folder: Place, fault: str, identity: Json, blocks: Blocks) -> set[str]:
    """What rows of a folder without a readable record are filed under. Raises SparringError unless all that it holds is of this configuration, as its
    rows say.
    """
    foreign = [f.name for f in folder.iterdir() if not is_ours(f)]
    if foreign:
        raise SparringError(
            f"{fault}, and {foreign[0]} is none of a sparring run's files; move it away, or choose another --out"
        )
    ours, names = row_identity(identity), {block_id(images) for images in blocks}
    images = {name for block in blocks for name in block}
    cells: set[str] = set()
    for file in row_files(folder, False)[0]:
        for piece in file.pieces:
            # other processes may have cut the same images otherwise
            known = piece.block in names or (piece.images and set(piece.images) <= images)
            if file.facts.get("identity") != ours or not known or not _asks(identity, file, piece):
                raise SparringError(f"{fault}, and its rows are of another configuration; choose another --out")
            cells.add(piece.cell)
    return cells


def _asks(identity: Json, file: RowFile, piece: Piece) -> bool:
    """Are rows of what a configuration asks, or of what followed it?"""
    rows = file.table(piece, ("defense", "threat", "attack", "check", "kind"))
    own = rows.filter((pc.field("check") == "") & (pc.field("kind") != ""))  # clean images are of every run
    said = {"defenses": rows["defense"], "threats": own["threat"], "attacks": own["attack"]}
    return all(set(texts.unique().to_pylist()) <= set(identity[name]) for name, texts in said.items())
