"""Names of the user's are shown as they are: in tables, in figures, in errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.commands import MODEL, furnish, say


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return furnish(tmp_path_factory.mktemp("names"))


def test_names_are_shown_as_they_are(place: Path):
    """Brackets are no markup and control characters no commands, after the whole run as before it."""
    file = place / "d[/b]\x1b[31m.npz"
    file.parent.mkdir()
    file.write_bytes((place / "data.npz").read_bytes())
    words = ("evaluate", MODEL, "--data", "d[/b]\x1b[31m.npz", "--threat", "adaptive", "--attack", "fgsm:eps=4/255")
    said = say(place, *words, "--out", "run[/b]$x$", "--html", "page[/b].html")
    assert said.code == 0, said.err
    assert "run[/b]$x$" in said.out
    assert "\x1b" not in said.out + said.err
    assert say(place, "report", "run[/b]$x$").code == 0


def test_figures_take_dollars_and_underscores():
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from sparring.analysis.drawing import figure_text

    mpl.use("Agg")
    figure = Figure()
    axes = figure.subplots()
    for name in ("a$b$", r"$\frac$", "_hidden", "x\x1b[0m\ny"):
        axes.plot([0, 1], label=figure_text(name))
    shown = [text.get_text() for text in axes.legend().get_texts()]
    assert len(shown) == 4
    assert "\x1b" not in "".join(shown)
    figure.canvas.draw()
