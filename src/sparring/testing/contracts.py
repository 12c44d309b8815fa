"""The file that pytest collects for ``--sparring PLUGIN``: every suite on what the plug-in enrols. ``sparring.testing.plugin`` fills in ``spec``."""

from __future__ import annotations

from sparring.testing.analyses import AnalysisContract
from sparring.testing.attacks import AttackContract
from sparring.testing.checks import CheckContract
from sparring.testing.data import DataContract
from sparring.testing.defenses import DefenseContract
from sparring.testing.models import ModelContract
from sparring.testing.tasks import TaskContract
from sparring.testing.threats import ThreatContract


class TestAttacks(AttackContract):
    """The attacks of the plug-in."""


class TestDefenses(DefenseContract):
    """The defenses of the plug-in."""


class TestThreats(ThreatContract):
    """The threats of the plug-in."""


class TestChecks(CheckContract):
    """The checks of the plug-in."""


class TestModels(ModelContract):
    """The models of the plug-in."""


class TestData(DataContract):
    """The data sources of the plug-in."""


class TestAnalyses(AnalysisContract):
    """The analyses of the plug-in."""


class TestTasks(TaskContract):
    """The training tasks of the plug-in."""
