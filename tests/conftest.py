"""Shared fixtures. Real data is found through SPARRING_DATA; tests that need it skip, saying so, when it is not set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

import sparring.testing.plugin  # noqa: F401  (pytest rewrites the assertions of the suites)
from sparring.core.registry import PLUGINS
from sparring.data.images import ImageSet
from sparring.data.sources import load_data
from sparring.evaluation.plan import followup
from sparring.evaluation.plan.tiers import JUDGES
from sparring.evaluation.records.finding import Finding
from sparring.evaluation.run.trial import Trial
from sparring.models.classifier import Classifier
from sparring.models.load import load_model

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")  # no test depends on the clock


@pytest.fixture(scope="session")
def data_folder() -> Path:
    folder = os.environ.get("SPARRING_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("SPARRING_DATA is not set: no CIFAR-10 images and networks here")
    return Path(folder)


@pytest.fixture(scope="session")
def cifar(data_folder: Path) -> ImageSet:
    """The first 100 exact CIFAR-10 test images."""
    return load_data(data_folder / "cifar10_test_0-699.npz", limit=100)


@pytest.fixture(scope="session")
def resnet20(data_folder: Path) -> Classifier:
    return load_model(f"cifar_resnet20:weights={data_folder}/cifar10_resnet20.safetensors")


@pytest.fixture(autouse=True)
def _global_rng_untouched():
    """No test leaves the global generator moved by the library."""
    before = torch.get_rng_state()
    yield
    torch.set_rng_state(before)


WHOLE = followup.SEARCHES["quick"]
SEARCHES = ("square:steps=9", "spsa:steps=2,samples=2", "random_search:steps=3")
SHORT = f"from sparring.evaluation.plan import followup\nfollowup.SEARCHES['quick'] = {SEARCHES}\n"
"""What a process of its own does for the same."""


@pytest.fixture(autouse=True, scope="session")
def _short_searches() -> Iterator[None]:
    """A follow-up's searches take a few steps here: its cells and rows are all there, and toy networks, whose checks ask for one, cost little."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(followup.SEARCHES, "quick", SEARCHES)
        yield


@pytest.fixture
def whole_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A follow-up's searches as a user gets them."""
    monkeypatch.setitem(followup.SEARCHES, "quick", WHOLE)


def mistrusting(trial: Trial, *_: object) -> list[Finding]:
    """Stands for active checks where these are not the point: one that trusts no gradient, so that a follow-up comes."""
    return [Finding("S1", "", False, "FAIL", "A", 0.0, 0.4, "", trial.defense, trial.threat)]


@pytest.fixture(scope="module")
def brief() -> Iterator[None]:
    """Evaluations of which the folder matters: judged by a few draws, their active checks ``mistrusting``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(JUDGES, "quick", (2, 4))
        patch.setattr("sparring.conduct.asked.run_active_checks", mistrusting)
        yield


@pytest.fixture(autouse=True)
def _no_plugins() -> Iterator[None]:
    """Plug-ins that a test names are not those of the next: commands that are proposed name them."""
    yield
    PLUGINS.clear()


# slow tests of files that users run, too, and where no mark of ours is known
SLOW = (
    "test_an_installed_package_is_found_everywhere",
    "test_a_file_named_on_the_command_line",
    "test_a_coin_flip_is_reported_as_080",
    "test_an_installed_package_is_asked_and_trained",
    "test_an_installed_package_is_listed",
    "test_objects_serve_as_defenses",
    "test_the_seed_decides",
    "test_its_panel_is_json_with_provenance_and_pictures",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.name.partition("[")[0] in SLOW:
            item.add_marker(pytest.mark.slow)
