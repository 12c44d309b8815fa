"""Pictures of a ``Panel``: its maps of pixels or labels, its curves, its rows of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sparring.analysis.panel import Curves, Map, Panel, Sheet
from sparring.core.errors import SparringError, visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # takes half a second to load


def figure_text(text: str) -> str:
    """Text for matplotlib as it stands: a dollar begins no formula, a leading underscore hides no line of a legend."""
    shown = visible(text).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def draw(panel: Panel, path: str | Path) -> list[Path]:
    """Write a panel's pictures as PNG files and return them: the first is ``path``, further ones get -2, -3, ... before the ending.

    Raises SparringError where the panel has nothing to draw.
    """
    path = Path(path)
    figures = [*map(map_figure, panel.maps), *map(curves_figure, panel.curves), *map(sheet_figure, panel.sheets)]
    if not figures:
        raise SparringError(f"{panel.title}: there is no picture to draw, only numbers; leave --png out")
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [path, *(path.with_stem(f"{path.stem}-{i}") for i in range(2, len(figures) + 1))]
    for figure, file in zip(figures, files, strict=True):
        figure.savefig(file, dpi=100, format="png")
    return files


def map_figure(map: Map) -> Figure:
    """(H,W) values with a color bar, or (H,W) labels with one color each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4.0), layout="constrained")
    axes = figure.subplots()
    labels = map.kind == "labels"
    across, down = map.extent or (0, 0)
    shown = axes.imshow(
        map.values.detach().cpu().numpy(),
        cmap="tab10" if labels else "viridis",
        vmin=0 if labels else None,
        vmax=9 if labels else None,
        extent=(-across, across, down, -down) if map.extent else None,
        interpolation="nearest",
        aspect="auto",
    )
    figure.colorbar(shown, ax=axes, shrink=0.85)
    axes.set_title(figure_text(map.title), fontsize=9)
    axes.set_xlabel(figure_text(map.x), fontsize=8)
    axes.set_ylabel(figure_text(map.y), fontsize=8)
    axes.tick_params(labelsize=7)
    return figure


def curves_figure(curves: Curves) -> Figure:
    """Named lines over one axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 4.0), layout="constrained")
    axes = figure.subplots()
    for name, points in curves.lines.items():
        axes.plot([x for x, _ in points], [y for _, y in points], label=figure_text(name), linewidth=1.2)
    axes.set_title(figure_text(curves.title), fontsize=9)
    axes.set_xlabel(figure_text(curves.x), fontsize=8)
    axes.set_ylabel(figure_text(curves.y), fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=7, frameon=False)
    return figure


def sheet_figure(sheet: Sheet) -> Figure:
    """Images in [0,1], one named row (N,C,H,W) under the other."""
    from matplotlib.figure import Figure

    rows = sheet.rows
    count = max(len(r) for r in rows.values())
    figure = Figure(figsize=(1.2 * count + 1.4, 1.25 * len(rows) + 0.4), layout="constrained")
    axes = figure.subplots(len(rows), count, squeeze=False)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for i, axis in enumerate(line):
            axis.set_xticks([])
            axis.set_yticks([])
            for side in axis.spines.values():
                side.set_visible(False)
            if i < len(images):
                image = images[i].detach().cpu().permute(1, 2, 0).numpy()
                axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        line[0].set_ylabel(figure_text(name), fontsize=9, rotation=0, ha="right", va="center")
    figure.suptitle(figure_text(sheet.title), fontsize=9)
    return figure
