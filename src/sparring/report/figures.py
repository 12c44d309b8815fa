"""Figures as text that a page can hold: numbers as percentages, curves as SVG, images as base64 PNG."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from sparring.analysis.drawing import figure_text
from sparring.data.sources import to_uint8
from sparring.evaluation.results.closed import ClosedResult


def percent(value: float) -> str:
    """A share as a percentage with one digit, "n/a" for nan."""
    return "n/a" if math.isnan(value) else f"{100 * value:.1f}"


ENLARGE = 96  # small images are shown at least this many pixels wide


def data_uri(array: np.ndarray) -> str:
    """A data URI of an (H,W,3) uint8 image, for looking at: small images are enlarged without smoothing, large ones
    are JPEG so that a page stays small. The exact pixels are in the run folder.
    """
    image = Image.fromarray(array)
    kind = "png"
    if image.width < ENLARGE:
        factor = -(-ENLARGE // image.width)
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    else:
        kind = "jpeg"
    buffer = io.BytesIO()
    image.save(buffer, kind, optimize=True, **({"quality": 88} if kind == "jpeg" else {}))
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()


def picture(x: Tensor) -> str:
    """A (C,H,W) image in [0,1] as a data URI."""
    return data_uri(to_uint8(x))


def perturbation(x: Tensor, clean: Tensor) -> tuple[str, float]:
    """The difference, centred on grey and magnified to fill the range; (data URI, magnification)."""
    delta = x - clean
    peak = float(delta.abs().max())
    factor = 0.5 / peak if peak else 1.0
    return picture(0.5 + factor * delta), factor


def eps_curves(results: Sequence[ClosedResult]) -> list[tuple[str, str]]:
    """(norm, SVG) of robust accuracy against eps, one line per defense and threat, where at least two eps were run."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    curves = []
    for norm in dict.fromkeys(r.norm for r in results):
        lines: dict[tuple[str, str], list[ClosedResult]] = {}
        for r in results:
            if r.norm == norm and np.isfinite(r.eps):
                lines.setdefault((r.defense, r.threat), []).append(r)
        lines = {k: sorted(v, key=lambda r: r.eps) for k, v in lines.items() if len({r.eps for r in v}) > 1}
        if not lines:
            continue
        figure, axes = plt.subplots(figsize=(7.2, 4.0))
        styles = dict(zip(dict.fromkeys(t for _, t in lines), ("-", "--", ":", "-."), strict=False))
        colors = {d: f"C{i}" for i, d in enumerate(dict.fromkeys(d for d, _ in lines))}
        for (defense, threat), points in lines.items():
            scale = 255 if norm == "linf" else 1
            x = [0.0, *(scale * p.eps for p in points)]
            y = [100 * points[0].clean_accuracy, *(100 * p.robust_accuracy for p in points)]
            axes.plot(
                x,
                y,
                styles.get(threat, "-"),
                color=colors[defense],
                marker="o",
                markersize=3.5,
                label=figure_text(f"{defense}, {threat}"),
            )
            axes.fill_between(
                x[1:],
                [100 * p.ci_low for p in points],
                [100 * p.ci_high for p in points],
                color=colors[defense],
                alpha=0.12,
                linewidth=0,
            )
        axes.set(
            xlabel=f"eps ({norm}, {'in 1/255' if norm == 'linf' else 'pixel units'})",
            ylabel="accuracy over all images (%)",
            ylim=(-2, 102),
        )
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1))
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", bbox_inches="tight")
        plt.close(figure)
        svg = buffer.getvalue()
        curves.append((norm, svg[svg.index("<svg") :]))
    return curves
