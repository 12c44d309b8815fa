"""A process as fresh as a new interpreter, without its wait for torch: forked from one that has imported what is slow, and nothing of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

HANG = 900
"""Seconds that a test waits for a process it started. No test depends on the clock: this only ends what would never end."""

SERVER = """
import atexit, json, os, runpy, signal, sys, traceback
import matplotlib.figure, numpy, pandas, pyarrow.parquet, pytest, scipy.stats, torch, torch.fx.experimental.symbolic_shapes

ours = os.environ.get("PYTHONPATH", "").split(os.pathsep)
base = [p for p in sys.path if p not in ("", *ours)]

def begin(task):
    signal.alarm(task["seconds"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(task["out"], os.O_WRONLY), 1)
    os.dup2(os.open(task["err"], os.O_WRONLY), 2)
    os.environ.clear()
    os.environ.update(task["env"])
    os.chdir(task["cwd"])
    sys.path[:] = [p for p in task["env"].get("PYTHONPATH", "").split(os.pathsep) if p] + base

def run(first, *words):
    if first == "-m":
        sys.path.insert(0, os.getcwd())
        sys.argv = list(words)
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.path.insert(0, "")
        sys.argv = ["-c", *words[1:]]
        main = type(sys)("__main__")
        sys.modules["__main__"] = main
        exec(compile(words[0], "<string>", "exec"), main.__dict__)
    else:
        sys.path.insert(0, os.path.dirname(os.path.abspath(first)))
        sys.argv = [first, *words]
        runpy.run_path(first, run_name="__main__")

for line in sys.stdin:
    task = json.loads(line)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            begin(task)
            run(*task["words"])
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
            if code and not isinstance(end.code, int):
                print(end.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@cache
def _server() -> subprocess.Popen[str]:
    """Who forks; it ends with this process, when nobody holds its input any more."""
    return subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def fresh(
    *words: str | Path, env: Mapping[str, str] | None = None, cwd: str | Path | None = None, check: bool = False
) -> subprocess.CompletedProcess[str]:
    """``python WORDS`` with these variables in this folder, and what it said; ``check``: it must end well."""
    command, env = [str(w) for w in words], dict(os.environ if env is None else env)
    if not hasattr(os, "fork"):
        done = subprocess.run(
            [sys.executable, *command], env=env, cwd=cwd, capture_output=True, text=True, timeout=HANG
        )
    else:
        with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as err:
            where = {"cwd": str(cwd or Path.cwd()), "out": out.name, "err": err.name}
            process = _server()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps({"words": command, "env": env, "seconds": HANG, **where}) + "\n")
            process.stdin.flush()
            code = int(process.stdout.readline())
            done = subprocess.CompletedProcess(command, code, out.read(), err.read())
    assert not check or done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done
