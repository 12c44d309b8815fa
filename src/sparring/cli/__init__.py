"""The command line: thin, no logic. Tables on stdout, progress on stderr, exit code 2 and one line for a user's
mistake.
"""

from __future__ import annotations

import sys
import warnings

from sparring.core.errors import SparringError


def main() -> None:
    """Entry point: runs the app; a SparringError becomes one line and exit code 2, Ctrl-C leaves a resumable run."""
    warnings.showwarning = _one_line
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    from sparring.cli.app import app

    try:
        app(standalone_mode=True)
    except SparringError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command with the same --out resumes", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)


def _one_line(message: Warning | str, *_: object, **__: object) -> None:
    print(f"warning: {message}", file=sys.stderr)
