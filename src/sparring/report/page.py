"""One self-contained HTML page: opens offline, holds its pictures, runs no script but its own ``page.js``."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from sparring.core.errors import SparringError
from sparring.evaluation.records.files import read_run
from sparring.evaluation.records.place import Place, Remote, place_of
from sparring.evaluation.records.seal import write_text
from sparring.report.content import Evaluated, Section, sections_of
from sparring.report.runs import side_by_side
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
    runs = [Evaluated(str(f), read_run(f), load_evaluation(f, baseline, claims)) for f in given]
    sections = [s for run in runs for s in (*_headed(run, len(runs) > 1), *sections_of(run))]
    before = [Section("Runs side by side", side_by_side(runs))] if len(runs) > 1 else []
    write_text(page, rendered("sparring report", [*before, *sections]))
    return page


def _headed(run: Evaluated, several: bool) -> list[Section]:
    """A heading over a run's sections where the page is about several."""
    return [Section(f"Run {run.folder}", ())] if several else []


def refuse_foreign(file: Place, marker: str) -> None:
    """Raise SparringError where ``file`` is there without the ``marker`` that our pages hold: somebody else's is not replaced."""
    if file.exists() and marker not in file.read_text():
        raise SparringError(f"{file} is there and is no page of sparring; move it, or name another folder")


def rendered(title: str, sections: Sequence[Section]) -> str:
    """A whole page as HTML text: the sections in order, those with a title in its contents."""
    room = files("sparring.report")
    template, style, script = (room.joinpath(f"page.{kind}").read_text() for kind in ("html.jinja", "css", "js"))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["breaking"] = _breaking
    named = [replace(s, anchor=s.anchor or f"section-{number}") for number, s in enumerate(sections)]
    return environment.from_string(template).render(
        title=title,
        sections=named,
        contents=[(s.anchor, s.title) for s in named if s.title],
        style=style,
        script=script,
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
    )


def _breaking(text: str) -> Markup:
    """Text that may go on in a second line behind a comma or a plus, as long specs must."""
    return Markup("<wbr>").join(re.split(r"(?<=[,+])(?=\S)", text))
