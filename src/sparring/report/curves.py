"""Accuracy against budget, written as SVG by hand: it takes the page's own colors, and each point says its value when it is pointed at or reached by Tab."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from sparring.evaluation.results.closed import ClosedResult
from sparring.report.figures import percent

WIDTH, HEIGHT = 420, 240
LEFT, RIGHT, TOP, BOTTOM = 40, 10, 10, 38
LINE = 15  # height of a line of the legend
COLORS, DASHES = 6, ("", "6 3", "2 3", "8 3 2 3")  # of systems, classes c0 to c5 of the page; of threats


def eps_curves(results: Sequence[ClosedResult]) -> list[tuple[str, str]]:
    """(norm, SVG) of robust accuracy against eps, one line per defense and threat, where at least two eps were run."""
    drawn: list[tuple[str, str]] = []
    for norm in dict.fromkeys(r.norm for r in results):
        lines: dict[tuple[str, str], list[ClosedResult]] = {}
        for r in results:
            if r.norm == norm and np.isfinite(r.eps):
                lines.setdefault((r.defense, r.threat), []).append(r)
        lines = {k: sorted(v, key=lambda r: r.eps) for k, v in lines.items() if len({r.eps for r in v}) > 1}
        if lines:
            drawn.append((norm, _drawing(norm, lines)))
    return drawn


def _drawing(norm: str, lines: dict[tuple[str, str], list[ClosedResult]]) -> str:
    scale, unit = (255, "1/255") if norm == "linf" else (1, "pixel units")
    most = scale * max(points[-1].eps for points in lines.values())
    colors = {d: i % COLORS for i, d in enumerate(dict.fromkeys(d for d, _ in lines))}
    dashes = {t: DASHES[i % len(DASHES)] for i, t in enumerate(dict.fromkeys(t for _, t in lines))}

    def x(eps: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * eps / most

    def y(share: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)

    under = HEIGHT - BOTTOM
    title = escape(f"Accuracy over all images in percent against eps ({norm}, in {unit})", quote=True)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT + LINE * len(lines)}" role="group" aria-label="{title}">']
    for share in (0, 0.25, 0.5, 0.75, 1):
        at = y(share)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{at + 4:.1f}" text-anchor="end">{100 * share:.0f} %</text>')
    for eps in np.linspace(0, most, 5):
        parts.append(f'<text x="{x(eps):.1f}" y="{under + 14}" text-anchor="middle">{eps:.3g}</text>')
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{under + 30}" text-anchor="middle">eps ({norm}, {unit})</text>'
    )
    for number, ((defense, threat), points) in enumerate(lines.items()):
        name, dash = f"{defense}, {threat}", f' stroke-dasharray="{dashes[threat]}"' if dashes[threat] else ""
        values = [(0.0, points[0].clean_accuracy), *((scale * p.eps, p.robust_accuracy) for p in points)]
        path = " ".join(f"{x(eps):.1f},{y(share):.1f}" for eps, share in values)
        parts.append(f'<g class="curve c{colors[defense]}"><polyline points="{path}"{dash}/>')
        for p in points:
            low, high, at = y(p.ci_low), y(p.ci_high), x(scale * p.eps)
            parts.append(f'<line class="interval" x1="{at:.1f}" x2="{at:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
        said = [f"{percent(points[0].clean_accuracy)} % without attack"]
        said += [
            f"at most {percent(p.robust_accuracy)} % at eps {scale * p.eps:.4g} (95 % {percent(p.ci_low)} to {percent(p.ci_high)}, n={p.n})"
            for p in points
        ]
        for (eps, share), words in zip(values, said, strict=True):
            text = escape(f"{name}: {words}", quote=True)
            place = f'cx="{x(eps):.1f}" cy="{y(share):.1f}"'
            parts.append(
                f'<circle class="point" {place} r="4" role="img" aria-label="{text}"><title>{text}</title></circle>'
            )
        at = HEIGHT + LINE * number + 4
        parts.append(f'<line x1="{LEFT}" x2="{LEFT + 26}" y1="{at}" y2="{at}"{dash}/></g>')
        parts.append(f'<text x="{LEFT + 32}" y="{at + 4}">{escape(name)}</text>')
    return "".join([*parts, "</svg>"])
