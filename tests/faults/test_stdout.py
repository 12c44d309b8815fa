"""A standard output that nobody reads, that is full or closed: nothing of the run is lost, and the exit code is the command's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.commands import ATTACKED, furnish

pytestmark = pytest.mark.slow

FULL = Path("/dev/full")


def ended(folder: Path, *words: str, stdout: int | None) -> tuple[int, list[str]]:
    """Exit code and stderr of a command whose stdout is a file handle, or closed (None)."""
    line = [sys.executable, "-m", "sparring", *words]
    if stdout is None:
        line = ["sh", "-c", 'exec "$@" >&-', "sh", *line]
    run = subprocess.run(line, cwd=folder, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=300)
    return run.returncode, run.stderr.splitlines()


def unread() -> int:
    """A pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["table", "json"])
def test_a_run_whose_reader_left_is_whole_and_ends_well(tmp_path: Path, form: tuple[str, ...]):
    code, err = ended(furnish(tmp_path), *ATTACKED, "--expect-clean", "0.2", "--out", "run", *form, stdout=unread())
    assert code == 0, err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["complete"]
    assert not any("error" in line or "Broken" in line for line in err)


def test_what_a_command_says_by_its_exit_code_it_says_to_no_reader_too(tmp_path: Path):
    words = ("doctor", ATTACKED[1], "--data", "data.npz", "--expect-clean", "1")
    code, err = ended(furnish(tmp_path), *words, stdout=unread())
    assert code == 2
    assert "P8" in err[-1]


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_a_full_stdout_is_one_line(tmp_path: Path):
    with FULL.open("w") as full:
        code, err = ended(tmp_path, "list", "checks", stdout=full.fileno())
    assert code == 2
    assert len(err) == 1
    assert err[0].startswith("error: cannot write to standard output: No space left on device")


def test_a_closed_stdout_is_refused_before_anything_begins(tmp_path: Path):
    code, err = ended(furnish(tmp_path), *ATTACKED, "--out", "run", stdout=None)
    assert (code, len(err)) == (2, 1)
    assert "standard output is closed" in err[0]
    assert not (tmp_path / "run").exists()
