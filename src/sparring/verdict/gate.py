"""``Gate``: what a run must show for a pipeline to go on, and JUnit XML for those that read it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from sparring.core.errors import SparringError
from sparring.core.registry import suggest
from sparring.core.spec import ball
from sparring.evaluation.results.closed import UNDEFENDED
from sparring.evaluation.results.load import Evaluation
from sparring.evaluation.results.verdicts import Verdict, Word

UNBELIEVED: tuple[Word, ...] = ("ATTACK_NOT_TRUSTED", "INVALID")


@dataclass(frozen=True)
class Gate:
    """at_least: points of accuracy in [0,100] that must be *trusted* in every number with a verdict, None: no such mark. words: verdicts that fail. A
    number that nobody can believe fails always, and so do one of an attack without a budget, one without follow-ups and a run without a verdict. The
    undefended model is asked where there is nothing else.
    """

    at_least: float | None = None
    words: tuple[Word, ...] = ()

    @classmethod
    def of(cls, at_least: str | float | None, words: Sequence[str] = ()) -> Gate | None:
        """From what was typed; None where no gate is asked for. Raises SparringError: 0.4 is no 40 %."""
        if at_least is None and not words:
            return None
        share = None if at_least is None else _points(at_least)
        known = get_args(Word)
        for word in words:
            if word.upper() not in known:
                raise SparringError(f"verdict {word!r} is none{suggest(word.upper(), known)}")
        return cls(share, tuple(word for word in known if word in {w.upper() for w in words}))

    def failures(self, evaluation: Evaluation) -> dict[str, str]:
        """By number what is wrong with it."""
        asked = asked_of(evaluation)
        if not asked:
            return {"this evaluation": f"there is no verdict ({evaluation.missing or 'nothing was attacked'})"}
        said = {about(v): self.fault(v) for v in asked}
        return {name: fault for name, fault in said.items() if fault}

    def fault(self, verdict: Verdict) -> str:
        """What is wrong with a number, or ""."""
        if verdict.word in (*self.words, *UNBELIEVED):
            return f"its verdict is {verdict.word}"
        if not verdict.followed:
            return "what its attacks left was not attacked again, so that nothing says how weak they are; leave --no-follow-up out"
        if math.isinf(verdict.eps):
            return "its attack has no budget, so that what it leaves is no robust accuracy; give the attack its eps"
        trusted = 100 * verdict.trusted
        if self.at_least is not None and not trusted >= self.at_least:  # nan fails, too
            return f"{trusted:.1f} % of its images are trusted to be right, {self.at_least:g} % are asked"
        return ""


def _points(text: str | float) -> float:
    try:
        points = float(text)
    except ValueError:
        raise SparringError(f"fail-under={text} is no number; write 40 for 40 %") from None
    if not 0 <= points <= 100:
        raise SparringError(f"fail-under={text} is outside [0,100]; write 40 for 40 %")
    if 0 < points <= 1:
        raise SparringError(f"fail-under={text} would be {points:g} %; write {100 * points:g} for {100 * points:g} %")
    return points


def about(verdict: Verdict) -> str:
    """What a verdict is on."""
    return (
        f"{verdict.defense} | {verdict.threat} | {ball(verdict.norm, verdict.eps)}"
        if verdict.threat
        else "this evaluation"
    )


def asked_of(evaluation: Evaluation) -> list[Verdict]:
    """The verdicts that a gate looks at."""
    defended = [v for v in evaluation.verdicts if v.defense != UNDEFENDED]
    return defended or list(evaluation.verdicts)


def junit(evaluation: Evaluation, gate: Gate, name: str) -> str:
    """JUnit XML: a test case a verdict, failed where the gate fails it."""
    verdicts = asked_of(evaluation)
    failures = gate.failures(evaluation)
    cases = [(about(v), v.line) for v in verdicts] or [("this evaluation", evaluation.missing)]
    suite = Element("testsuite", name="sparring", tests=str(len(cases)), failures=str(len(failures)), errors="0")
    for case, line in cases:
        element = SubElement(suite, "testcase", classname=name, name=case)
        if case in failures:
            SubElement(element, "failure", message=failures[case]).text = line
        else:
            SubElement(element, "system-out").text = line
    indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(suite, encoding="unicode") + "\n"
