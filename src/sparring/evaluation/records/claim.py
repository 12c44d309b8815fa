"""``Claim``: the robust accuracy that somebody says a defense has, under which threat and in which ball."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sparring.core.errors import SparringError
from sparring.core.geometry import NORMS
from sparring.core.ranges import Positive, Share
from sparring.core.spec import ball, convert, parse

FORM = re.compile(rf"\s*(.+?)\s*,\s*({'|'.join(NORMS)})\s+(\S+)\s*=\s*(\S+)\s*")


@dataclass(frozen=True)
class Claim:
    """value: the claimed robust accuracy, a share in [0,1]. threat: spec text."""

    threat: str
    norm: str
    eps: float
    value: float

    @classmethod
    def of(cls, text: str) -> Claim:
        """From ``adaptive,linf 8/255 = 0.45``; raises SparringError for anything else."""
        match = FORM.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise SparringError(
                f"claim {text!r} is not understood; write THREAT,NORM EPS = SHARE: adaptive,linf 8/255 = 0.45"
            )
        threat, norm, eps, value = match.groups()
        owner = f"claim {text!r}"
        return cls(
            str(parse(threat)), norm, convert(owner, "eps", Positive, eps), convert(owner, "value", Share, value)
        )

    def about(self, threat: str, norm: str, eps: float) -> bool:
        """Is it about the number of this threat and ball?"""
        return (self.threat, self.norm) == (threat, norm) and abs(self.eps - eps) <= 1e-9 * eps

    def __str__(self) -> str:
        return f"{self.threat},{ball(self.norm, self.eps)} = {self.value:g}"
