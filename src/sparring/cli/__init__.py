"""The command line: thin, no logic. Tables on stdout, progress on stderr, exit code 2 and one line for a user's
mistake.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Generator, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from sparring.core.errors import SparringError, one_line
from sparring.version import __version__

RESUMABLE = {
    "evaluate": "--out",
    "demo": "",
    "train": "",
    "recipe": "",
}  # a command that resumes, and the option that it needs for that
SPINS = "10000"  # looks of a thread of libgomp at the others before it sleeps


class Stopped(BaseException):
    """Somebody stopped the process, with Ctrl-C or SIGTERM. No ``except Exception`` and no ``except KeyboardInterrupt`` swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main() -> None:
    """Entry point: runs the app; a SparringError becomes one line and exit code 2, Ctrl-C (130) and SIGTERM (143) leave a resumable run."""
    warnings.showwarning = _one_line
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    yield_cores(os.environ)
    if sys.stdout is None:  # >&-: nothing has been begun yet
        _fail("standard output is closed; send it somewhere, to /dev/null if nobody reads it")
    try:
        with _stoppable():
            from sparring.cli.app import app

            app(standalone_mode=True)
    except SparringError as error:
        _fail(str(error))
    except Stopped as stopped:
        print(how_to_resume(sys.argv), file=sys.stderr)
        sys.exit(128 + stopped.number)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        _fail(_fault_of(error))


def yield_cores(environment: MutableMapping[str, str]) -> None:
    """Let threads that wait for each other sleep soon, unless the user said how they wait. Must come before torch is loaded.

    Where other work shares the cores, threads that spin on make a forward ten times slower (docs/measured.md); no number changes.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & environment.keys():
        environment["GOMP_SPINCOUNT"] = SPINS


def _fault_of(error: Exception) -> str:
    """One line of what went wrong outside what the package foresaw: files, memory, or a fault of ours or of somebody's code."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'input or output'}: {error.strerror}; put that right, then the same command again"
    words = f"{type(error).__name__} {error}".lower()
    if any(
        w in words
        for w in (
            "memoryerror",
            "outofmemory",
            "cannot allocate memory",
            "can't allocate memory",
            "out of memory",
            "failed to map",
        )
    ):
        return "not enough memory; --slots with a smaller number needs less, and the same command resumes"
    said = f"unexpected {one_line(error)}"
    try:
        with tempfile.NamedTemporaryFile("w", prefix="sparring-crash-", suffix=".txt", delete=False) as file:
            file.write(
                f"sparring {__version__}, Python {sys.version}\n{shlex.join(sys.argv)}\n\n{traceback.format_exc()}"
            )
    except OSError:
        return f"{said}; no crash report could be written"
    return f"{said}; the crash report is in {file.name}: it is a fault of sparring, or of code of yours that it names"


def _fail(text: str) -> None:
    print(f"error: {text}", file=sys.stderr)
    sys.exit(2)


@contextmanager
def _stoppable() -> Generator[None]:
    """The first SIGINT or SIGTERM raises Stopped; a second one ends the process at once, as it would without us."""

    def stop(number: int, _: object) -> None:
        for each, handler in before.items():
            signal.signal(each, handler if each != signal.SIGINT else signal.SIG_DFL)
        raise Stopped(number)

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for each, handler in before.items():
        if handler is not signal.SIG_IGN:  # as nohup and a shell's background jobs ask
            signal.signal(each, stop)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def how_to_resume(words: Sequence[str]) -> str:
    """What to tell whoever stopped the command of these words (``sys.argv``)."""
    program = Path(words[0]).name
    needs = next((RESUMABLE[w] for w in words[1:] if w in RESUMABLE), None)
    if needs is None or "--dry-run" in words:
        return "interrupted"
    if needs and not any(w == needs or w.startswith(f"{needs}=") for w in words):
        return f"interrupted; nothing is kept without {needs} DIR, with it the same command resumes"
    start = [sys.executable, "-m", "sparring.cli"] if program == "__main__.py" else [program]
    return f"interrupted; this resumes: {shlex.join([*start, *words[1:]])}"


def _one_line(message: Warning | str, *_: object, **__: object) -> None:
    print(f"warning: {message}", file=sys.stderr)
