"""One self-contained HTML page: opens offline, holds its pictures, runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from sparring.evaluation.records.files import read_run
from sparring.evaluation.records.seal import write_text
from sparring.evaluation.results.load import load_evaluation
from sparring.report.content import Evaluated, sections_of


def write_report(folders: Sequence[str | Path], file: str | Path) -> Path:
    """Write the page about one or several run folders; returns its path. Raises SparringError if a folder is no
    run.
    """
    runs = [sections_of(Evaluated(str(f), read_run(f), load_evaluation(f))) for f in folders]
    template = files("sparring.report").joinpath("page.html.jinja").read_text()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    write_text(Path(file), environment.from_string(template).render(runs=runs))
    return Path(file)
