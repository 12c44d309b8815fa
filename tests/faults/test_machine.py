"""What the machine refuses, who stops a run, and who else works in its folder: one line each, and nothing lost."""

from __future__ import annotations

import errno
import functools
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sparring
from sparring.checks.controls import images
from sparring.cli import how_to_resume
from sparring.core.errors import SparringError
from sparring.evaluation.plan.tiers import JUDGES
from sparring.evaluation.records import folder as folders
from sparring.evaluation.records.folder import claimed
from sparring.evaluation.records.seal import write_text
from tests.faults.commands import say
from tests.faults.test_folders import evaluate, numbers, rows_of, whole  # noqa: F401  (a fixture)
from tests.fresh import HANG

JUDGE = JUDGES["quick"]
pytestmark = [pytest.mark.usefixtures("no_checks", "brief"), pytest.mark.slow]


@pytest.fixture
def no_checks(monkeypatch):
    """The checks have nothing to do with folders."""
    monkeypatch.setattr("sparring.conduct.evaluation.run_checks", lambda *_, **__: [])


def refuse_write(monkeypatch, number: int, code: int) -> list[Path]:
    """The so manyth file is written by half, then the system refuses; all files that were begun."""
    write, begun = Path.write_bytes, []

    def refused(self: Path, content: bytes) -> int:
        begun.append(self)
        if len(begun) != number:
            return write(self, content)
        write(self, content[: len(content) // 2])
        raise OSError(code, os.strerror(code), str(self))

    monkeypatch.setattr(Path, "write_bytes", refused)
    return begun


@pytest.mark.parametrize(
    ("number", "code", "says"),
    [
        (1, errno.ENOSPC, "No space left on device; free some space; the same command resumes"),
        pytest.param(2, errno.EDQUOT, "free some of your quota; the same command resumes", marks=pytest.mark.slow),
        pytest.param(3, errno.ENOSPC, "free some space", marks=pytest.mark.slow),
        (9, errno.EROFS, "Read-only file system; choose a place that can be written"),
        pytest.param(
            20, errno.EACCES, "Permission denied; make it writable, or choose another place", marks=pytest.mark.slow
        ),
        pytest.param(
            31, errno.EIO, "Input/output error; put that right; the same command resumes", marks=pytest.mark.slow
        ),
        (-1, errno.ENOSPC, "free some space"),
    ],
)
def test_a_write_that_fails_is_one_line_and_leaves_nothing(number, code, says, whole, tmp_path, monkeypatch):  # noqa: F811
    written = len([f for f in whole.rglob("*") if f.is_file()]) + 1  # run.json is written twice
    number = number if number > 0 else written
    assert number <= written
    with monkeypatch.context() as patch:
        begun = refuse_write(patch, number, code)
        with pytest.raises(SparringError, match=says) as error:
            evaluate(tmp_path / "run")
        assert len(begun) == number
    assert str(error.value).startswith(f"cannot write {tmp_path / 'run'}")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("*.partial"))
    assert not list(tmp_path.rglob(".lock"))
    assert numbers(evaluate(tmp_path / "run")) == numbers(sparring.load_evaluation(whole))
    assert rows_of(tmp_path / "run") == rows_of(whole)


@pytest.mark.parametrize("below", ["", "sub", "sub/deeper"])
def test_an_output_that_is_a_file_or_below_one(below, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(
        SparringError, match=r"thesis.txt.*(is a file; choose a folder|a file stands where a folder is needed)"
    ):
        evaluate(tmp_path / "thesis.txt" / below)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_an_output_that_is_a_link_to_nowhere(tmp_path):
    (tmp_path / "run").symlink_to(tmp_path / "run")
    with pytest.raises(SparringError, match="is a link that leads nowhere; choose a folder"):
        evaluate(tmp_path / "run")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
def test_a_place_where_no_folder_can_be(tmp_path):
    with pytest.raises(
        SparringError, match="cannot write /proc/run: no folder can be made there; choose another place"
    ):
        evaluate(Path("/proc/run"))


def test_a_folder_that_may_not_be_made(tmp_path, monkeypatch):
    def refused(self, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refused)
        with pytest.raises(SparringError, match=r"cannot write .*run: Permission denied; make it writable"):
            evaluate(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_vanishes_is_not_made_again(tmp_path):
    """What was in it is missing; a new one with the rest would look like a run."""
    out = tmp_path / "run"

    def move(done: int, total: int, text: str) -> None:
        if done and out.exists():
            out.rename(tmp_path / "away")

    with pytest.raises(
        SparringError, match="vanished while it was being written; bring it back, the same command resumes"
    ):
        evaluate(out, progress=move)
    assert not out.exists()
    (tmp_path / "away").rename(out)
    assert evaluate(out).headlines


def test_a_page_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "page").write_text("")
    with pytest.raises(SparringError, match=r"cannot write .*x.html: .*; a file stands where a folder is needed"):
        write_text(tmp_path / "page" / "x.html", "text")
    (tmp_path / "y.html").mkdir()
    with pytest.raises(SparringError, match=r"cannot write .*y.html: .*; a folder stands where a file is needed"):
        write_text(tmp_path / "y.html", "text")
    assert not list(tmp_path.rglob("*.partial"))


def test_a_refused_run_leaves_no_folder(tmp_path):
    with pytest.raises(SparringError):
        evaluate(tmp_path / "a" / "b", attacks=["pgd:eps=4/255,steps=0"])
    assert list(tmp_path.iterdir()) == []


HOLD = """
import sys
from pathlib import Path
from sparring.evaluation.records.folder import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process at work in the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_told_who_works_in_the_folder(holder, tmp_path):
    with pytest.raises(SparringError, match=f"in use by process {holder.pid} on {socket.gethostname()}; wait"):
        evaluate(tmp_path / "run")
    assert {f.name for f in (tmp_path / "run").iterdir()} == {".lock"}
    holder.kill()
    holder.wait()
    assert (tmp_path / "run" / ".lock").exists(), "nobody was left to remove it"
    assert evaluate(tmp_path / "run").headlines, "the lock of a dead process is nobody's"
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_run_can_be_reported_while_it_runs(whole, tmp_path):  # noqa: F811
    seen = []

    def look(done: int, total: int, text: str) -> None:
        if len(seen) < 9 and list((tmp_path / "run").glob("rows/*/*.parquet")):
            seen.append(sparring.load_evaluation(tmp_path / "run"))

    evaluate(tmp_path / "run", progress=look)
    assert seen
    assert not any(r.headlines or r.damaged for r in seen)
    assert {c.n for r in seen for c in r.closed} <= {6, 10}


def test_within_a_process_too_only_one_works_in_a_folder(tmp_path):
    with (
        claimed(tmp_path / "run"),
        pytest.raises(SparringError, match=f"in use by process {os.getpid()}"),
        claimed(tmp_path / "run"),
    ):
        pass
    assert not (tmp_path / "run").exists()


def no_flock(*_) -> None:
    raise OSError(errno.ENOTSUP, "Operation not supported")


@pytest.mark.parametrize("how", ["no module", "no support"])
def test_where_the_system_has_no_locks_a_file_is_one(how, tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "fcntl", None) if how == "no module" else monkeypatch.setattr("fcntl.flock", no_flock)
    run, host = tmp_path / "run", socket.gethostname()
    with claimed(run), pytest.raises(SparringError, match=f"process {os.getpid()} on {host}"), claimed(run):
        pass
    assert not run.exists()
    run.mkdir()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (run / ".owner").write_text(f"{dead.pid} {host}")
    with claimed(run):
        assert (run / ".owner").read_text() == f"{os.getpid()} {host}"
    assert list(run.iterdir()) == []
    for owner in (f"{dead.pid} another-machine", ""):
        (run / ".owner").write_text(owner)
        with pytest.raises(SparringError, match=r"if no such process runs, delete .*\.owner"), claimed(run):
            pass
        assert (run / ".owner").read_text() == owner


def test_an_interrupt_from_python_passes_unchanged(whole, tmp_path):  # noqa: F811
    def stop(done: int, total: int, text: str) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path / "run", progress=stop)
    assert not list(tmp_path.rglob("*.partial"))
    assert numbers(evaluate(tmp_path / "run")) == numbers(sparring.load_evaluation(whole))
    assert rows_of(tmp_path / "run") == rows_of(whole)


TOY = """
import os, signal, sys
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 4)).eval()

