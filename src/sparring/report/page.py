"""One self-contained HTML page: opens offline, holds its pictures, runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from sparring.core.errors import SparringError
from sparring.evaluation.records.files import read_run
from sparring.evaluation.records.place import Place, Remote, place_of
from sparring.evaluation.records.seal import write_text
from sparring.report.content import Evaluated, Section, sections_of
from sparring.verdict.read import load_evaluation

GENERATOR = '<meta name="generator" content="sparring">'  # what a page of ours begins with


def write_report(
    folders: str | Place | Sequence[str | Place],
    file: str | Place,
    baseline: str | None = None,
    claims: Sequence[str] | None = None,
) -> Place:
    """Write the page about one or several run folders, judged by ``baseline`` and ``claims`` (see ``load_evaluation``); returns its path. Raises
    SparringError if a folder is no run, or the file is not called FILE.html: nothing else is replaced by a page.
    """
    page = place_of(file)
    if page.suffix.lower() != ".html":
        raise SparringError(f"page {file}: write FILE.html")
    given = [folders] if isinstance(folders, str | Path | Remote) else folders
    if not given:
        raise SparringError("no run folder is given")
    runs = [sections_of(Evaluated(str(f), read_run(f), load_evaluation(f, baseline, claims))) for f in given]
    write_text(page, rendered("sparring report", runs))
    return page


def refuse_foreign(file: Place, marker: str) -> None:
    """Raise SparringError where ``file`` is there without the ``marker`` that our pages hold: somebody else's is not replaced."""
    if file.exists() and marker not in file.read_text():
        raise SparringError(f"{file} is there and is no page of sparring; move it, or name another folder")


def rendered(title: str, parts: Sequence[Sequence[Section]]) -> str:
    """A whole page as HTML text, each part's sections in order."""
    template = files("sparring.report").joinpath("page.html.jinja").read_text()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(title=title, parts=parts)
