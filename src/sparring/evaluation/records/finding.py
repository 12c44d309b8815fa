"""``Finding``: what a check said of a run; part of its record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["FATAL", "FAIL", "WARN", "INFO"]
Scope = Literal["J", "A"]


@dataclass(frozen=True)
class Finding:
    """One answer of one check about one subject. ``ok`` False: it fired. The message names the fault and the fix."""

    check: str
    subject: str
    ok: bool
    severity: Severity
    scope: Scope
    value: float
    threshold: float
    message: str

    @property
    def stops(self) -> bool:
        """Does it stop an evaluation before it prints a number?"""
        return not self.ok and self.severity == "FATAL"