left = [int(os.environ.get("WRITES", 0))]

def hook(name, args):
    if name == "os.rename" and "points" in str(args[0]):
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(int(os.environ["SIGNAL"]))

if left[0]:
    sys.addaudithook(hook)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_command_says_how_to_resume_and_does(number, code, tmp_path, monkeypatch):
    (tmp_path / "stopped.py").write_text(TOY)
    np.savez(tmp_path / "data.npz", x=images(8).numpy(), y=np.arange(8) % 4)
    words = "evaluate python:stopped:make --data data.npz --attack pgd:eps=4/255,steps=2 --threat oblivious --out"
    command = [sys.executable, "-m", "sparring.cli", *words.split(), "my run"]
    path = os.pathsep.join([str(tmp_path), *sys.path])
    stop = {"WRITES": "1", "SIGNAL": str(int(number))}
    options = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": HANG}
    # a job in the background of a shell ignores SIGINT, and so would this one
    listens = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    env = {**os.environ, "PYTHONPATH": path, **stop}
    done = subprocess.run(command, env=env, preexec_fn=listens, **options)
    assert done.returncode == code, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last == f"interrupted; this resumes: {shlex.join(command)}"
    assert "Traceback" not in done.stderr
    assert "Aborted" not in done.stderr
    assert not list(tmp_path.rglob("*.partial"))
    monkeypatch.setitem(JUDGES, "quick", JUDGE)  # as that process had it
    again = say(tmp_path, *shlex.split(last.partition("resumes: ")[2])[3:])
    assert again.code == 0, again.err
    assert json.loads((tmp_path / "my run" / "run.json").read_text())["complete"] is True


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("sparring evaluate lite0 --out=run", "interrupted; this resumes: sparring evaluate lite0 --out=run"),
        ("/usr/bin/sparring demo", "interrupted; this resumes: sparring demo"),
        ("sparring evaluate lite0", "interrupted; nothing is kept without --out DIR, with it the same command resumes"),
        ("sparring evaluate lite0 --out run --dry-run", "interrupted"),
        ("sparring report run", "interrupted"),
        ("sparring", "interrupted"),
    ],
)
def test_how_to_resume(words, says):
    assert how_to_resume(words.split()) == says


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on the size of files")
def test_what_the_system_refuses_in_earnest(tmp_path):
    """A limit on the size of files is the one refusal that needs no rights, no disk and no patched function."""
    (tmp_path / "stopped.py").write_text(TOY)
    np.savez(tmp_path / "data.npz", x=images(8).numpy(), y=np.arange(8) % 4)
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)); from sparring.cli import main; main()"
    words = "evaluate python:stopped:make --data data.npz --attack pgd:eps=4/255,steps=2 --threat oblivious --out run"
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", limited, *words.split()],
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "File too large; choose a file system for larger files; the same command resumes" in errors[0]
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
def test_weights_that_cannot_be_written_are_said_before_the_training(tmp_path):
    done = say(tmp_path, "train", "classifier", "--data", "mnist5k:limit=8", "--out", "/proc/weights.safetensors")
    assert done.code == 2
    assert "cannot write /proc/weights.safetensors" in done.err
    assert "epoch" not in done.err
