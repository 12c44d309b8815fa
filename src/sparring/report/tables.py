"""Tables for a terminal. Every rate stands with n, its interval and its threat model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from sparring.core.spec import ball
from sparring.evaluation.records.finding import Finding
from sparring.evaluation.results.cells import CellResult
from sparring.evaluation.results.closed import ClosedResult
from sparring.evaluation.results.metrics.base import MetricResult


def percent(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{100 * value:.1f}"


def cells_table(cells: Sequence[CellResult]) -> Table:
    """One line per (defense, threat, attack, ball): own points only."""
    table = Table(title="Each attack in each seat: accuracy over all images, own points only (%)", title_justify="left")
    for name, right in (
        ("defense", False),
        ("threat", False),
        ("attack", False),
        ("ball", False),
        ("clean", True),
        ("robust", True),
        ("95 % interval", True),
        ("8-bit", True),
        ("median norm", True),
        ("n", True),
        ("fwd/img", True),
    ):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    last = ""
    for c in cells:
        if last and c.defense != last:
            table.add_section()
        last = c.defense
        table.add_row(
            c.defense,
            c.threat,
            c.attack,
            ball(c.norm, c.eps),
            percent(c.clean_accuracy),
            percent(c.robust_accuracy),
            f"{percent(c.ci_low)}-{percent(c.ci_high)}",
            percent(c.robust_accuracy_8bit),
            "-" if math.isnan(c.median_norm) else f"{c.median_norm:.3g}",
            str(c.n),
            f"{c.forwards_per_image:.0f}",
        )
    return table


def closed_table(results: Sequence[ClosedResult]) -> Table:
    """One line per (defense, threat, ball): per-image worst case over the closed pool."""
    table = Table(title="Worst case per image over the closed pool: the numbers to report (%)", title_justify="left")
    for name, right in (
        ("defense", False),
        ("threat", False),
        ("ball", False),
        ("clean", True),
        ("robust at most", True),
        ("95 % interval", True),
        ("upper bound", True),
        ("8-bit", True),
        ("undefended", True),
        ("attacks", True),
        ("n", True),
    ):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    last = ""
    for r in results:
        if last and r.defense != last:
            table.add_section()
        last = r.defense
        table.add_row(
            r.defense,
            r.threat,
            ball(r.norm, r.eps),
            percent(r.clean_accuracy),
            percent(r.robust_accuracy),
            f"{percent(r.ci_low)}-{percent(r.ci_high)}",
            percent(r.upper),
            percent(r.robust_accuracy_8bit),
            percent(r.undefended),
            str(r.attacks),
            str(r.n),
        )
    return table


def metrics_table(results: Sequence[MetricResult]) -> Table:
    """One line per (metric, defense, threat, attack, ball): the value with its interval and its denominator."""
    table = Table(title="Metrics of the papers: each with its own denominator, own points only", title_justify="left")
    for name in ("metric", "defense", "threat", "attack", "ball", "value", "95 % interval", "over", "n of images"):
        table.add_column(name, overflow="fold")
    for r in results:
        say = (lambda v: "n/a" if math.isnan(v) else f"{100 * v:.1f} %") if r.percent else lambda v: f"{v:.3g}"
        ball_text, interval = ball(r.norm, r.eps), f"{say(r.ci_low)} to {say(r.ci_high)}"
        about = r.metric, r.defense, r.threat, r.attack, ball_text
        table.add_row(*about, say(r.value), interval, r.over, f"{r.n:g} of {r.images}")
    return table


def findings_table(findings: Sequence[Finding]) -> Table:
    """All findings of checks, failed ones marked."""
    table = Table(title="Checks", title_justify="left")
    for name in ("check", "subject", "result", "says"):
        table.add_column(name, overflow="fold")
    for f in findings:
        table.add_row(f.check, f.subject or "-", "ok" if f.ok else f.severity, f.message)
    return table


def images_table(summary: dict[str, Any]) -> Table:
    """Saved adversarial images: norms and the labels of the reloaded tensor and PNG."""
    n = summary["n"]
    title = (
        f"{summary['attack']} on {summary['model']} behind {summary['defense']}: clean {percent(summary['clean_accuracy'])} %, attacked "
        f"{percent(summary['accuracy'])} % (tensor), {percent(summary['png_accuracy'])} % (8-bit PNG), n={n}, re-scored from the saved files"
    )
    table = Table(title=title, title_justify="left")
    for name in ("image", "true", "clean", "attacked", "as PNG", "linf", "l2", "l1", "l0"):
        table.add_column(name, justify="left" if name == "image" else "right")
    for i in summary["images"]:
        norms = (f"{255 * i['linf']:.2f}/255", f"{i['l2']:.3f}", f"{i['l1']:.2f}", f"{i['l0']:.0f}")
        table.add_row(i["id"], *(str(i[k]) for k in ("y", "clean_label", "label", "png_label")), *norms)
    return table
