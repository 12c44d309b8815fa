"""Tables that stand by themselves: metrics asked of a run, adversarial images that were saved."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sparring.core.columns import Json
from sparring.core.spec import ball
from sparring.evaluation.results.metrics.base import MetricResult
from sparring.report.content import Table, row
from sparring.report.figures import percent
from sparring.verdict.comparison import RunPair


def metrics_table(results: Sequence[MetricResult]) -> Table:
    """One line per (metric, defense, threat, attack, ball): the value with its interval and its denominator."""
    rows = [
        row(
            r.metric,
            r.defense,
            r.threat,
            r.attack,
            ball(r.norm, r.eps),
            _said(r.value, r.percent),
            f"{_said(r.ci_low, r.percent)} to {_said(r.ci_high, r.percent)}",
            r.over,
            f"{r.n:g} of {r.images}",
        )
        for r in results
    ]
    names = ("metric", "defense", "threat", "attack", "ball", "value", "95 % interval", "over", "n of images")
    title = "Metrics of the papers: each with its own denominator, own points only"
    return Table(title, names, tuple(rows), ("value", "95 % interval"))


def _said(value: float, as_percent: bool) -> str:
    return "n/a" if math.isnan(value) else f"{100 * value:.1f} %" if as_percent else f"{value:.3g}"


def images_table(summary: Json) -> Table:
    """Saved adversarial images: norms and the labels of the reloaded tensor and PNG."""
    title = (
        f"{summary['attack']} on {summary['model']} behind {summary['defense']}: clean {percent(summary['clean_accuracy'])} %, attacked "
        f"{percent(summary['accuracy'])} % (tensor), {percent(summary['png_accuracy'])} % (8-bit PNG), n={summary['n']}, re-scored from the saved files"
    )
    names = ("image", "true", "clean", "attacked", "as PNG", "linf", "l2", "l1", "l0")
    rows = []
    for i in summary["images"]:
        norms = (f"{255 * i['linf']:.2f}/255", f"{i['l2']:.3f}", f"{i['l1']:.2f}", f"{i['l0']:.0f}")
        rows.append(row(i["id"], *(str(i[k]) for k in ("y", "clean_label", "label", "png_label")), *norms))
    return Table(title, names, tuple(rows), names[1:])


def comparison_table(compared: RunPair) -> Table:
    """One line per number that two runs have in common: both, the difference, and how many images moved."""
    names = (
        "defense",
        "threat",
        "ball",
        "first",
        "second",
        "difference",
        "95 % bounds",
        "p",
        "lost",
        "won",
        "n",
        "verdicts",
    )
    rows = [
        row(
            " | ".join(dict.fromkeys(c.defenses)),
            c.threat,
            c.ball,
            percent(c.first),
            percent(c.second),
            f"{100 * c.difference:+.1f}",
            f"{100 * c.low:+.1f} to {100 * c.high:+.1f}",
            "-" if math.isnan(c.p_value) else f"{c.p_value:.2g}",
            str(len(c.lost)),
            str(len(c.won)),
            str(c.n),
            " | ".join(word.replace("_", " ") or "-" for word in c.words),
        )
        for c in compared.comparisons
    ]
    title = (
        "Accuracy of two runs on the images that both have (%, points; one-sided bounds of paired images, McNemar's p)"
    )
    return Table(title, names, tuple(rows), names[3:-1], ("p", "verdicts", "lost", "won"))


def moved_lines(compared: RunPair) -> list[str]:
    """Which images moved, by number."""
    lines: list[str] = []
    for c in compared.comparisons:
        about = f"{' | '.join(dict.fromkeys(c.defenses))}, {c.threat}, {c.ball}"
        lines += [
            f"{about}: {word}: {', '.join(images)}" for word, images in (("lost", c.lost), ("won", c.won)) if images
        ]
    return lines
