"""The pytest plug-in: ``pytest --sparring PLUGIN`` runs the contract suites on what a plug-in of sparring enrols.

It is loaded in every pytest run of everybody who has sparring installed, so it imports nothing until the option is given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

CONTRACTS = Path(__file__).with_name("contracts.py")
SUITES = ("attacks", "defenses", "threats", "checks", "models", "data", "analyses", "tasks")
SPECS = pytest.StashKey[dict[str, list[str]]]()

pytest.register_assert_rewrite(*(f"sparring.testing.{name}" for name in SUITES))


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("sparring", "contracts of sparring's plug-ins")
    group.addoption(
        "--sparring",
        action="append",
        default=[],
        dest="sparring_plugins",
        metavar="PLUGIN",
        help="run the contract suites on what this module, installed distribution or FILE.py enrols (repeatable)",
    )
    group.addoption(
        "--sparring-spec",
        action="append",
        default=[],
        dest="sparring_specs",
        metavar="NAME:FIELD=VALUE",
        help="test NAME of the plug-in with these fields instead of its defaults (repeatable)",
    )


def pytest_configure(config: pytest.Config) -> None:
    plugins, specs = config.option.sparring_plugins, config.option.sparring_specs
    config.stash[SPECS] = {}
    if not plugins:
        if specs:
            raise pytest.UsageError("--sparring-spec says how to test what --sparring PLUGIN enrols; name the plug-in")
        return
    from sparring.core.errors import SparringError
    from sparring.testing.enrolled import specs_of

    try:
        config.stash[SPECS] = specs_of(plugins, specs)
    except SparringError as error:
        raise pytest.UsageError(str(error)) from None
    if str(CONTRACTS) not in config.args:
        config.args.append(str(CONTRACTS))


def pytest_pycollect_makeitem(collector: Any, name: str, obj: Any) -> list[Any] | None:
    """A suite without anything to test is not there, rather than skipped."""
    if collector.path == CONTRACTS and isinstance(obj, type) and name.startswith("Test"):
        return None if collector.config.stash[SPECS].get(vars(obj.__base__)["kind"]) else []
    return None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.cls is not None and metafunc.definition.path == CONTRACTS:
        metafunc.parametrize("spec", metafunc.config.stash[SPECS][metafunc.cls.kind])
