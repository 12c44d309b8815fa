"""Pictures of arrays: heatmaps of pixels, label maps, histograms."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from torch import Tensor

mpl.use("Agg")


def save_map(
    values: Tensor,
    path: Path,
    title: str,
    x: str = "",
    y: str = "",
    extent: tuple[float, float] | None = None,
    colors: str = "viridis",
) -> None:
    """A PNG of (H,W) values with a color bar, or of (H,W) integer labels with one color each.

    ``extent`` (across, down): axes run over [-across, across] and [-down, down] instead of pixel numbers. ``x``, ``y``: names of the axes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4.0), layout="constrained")
    axes = figure.subplots()
    array = values.detach().cpu().numpy()
    box = (-extent[0], extent[0], extent[1], -extent[1]) if extent else None
    whole = np.issubdtype(array.dtype, np.integer)
    shown = axes.imshow(
        array,
        cmap="tab10" if whole else colors,
        vmin=0 if whole else None,
        vmax=9 if whole else None,
        extent=box,
        interpolation="nearest",
        aspect="auto",
    )
    figure.colorbar(shown, ax=axes, shrink=0.85)
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def save_sheet(rows: dict[str, Tensor], path: Path, title: str) -> None:
    """A PNG of images in [0,1], one named row (N,C,H,W) under the other."""
    from matplotlib.figure import Figure

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
        line[0].set_ylabel(name, fontsize=9, rotation=0, ha="right", va="center")
    figure.suptitle(title, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
