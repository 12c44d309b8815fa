"""Mutation testing: does a test notice each of the one-line faults in table.toml? ``make mutants``, not part of ``make test``.

A fault is put into a copy of src/, the row's tests run against the copy: they must fail ("killed"). A row with ``equivalent`` says
why no test can notice, and is expected to survive. Exit code 1 if anything else survives, 2 if the table no longer fits the code.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_name("table.toml")
SLOW = (  # and of no use here
    "tests/evaluation/test_evaluate.py::test_kill_9_at_any_moment_then_the_same_command",
    "tests/evaluation/test_evaluate.py::test_kill_9_at_50_random_moments",
)
TIMEOUT = 300  # seconds: a fault that makes an attack run on for ever is noticed, too


@dataclass(frozen=True)
class Mutant:
    """One fault: in ``file`` (base name, with its folder where that is ambiguous) ``old`` becomes ``new``, which breaks ``promise``."""

    id: str
    file: str
    old: str
    new: str
    promise: str
    tests: tuple[str, ...]
    equivalent: str = ""

    def path(self, package: Path) -> Path | None:
        """The file under src/sparring, wherever it has moved; None unless there is exactly one."""
        found = [p for p in package.rglob(Path(self.file).name) if p.as_posix().endswith(f"/{self.file}")]
        return found[0] if len(found) == 1 else None

    def stale(self, package: Path) -> str:
        """What no longer fits, or ""."""
        path = self.path(package)
        if path is None:
            return f"{self.file} is not exactly one file"
        count = path.read_text().count(self.old)
        return "" if count == 1 else f"old text occurs {count} times in {self.file}"


def load(table: Path = TABLE) -> list[Mutant]:
    rows = tomllib.loads(table.read_text())["mutant"]
    return [Mutant(**{**row, "tests": tuple(row["tests"])}) for row in rows]


def pytest_in_a_fork(source: Path, arguments: list[str]) -> tuple[int, list[str]]:
    """pytest's exit code (-1: no end in time) and lines on the package in ``source``. The parent has imported all that is slow."""
    with tempfile.TemporaryFile("w+") as said:
        sys.stdout.flush()
        child = os.fork()
        if not child:
            code = 3
            try:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                os.chdir(ROOT)
                os.setpgid(0, 0)
                os.environ["PYTHONPATH"] = str(source)  # of processes that tests start
                code = int(
                    pytest.main(
                        ["-q", "--no-header", "-p", "no:cacheprovider", *(f"--deselect={t}" for t in SLOW), *arguments]
                    )
                )
                sys.stdout.flush()
            finally:
                os._exit(code)
        deadline = time.monotonic() + TIMEOUT
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            if time.monotonic() > deadline:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return -1, []
            time.sleep(0.02)
        said.seek(0)
        return os.waitstatus_to_exitcode(ended[1]), said.read().splitlines()


def survives(mutant: Mutant, source: Path) -> tuple[bool, str]:
    """Whether the row's tests pass with the fault in the copy ``source``, and what was said last. The copy is restored."""
    path = mutant.path(source / "sparring")
    assert path is not None
    before = path.read_text()
    path.write_text(before.replace(mutant.old, mutant.new))
    try:
        code, lines = pytest_in_a_fork(source, ["-x", *mutant.tests])
    finally:
        path.write_text(before)
    if code == -1:
        return False, f"no end after {TIMEOUT} s"
    if code not in (0, 1, 2):  # neither passed nor failed: no such test, say
        raise SystemExit("\n".join([f"{mutant.id}: pytest could not run", *lines]))
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return code == 0, failed[0] if failed else lines[-1]


def preload(source: Path) -> None:
    """Import what the package and pytest need, and forget the package: a fork imports the one with the fault."""
    sys.dont_write_bytecode = True  # two faults in one second look alike to Python's cache
    sys.path.insert(0, str(source))
    sparring = importlib.import_module("sparring")
    if not str(sparring.__file__).startswith(str(source)):
        raise SystemExit(f"the tests would see {sparring.__file__}, not the copy with the fault")
    for name in ("hypothesis", "scipy.optimize", "sparring.cli", "sparring.conduct"):
        importlib.import_module(name)
    for name in [n for n in sys.modules if n.partition(".")[0] == "sparring"]:
        del sys.modules[name]
    importlib.invalidate_caches()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", default=[], metavar="ID", help="these rows only")
    parser.add_argument("--file", nargs="+", default=[], metavar="NAME", help="rows of these files only")
    parser.add_argument("--baseline", action="store_true", help="first run all named tests without a fault")
    chosen = parser.parse_args()
    mutants = load()
    if unknown := set(chosen.only) - {m.id for m in mutants}:
        print(f"no such rows: {', '.join(sorted(unknown))}")
        return 2
    if chosen.only:
        mutants = [m for m in mutants if m.id in chosen.only]
    if chosen.file:
        mutants = [m for m in mutants if m.file in chosen.file or Path(m.file).name in chosen.file]
    found: dict[str, str] = {}
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder).resolve() / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        for m in mutants:
            if why := m.stale(source / "sparring"):
                found[m.id] = "stale"
                print(f"stale: {m.id}: {why}")
        preload(source)
        if chosen.baseline:
            code, lines = pytest_in_a_fork(source, sorted({t for m in mutants for t in m.tests}))
            if code:
                raise SystemExit("\n".join(["the named tests fail on the code as it is", *lines]))
        todo = [m for m in mutants if m.id not in found]
        for number, m in enumerate(todo, 1):
            begun = time.monotonic()
            alive, said = survives(m, source)
            found[m.id] = ("equivalent" if m.equivalent else "survived") if alive else "killed"
            now = time.monotonic()
            left = (now - start) / number * (len(todo) - number)
            said = (m.equivalent or m.promise) if alive else said.removeprefix("FAILED ")
            print(
                f"{number}/{len(todo)} ETA {left / 60:.1f} min | {found[m.id]:10} {m.id} ({now - begun:.0f} s): {said}",
                flush=True,
            )
    count = Counter(found.values())
    print(", ".join(f"{count[k]} {k}" for k in ("killed", "survived", "equivalent", "stale")), f"of {len(mutants)}")
    for m in mutants:
        if found[m.id] in ("survived", "stale"):
            print(f"  {found[m.id]}: {m.id} ({m.file}): {m.promise}")
        if found[m.id] == "killed" and m.equivalent:
            print(f"  {m.id} is called equivalent, but a test noticed it")
    if count["stale"]:
        return 2
    return 1 if count["survived"] else 0


if __name__ == "__main__":
    sys.exit(main())
