"""The contract of checks."""

from __future__ import annotations

import copy
import re
from typing import ClassVar

import numpy as np
import torch

from sparring.checks.base import Check
from sparring.checks.rows import RowCheck
from sparring.checks.trials import ActiveCheck
from sparring.core.registry import CHECKS
from sparring.evaluation.records.rows import SCHEMA
from sparring.evaluation.results.table import RowTable
from sparring.evaluation.run.trial import Trial

SECTIONS = ("Raised if:", "Why:", "What to do:")


class CheckContract:
    """What every check does, by its id. Subclass it and parametrize ``spec``."""

    kind: ClassVar[str] = "checks"

    def test_it_is_declared(self, spec: str) -> None:
        """Its id is letters and a number, by which findings are sorted; its docstring has the sections of the docs."""
        check: Check | RowCheck | ActiveCheck = CHECKS[spec]
        assert check.id == spec
        assert re.fullmatch(r"[A-Z]{1,2}\d*", spec)
        assert check.title
        assert all(word in check.doc for word in SECTIONS)

    def test_it_fires(self, spec: str) -> None:
        findings = CHECKS[spec].run(CHECKS[spec].fires())
        assert any(not f.ok for f in findings), [f.message for f in findings]

    def test_it_stays_silent(self, spec: str) -> None:
        findings = CHECKS[spec].run(CHECKS[spec].silent())
        assert findings, "it says that all is well"
        assert all(f.ok for f in findings), [f.message for f in findings if not f.ok]

    def test_findings_say_what_was_seen(self, spec: str) -> None:
        for made in (CHECKS[spec].fires(), CHECKS[spec].silent()):
            for finding in CHECKS[spec].run(made):
                assert finding.check == spec
                assert finding.message
                assert "\n" not in finding.message

    def test_asking_changes_nothing(self, spec: str) -> None:
        """The model, the images and the global generator are as before, and so are its findings."""
        subject = CHECKS[spec].silent()
        if isinstance(subject, RowTable):
            columns = {k: subject[k].copy() for k in SCHEMA.names}
            first = CHECKS[spec].run(subject)
            assert all(np.array_equal(subject[k], v) for k, v in columns.items())
            assert CHECKS[spec].run(subject) == first
            return
        if isinstance(subject, Trial):
            x, state = subject.x.clone(), torch.get_rng_state()
            first = CHECKS[spec].run(subject)
            assert torch.equal(subject.x, x)
            assert torch.equal(torch.get_rng_state(), state)
            assert CHECKS[spec].run(subject) == first
            return
        weights, x, state = copy.deepcopy(subject.model.state_dict()), subject.x.clone(), torch.get_rng_state()
        modes = [m.training for m in subject.model.modules()]
        first = CHECKS[spec].run(subject)
        assert torch.equal(subject.x, x)
        assert all(torch.equal(v, weights[k]) for k, v in subject.model.state_dict().items())
        assert [m.training for m in subject.model.modules()] == modes
        assert torch.equal(torch.get_rng_state(), state)
        assert [(f.ok, f.message) for f in CHECKS[spec].run(subject)] == [(f.ok, f.message) for f in first]
