"""A machine on which a package is installed: a folder with the package and its metadata, put on the path of a subprocess."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import sparring
from tests.fresh import fresh

HERE = Path(__file__).parent
TOYS = {
    "sparring.attacks": {"toy-step": "toy_plugin:ToyStep"},
    "sparring.defenses": {"toy-dim": "toy_plugin:ToyDim"},
    "sparring.threats": {"toy-seat": "toy_plugin"},
    "sparring.checks": {"T1": "toy_plugin"},
    "sparring.models": {"toy_net": "toy_plugin:toy_net"},
    "sparring.data": {"toy_data": "toy_plugin:toy_data"},
    "sparring.analyses": {"toy-light": "toy_plugin:ToyLight"},
    "sparring.tasks": {"toy-train": "toy_plugin:ToyTraining"},
}


def install(folder: Path, distribution: str, points: Mapping[str, Mapping[str, str]]) -> None:
    """Write the metadata of a distribution with these entry points."""
    info = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items()) for group, entries in points.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))


def environment(*folders: Path) -> dict[str, str]:
    """The environment of a process that finds these folders and sparring."""
    src = Path(sparring.__file__).parents[1]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*folders, src]))}


def python(where: Mapping[str, str], *words: str, code: int = 0, cwd: Path | None = None) -> str:
    """What ``python -m WORDS`` says, once it has ended with that exit code."""
    done = fresh("-m", *words, env=where, cwd=cwd)
    assert done.returncode == code, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr * ("--json" not in words)  # progress goes to stderr


def cli(where: Mapping[str, str], *words: str, code: int = 0, cwd: Path | None = None) -> str:
    """What ``sparring WORDS`` says."""
    return python(where, "sparring.cli", *words, code=code, cwd=cwd)


def contracts(where: Mapping[str, str], *words: str, code: int = 0, cwd: Path | None = None) -> str:
    """What ``pytest --sparring ...`` says, whether or not sparring is installed with its entry point."""
    return python(
        where, "pytest", "-p", "sparring.testing.plugin", "-p", "no:cacheprovider", *words, code=code, cwd=cwd
    )
