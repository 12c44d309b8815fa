"""``Status``: how far a run folder is, read from its files alone, from any terminal or machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

import numpy as np

from sparring.core.columns import Json
from sparring.evaluation.records.claims import FOLDER, Claims
from sparring.evaluation.records.files import block_id, identity_of, read_run
from sparring.evaluation.records.place import Place, modified, place_of
from sparring.evaluation.records.rows import RowFile, calls_of, row_files

PAUSE = 10.0  # times the usual: a longer silence between two files is a pause, not work


@dataclass(frozen=True)
class Status:
    """``images``, ``blocks``, ``files`` (blocks of rows of one cell): how many, and how many of them are ``done``. ``working``: who is at which
    block. ``calls``: network forwards and backwards of attacks until now. ``seconds``: how long the rest may take at the pace until now,
    None: nothing says. ``idle``: seconds since the last file was written. ``failed``: why a block was given up. ``complete``: the verdict is there.
    """

    images: int
    images_done: int
    blocks: int
    blocks_done: int
    files: int
    files_done: int
    working: dict[str, str]
    calls: int
    seconds: float | None
    idle: float | None
    failed: dict[str, str]
    damaged: tuple[str, ...]
    complete: bool

    def json(self) -> Json:
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"{'complete' if self.complete else 'running' if self.working else 'not complete'}: "
            f"{self.images_done} of {self.images} images, {self.blocks_done} of {self.blocks} blocks, {self.files_done} of {self.files} files of rows",
            f"network calls of attacks until now: {self.calls:,}",
        ]
        lines += [f"at work on block {block}: process {pid} on {host}" for block, (pid, host) in self._who().items()]
        lines += [f"block {block} failed: {why}; the same command tries it again" for block, why in self.failed.items()]
        if self.idle is not None and not self.complete:
            lines.append(f"last file written {_span(self.idle)} ago")
        if self.seconds is not None and not self.complete:
            lines.append(
                f"about {_span(self.seconds)} left at the pace until now, before checks and the attacks that these ask for"
            )
        return "\n".join([*lines, *self.damaged])

    def _who(self) -> dict[str, tuple[str, str]]:
        return {block: (who.partition(" ")[0], who.partition(" ")[2]) for block, who in self.working.items()}


def status_of(folder: str | Place) -> Status:
    """The state of a run folder. Raises SparringError where it holds no run."""
    folder = place_of(folder)
    record = read_run(folder)
    cells, blocks = record.get("cells", []), {block_id(names): len(names) for names in record.get("blocks", [])}
    files, damaged = row_files(folder, "checksum" in record, identity_of(record))
    there = {piece.key for file in files for piece in file.pieces}
    done = {(cell, block) for cell in cells for block in blocks} & there
    whole = [block for block in blocks if all((cell, block) in done for cell in cells)]
    left = len(cells) * len(blocks) - len(done)
    times = np.sort([_written(file) for file in files])
    steps = np.diff(times)
    usual = steps[steps <= PAUSE * np.median(steps)] if len(steps) else steps
    calls, working = _calls(files), dict[str, str]()
    for plan in (folder / FOLDER).glob("*"):
        working |= Claims(folder, plan.name).held()
    return Status(
        images=record["images"],
        images_done=sum(blocks[block] for block in whole) if blocks else record["images"] * record["complete"],
        blocks=len(blocks),
        blocks_done=len(whole),
        files=len(cells) * len(blocks),
        files_done=len(done),
        working=working,
        calls=calls,
        seconds=float(usual.mean()) * left if len(usual) and left and calls else None,
        idle=max(0.0, time.time() - float(times[-1])) if len(times) else None,
        failed=record.get("failed", {}),
        damaged=tuple(damaged),
        complete=record["complete"],
    )


def _calls(files: Sequence[RowFile]) -> int:
    """Of each run on each block once, whichever cells share it, as the files say of themselves."""
    cost: dict[tuple[str, str], int] = {}
    for file in files:
        for piece in file.pieces:
            for run, calls in (calls_of(file.table(piece)) if piece.calls is None else piece.calls).items():
                cost[run, piece.block] = max(calls, cost.get((run, piece.block), 0))
    return sum(cost.values())


def _written(file: RowFile) -> float:
    """When a file was written; 0: it is gone since."""
    with suppress(FileNotFoundError):
        return modified(file.file)
    return 0.0


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
