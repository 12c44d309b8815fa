"""``Shard``: this process is one of several, on any machines, that were started by themselves on one run folder."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from sparring.core.errors import SparringError

# who starts many processes, and where each is told its number, how many there are, and the first number
ENGINES = (
    ("RANK", "WORLD_SIZE", ""),
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS", ""),
)


@dataclass(frozen=True)
class Shard:
    """One of ``count`` processes, each started by itself, on any machines that share the folder. count 0: nobody says how many."""

    index: int
    count: int

    @classmethod
    def of(cls, text: str, environment: Mapping[str, str] | None = None) -> Shard:
        """From "i/N" with i from 0, or "auto": what torchrun or MPI (RANK, WORLD_SIZE), a SLURM array (SLURM_ARRAY_TASK_ID) or an indexed Kubernetes
        job (JOB_COMPLETION_INDEX) say. Raises SparringError.
        """
        said = os.environ if environment is None else environment
        if text != "auto":
            parts = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
            if not parts or int(parts[1]) >= int(parts[2]):
                raise SparringError(f"shard={text} is none: write i/N with i from 0 to N-1, such as 0/4, or auto")
            return cls(int(parts[1]), int(parts[2]))
        for name, count, first in ENGINES:
            if name in said:
                values = [said.get(key, "0") for key in (name, count, first)]
                if not all(v.isdigit() for v in values):
                    raise SparringError(f"shard=auto: {name}={values[0]}, {count}={values[1]} are no whole numbers")
                index, many, start = map(int, values)
                return cls(max(0, index - start), many)
        raise SparringError(
            "shard=auto: none of RANK, SLURM_ARRAY_TASK_ID and JOB_COMPLETION_INDEX is set; write i/N, such as 0/4"
        )

    def first(self, blocks: int) -> int:
        """The block that it begins at."""
        return self.index * blocks // self.count if self.count else self.index % max(1, blocks)
