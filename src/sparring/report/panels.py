"""Small drawings of numbers, written as SVG by hand: they take the page's own colors, light or dark, and say in words what they show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

WIDTH, HEIGHT = 280, 190
LEFT, RIGHT, TOP, BOTTOM = 50, 8, 10, 44
LABEL_LENGTH = 11  # letters of a label under the axis; the whole label is in the words

Kind = Literal["published", "ours", "informed"]


@dataclass(frozen=True)
class Mark:
    """A number at a label: ``value`` with its (low, high), or None where nobody knows them."""

    label: str
    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Series:
    """Marks in order of the axis. A series is drawn as a line too where ``joined``: its labels are in an order."""

    kind: Kind
    marks: tuple[Mark, ...]
    joined: bool = False


def panel(title: str, labels: Sequence[str], series: Sequence[Series], shares: bool) -> str:
    """One drawing as SVG text: ``labels`` along the axis, each series on it. It goes from 0 to 100 for ``shares`` in percent, and has 0 on it always."""
    words = escape(f"{title}. {' '.join(_words(s) for s in series)}", quote=True)
    ends = [end for s in series for m in s.marks for end in (m.value, *(m.interval or ()))]
    low, high = min(0.0, *ends), max(100.0 if shares else 0.0, *ends)
    high = high if high > low else low + 1
    step = (WIDTH - LEFT - RIGHT) / max(1, len(labels))

    def x(label: str, kind: Kind) -> float:
        beside = {"published": -4, "ours": 0, "informed": 4}[kind]
        return LEFT + (labels.index(label) + 0.5) * step + beside

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{words}"><title>{words}</title>']
    for tick in (low, (low + high) / 2, high):
        at = y(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(
            f'<text x="{LEFT - 5}" y="{at + 3:.1f}" text-anchor="end">{tick:.3g}{" %" if shares else ""}</text>'
        )
    every = math.ceil(len(labels) * 12 / (WIDTH - LEFT - RIGHT))  # slanted labels need 12 units each
    for place, label in enumerate(labels):
        if place % every == 0:
            at, under = LEFT + (place + 0.5) * step, HEIGHT - BOTTOM + 12
            short = label if len(label) <= LABEL_LENGTH else f"{label[: LABEL_LENGTH - 1]}…"
            turn = f' transform="rotate(-35 {at:.1f} {under})"' if len(labels) > 2 else ""
            anchor = "end" if turn else "middle"
            parts.append(f'<text x="{at:.1f}" y="{under}" text-anchor="{anchor}"{turn}>{escape(short)}</text>')
    for s in series:
        places = [(x(m.label, s.kind), y(m.value), m) for m in s.marks]
        parts.append(f'<g class="{s.kind}">')
        if s.joined and len(places) > 1:
            parts.append(f'<polyline points="{" ".join(f"{a:.1f},{b:.1f}" for a, b, _ in places)}"/>')
        for a, b, mark in places:
            if mark.interval:
                ends = [y(value) for value in mark.interval]
                parts.append(f'<line x1="{a:.1f}" x2="{a:.1f}" y1="{ends[0]:.1f}" y2="{ends[1]:.1f}"/>')
            parts.append(_shape(s.kind, a, b))
        parts.append("</g>")
    return "".join([*parts, "</svg>"])


def _shape(kind: Kind, x: float, y: float) -> str:
    """Kinds differ by shape, not by color alone."""
    if kind == "informed":
        return f'<rect x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2"/>'


def _words(series: Series) -> str:
    name = {"published": "Published", "ours": "Ours", "informed": "Ours under adaptive"}[series.kind]
    said = [f"{m.label} {m.value:.4g}{_between(m.interval)}" for m in series.marks]
    return f"{name}: {', '.join(said)}."


def _between(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" [{interval[0]:.4g} to {interval[1]:.4g}]"
