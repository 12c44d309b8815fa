"""``Finding``: what a check said of a run; part of its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sparring.core.errors import SparringError
from sparring.core.shown import shown

Severity = Literal["FATAL", "FAIL", "WARN", "INFO"]
Scope = Literal["J", "A"]


@dataclass(frozen=True)
class Finding:
    """One answer of one check about one subject. ``ok`` False: it fired. The message names the fault and the fix.

    defense, threat, norm, eps: what number it is about, as far as it is about one; "" and None: about all of them. images: ids of the
    images whose result it makes suspect, where it knows them.
    """

    check: str
    subject: str
    ok: bool
    severity: Severity
    scope: Scope
    value: float
    threshold: float
    message: str
    defense: str = ""
    threat: str = ""
    norm: str = ""
    eps: float | None = None
    images: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return shown(self, self.check, "ok" if self.ok else self.severity, self.subject, self.message)

    @property
    def stops(self) -> bool:
        """Does it stop an evaluation before it prints a number?"""
        return not self.ok and self.severity == "FATAL"

    def about(self, defense: str, threat: str, norm: str, eps: float) -> bool:
        """Does it concern the number of this defense, threat and ball?"""
        mine, asked = (self.defense, self.threat, self.norm, self.eps), (defense, threat, norm, eps)
        return all(m in ("", None, a) for m, a in zip(mine, asked, strict=True))


class InvalidSetup(SparringError):
    """A check that is fatal failed, so there is no number. ``findings``: what all checks said."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        stopped = [f for f in self.findings if f.stops]
        more = f" (and {len(stopped) - 1} more; see sparring doctor)" if len(stopped) > 1 else ""
        super().__init__(f"INVALID: check {stopped[0].check} failed: {stopped[0].message}{more}")
