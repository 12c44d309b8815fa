"""Every control evaluated twice, and what the checks and the verdict say of it: check x control, catches, false alarms.

``python benchmarks/verdict.py --weights FOLDER [--n 64] [--data mnist] [--norm linf l2] [--seeds 0 1 2] [--half 0] [--out verdict.json]``

"white": the cascade alone is in the pool; "pool": all attacks of the quick tier, on survivors as in a tier. A faulty attack stands in the cascade's place. "inside": what
points leave of a control that are made on the network inside it, its truth; no check is asked there. Rows are kept in ``--out``: the same
command resumes, and measures anew what other code (of the package, of the controls) has made. ``--half``: thresholds are set on half 0 and confirmed on half 1.
The trained networks: ``python benchmarks/controls.py --train FOLDER``.

A check catches a control that it must not let pass (masked, hidden randomness, faulty attack) where it fails (severity FAIL or FATAL), and raises
a false alarm on an honest or truly robust one, unless it is due there. Warnings are shown ("?") and not counted.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from controls import BALLS, CONTROLS, Control, DataSet, Stock, Target, halves
from rich.console import Console
from rich.table import Table
from torch import Tensor

import sparring
from sparring.attacks.attack import Attack, attack
from sparring.core.code import code_of
from sparring.core.errors import SparringError
from sparring.core.geometry import Norm
from sparring.core.noise import Noise, image_keys
from sparring.core.prepare import prepare
from sparring.defenses.base import name_of
from sparring.evaluation.plan.tiers import TIERS
from sparring.evaluation.records.finding import Finding
from sparring.evaluation.records.provenance import code_hash
from sparring.subject import Subject

MODES = ("white", "pool")
INSIDE = "inside"
CASCADE = "cascade"
GOOD = ("honest", "truly robust")
STANDS = ("HOLDS", "NOT_BROKEN_YET")
BREAKABLE = 0.1
FALSELY_HIGH = 0.05  # above what points from inside leave, or the whole pool of the undefended network


@cache
def code() -> str:
    """Of the package and of the controls: what rows are kept for."""
    return code_hash() + code_of(Control)


@dataclass(frozen=True)
class Said:
    """A check's worst answer about a control."""

    ok: bool
    severity: str
    value: float
    threshold: float

    @property
    def failed(self) -> bool:
        return not self.ok and self.severity in ("FAIL", "FATAL")

    def __str__(self) -> str:
        mark = "" if self.ok else "!" if self.failed else "?"
        return f"{self.value:.2g}{mark}"


@dataclass(frozen=True)
class Row:
    """One control in one ball, one seed, one mode. ``refused``: what an evaluation said that ended without a number."""

    control: str
    data: DataSet
    norm: Norm
    eps: float
    seed: int
    mode: str
    n: int
    code: str
    clean: float = math.nan
    robust: float = math.nan
    word: str = "-"
    sentence: str = ""
    refused: str = ""
    seconds: float = 0.0
    checking: float = 0.0
    said: dict[str, Said] = field(default_factory=dict)

    @property
    def key(self) -> tuple[object, ...]:
        return self.control, self.data, self.norm, self.eps, self.seed, self.mode, self.n, self.code

    @property
    def failed(self) -> list[str]:
        return [c for c, s in self.said.items() if s.failed]

    @classmethod
    def read(cls, kept: dict[str, Any]) -> Row:
        return cls(**{**kept, "said": {c: Said(**s) for c, s in kept["said"].items()}})


class Stopwatch:
    """Seconds that an evaluation spends on checks, by the texts of its progress."""

    def __init__(self) -> None:
        self.checking, self.at, self.text = 0.0, time.perf_counter(), ""

    def __call__(self, done: int, total: int, text: str) -> None:
        now = time.perf_counter()
        if self.text.startswith("check"):
            self.checking += now - self.at
        self.at, self.text = now, text


def in_ball(given: str | Attack, norm: Norm, eps: float) -> list[Attack]:
    """The attack in this ball, if it knows the norm."""
    made = attack(given)
    return [replace(made, setting=replace(made.setting, norm=norm, eps=eps))] if norm in made.method.norms else []


def attacks_of(control: Control, norm: Norm, eps: float, mode: str) -> list[Attack]:
    """What is in the pool. Empty: the tier's default."""
    given: Iterable[str | Attack] = control.attacks or (CASCADE,)
    if mode == "pool":
        if norm == "linf" and not control.attacks:
            return []
        others = [a for a in TIERS["quick"] if a.partition(":")[0] != CASCADE]
        given = (*given, *others)
    return [made for a in given for made in in_ball(a, norm, eps)]


def evaluated(control: Control, stock: Stock, norm: Norm, eps: float, mode: str) -> Row:
    """Run it."""
    row = Row(control.name, stock.data, norm, eps, stock.seed, mode, stock.limit, code())
    target, watch, start = control.build(stock), Stopwatch(), time.perf_counter()
    try:
        result = sparring.evaluate(
            target.model,
            stock.images(),
            list(target.defenses),
            ["adaptive"],
            attacks_of(control, norm, eps, mode),
            eps=[eps],
            seed=stock.seed,
            survivors=mode == "pool",  # as a tier's attacks do
            progress=watch,
        )
    except SparringError as error:
        return refused(row, str(error), time.perf_counter() - start)
    name = subject_of(target)
    closed = next(c for c in result.closed if (c.defense, c.norm) == (name, norm) and math.isclose(c.eps, eps))
    findings = [f for f in result.findings if f.about(name, "adaptive", norm, closed.eps)]
    word, sentence = verdict_of(result, name, norm, closed.eps)
    return replace(
        row,
        clean=closed.clean_accuracy,
        robust=closed.robust_accuracy,
        word=word,
        sentence=sentence,
        seconds=time.perf_counter() - start,
        checking=watch.checking,
        said=worst_of(findings),
    )


def from_inside(control: Control, stock: Stock, norm: Norm, eps: float) -> Row:
    """What points leave that are made on the network inside, run to their end so that they lie far behind its boundary."""
    row = Row(control.name, stock.data, norm, eps, stock.seed, INSIDE, stock.limit, code())
    target, images, start = control.build(stock), stock.images(), time.perf_counter()
    subject = Subject.of(target.model, images, target.defenses)
    system = subject.systems[subject_of(target)].system()
    inside = prepare(control.inside(stock).eval().requires_grad_(False), images.x[:4]).model
    keys = image_keys(list(images.ids))

    def right(x: Tensor) -> Tensor:
        with torch.no_grad():
            return system.logits(x, Noise.of(stock.seed, "inside", keys), 1)[:, 0].argmax(1) == images.y

    clean = alive = right(images.x)
    for given in (CASCADE, "apgd:steps=50", "apgd:steps=50,loss=margin"):
        for stop in ("never", "success"):
            (made,) = in_ball(given, norm, eps)
            alive = alive & right(made.run(inside, images.x, images.y, stop=stop, ids=list(images.ids)).x)
    shares = float(clean.double().mean()), float(alive.double().mean())
    return replace(row, clean=shares[0], robust=shares[1], seconds=time.perf_counter() - start)


def refused(row: Row, message: str, seconds: float) -> Row:
    """An evaluation that ended without a number, by the check that ended it."""
    found = re.search(r"check (\w+) failed", message)
    said = {found[1]: Said(False, "FATAL", math.nan, math.nan)} if found else {}
    return replace(row, word="INVALID", sentence=message, refused=message, seconds=seconds, said=said)


def subject_of(target: Target) -> str:
    """What results call the system that the verdict is about."""
    return name_of(target.defenses[0]) if target.defenses else "none"


def worst_of(findings: Sequence[Finding]) -> dict[str, Said]:
    """One answer a check: a failed one before a silent one, the graver before the lighter."""
    graver = ("FATAL", "FAIL", "WARN", "INFO")
    chosen: dict[str, Said] = {}
    for f in sorted(findings, key=lambda f: (f.ok, graver.index(f.severity))):
        chosen.setdefault(f.check, Said(f.ok, f.severity, f.value, f.threshold))
    return chosen


def verdict_of(result: Any, defense: str, norm: str, eps: float) -> tuple[str, str]:
    """(word, sentence) about this number; "-" where no verdict is given."""
    for verdict in getattr(result, "verdicts", ()):
        about = {"defense": defense, "norm": norm}
        if all(getattr(verdict, k, v) == v for k, v in about.items()) and math.isclose(
            getattr(verdict, "eps", eps), eps
        ):
            return str(verdict.word).replace(" ", "_"), str(verdict.sentence)
    return "-", ""


class Bench:
    """The rows, kept in a file."""

    def __init__(self, file: Path | None) -> None:
        self.file, self.rows = file, dict[tuple[object, ...], Row]()
        if file and file.exists():
            kept = [Row.read(r) for r in json.loads(file.read_text())]
            self.rows = {r.key: r for r in kept}

    def run(self, control: Control, stock: Stock, norm: Norm, eps: float, mode: str) -> Row | None:
        """The row, measured or kept; None where a network that it needs was not trained."""
        lacking = stock.missing(control.needs)
        if lacking:
            say(f"{control.name}: no {stock.file(lacking[0])}; python benchmarks/controls.py --train FOLDER makes it")
            return None
        wanted = Row(control.name, stock.data, norm, eps, stock.seed, mode, stock.limit, code()).key
        if wanted not in self.rows:
            inside = mode == INSIDE
            row = from_inside(control, stock, norm, eps) if inside else evaluated(control, stock, norm, eps, mode)
            self.rows[wanted] = row
            about = f"{100 * row.robust:5.1f} % {row.word} {' '.join(row.failed)}"
            say(
                f"{control.name}, {stock.data} {norm} {eps:.3g}, seed {stock.seed}, {mode}: {about} ({row.seconds:.0f} s)"
            )
            if self.file:
                self.file.write_text(json.dumps([asdict(r) for r in self.rows.values()], indent=1) + "\n")
        return self.rows[wanted]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def tables(rows: Sequence[Row], console: Console) -> None:
    """What each control got, ball by ball; then what each check did over all of them; then the goals."""
    balls = dict.fromkeys((r.data, r.norm, r.eps, r.seed, r.n) for r in rows)
    for data, norm, eps, seed, n in balls:
        mine = [r for r in rows if (r.data, r.norm, r.eps, r.seed, r.n) == (data, norm, eps, seed, n)]
        per_control(mine, f"{data} {norm} {eps:.3g}, seed {seed}, n={n}: robust accuracy in %", console)
        per_value(mine, console)
    per_check(rows, console)
    goals(rows, console)


def per_control(rows: Sequence[Row], title: str, console: Console) -> None:
    table = Table(title=title)
    columns = ("control", "kind", "half", "clean", "inside", "white", "verdict", "failed checks")
    for name in (*columns, "pool", "verdict", "failed checks", "s", "checks %"):
        table.add_column(name)
    for name, both in pairs(rows).items():
        control, clean = CONTROLS[name], max((r.clean for r in both.values() if r.clean == r.clean), default=math.nan)
        inside = percent(both[INSIDE].robust) if INSIDE in both else ""
        cells = [name, control.kind, str(halves()[name]), percent(clean), inside]
        for mode in MODES:
            row = both.get(mode)
            cells += [percent(row.robust), row.word, " ".join(row.failed)] if row else ["", "", ""]
        seconds, checking = time_of(list(both.values()))
        table.add_row(*cells, f"{seconds:.0f}", f"{100 * checking / max(seconds, 1e-9):.0f}")
    console.print(table)


def time_of(rows: Sequence[Row]) -> tuple[float, float]:
    """(seconds of evaluations, and of those on checks)."""
    ran = [r for r in rows if r.mode in MODES]
    return sum(r.seconds for r in ran), sum(r.checking for r in ran)


def pairs(rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """Rows of one ball by control and mode."""
    found: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in rows:
        found[row.control][row.mode] = row
    return found


def checks_in(rows: Sequence[Row]) -> list[str]:
    return sorted({c for r in rows for c in r.said}, key=lambda c: (c.rstrip("0123456789'"), len(c), c))


def per_value(rows: Sequence[Row], console: Console) -> None:
    """Check x control: values, white then pool where they differ. "!" failed, "?" warned."""
    checks = [c for c in checks_in(rows) if any(not r.said[c].ok or c[0] not in "P" for r in rows if c in r.said)]
    table = Table(title='values of checks, white / pool where they differ ("!" failed, "?" warned)')
    for name in ("control", *checks):
        table.add_column(name)
    for name, both in pairs(rows).items():
        cells = []
        for check in checks:
            values = dict.fromkeys(str(both[m].said[check]) for m in MODES if m in both and check in both[m].said)
            cells.append(" / ".join(values))
        table.add_row(name, *cells)
    console.print(table)


def per_check(rows: Sequence[Row], console: Console) -> None:
    """Catches of bad controls and false alarms on good ones, over all balls and seeds."""
    table = Table(title="checks: caught of those it was asked about, false alarms")
    for name in ("check", *(f"{m}: {w}" for m in MODES for w in ("caught", "false alarms")), "false alarms on"):
        table.add_column(name)
    for check in checks_in(rows):
        cells, on = [], dict[str, None]()
        for mode in MODES:
            asked = [r for r in rows if r.mode == mode and check in r.said]
            bad = [r for r in asked if CONTROLS[r.control].kind not in GOOD]
            good = [r for r in asked if CONTROLS[r.control].kind in GOOD and check not in CONTROLS[r.control].due]
            alarms = [r.control for r in good if r.said[check].failed]
            on |= dict.fromkeys(alarms)
            cells += [f"{sum(r.said[check].failed for r in bad)} of {len(bad)}", f"{len(alarms)} of {len(good)}"]
        table.add_row(check, *cells, ", ".join(on))
    console.print(table)


def goals(rows: Sequence[Row], console: Console) -> None:
    """The goals, each with those that miss it. Where the truth is above a tenth, a masked control need not end BROKEN, but not read too high."""

    def kind(row: Row) -> str:
        return CONTROLS[row.control].kind

    def about(row: Row) -> tuple[object, ...]:
        return row.data, row.norm, row.eps, row.seed

    base = {about(r): r.robust for r in rows if (r.control, r.mode) == ("undefended", "pool")}
    truth = {(r.control, *about(r)): r.robust for r in rows if r.mode == INSIDE}
    ran = [r for r in rows if r.mode in MODES]

    def true(row: Row) -> float:
        return truth.get((row.control, *about(row)), base.get(about(row), math.nan))

    def excess(row: Row) -> float:
        return row.robust - true(row)

    def breakable(row: Row) -> bool:
        """Where the truth leaves no more than a tenth, or is not known."""
        return not true(row) > BREAKABLE

    def stands(row: Row) -> bool:
        return row.word in STANDS and (breakable(row) or excess(row) > FALSELY_HIGH)

    def silent(row: Row) -> bool:
        return not row.failed and row.word in ("-", *STANDS)

    def not_due(row: Row) -> set[str]:
        return set(row.failed) - set(CONTROLS[row.control].due)

    bad, good = [r for r in ran if kind(r) not in GOOD], [r for r in ran if kind(r) in GOOD]
    missed = {
        "masked, hidden or faulty that end HOLDS or NOT BROKEN YET": (bad, [r for r in bad if stands(r)]),
        "honest or truly robust that end ATTACK NOT TRUSTED or INVALID": (
            good,
            [r for r in good if r.word in ("ATTACK_NOT_TRUSTED", "INVALID") and not_due(r)],
        ),
        "masked that do not end BROKEN with the pool": (
            masked := [r for r in ran if kind(r) == "masked" and r.mode == "pool"],
            [r for r in masked if breakable(r) and r.word not in ("BROKEN", "-")],
        ),
        "truly robust that end BROKEN": (
            robust := [r for r in ran if kind(r) == "truly robust"],
            [r for r in robust if r.word == "BROKEN"],
        ),
        "bad that read more than 5 points above their truth, and no check failed": (
            bad,
            [r for r in bad if excess(r) > FALSELY_HIGH and silent(r)],
        ),
        "good on which a check failed that is not due": (
            good,
            [r for r in good if not_due(r)],
        ),
    }
    table = Table(title="goals: 0 of each (rows)")
    for name in ("", "rows", "of", "which"):
        table.add_column(name)
    for goal, (asked, those) in missed.items():
        table.add_row(goal, str(len(those)), str(len(asked)), listed(those))
    console.print(table)
    seconds, checking = time_of(rows)
    console.print(f"{len(rows)} rows in {seconds:.0f} s, of which checks {100 * checking / max(seconds, 1e-9):.1f} %")


def listed(rows: Sequence[Row]) -> str:
    """Controls with the modes and, where there are several, the number of rows."""
    found: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        found[row.control].append(row.mode)
    return "; ".join(f"{c} ({'+'.join(dict.fromkeys(m))})" for c, m in found.items())


def chosen(args: argparse.Namespace) -> list[Control]:
    unknown = [n for n in args.only if n not in CONTROLS]
    if unknown:
        raise SystemExit(f"no control is called {unknown[0]!r}; python benchmarks/controls.py lists them")
    named = [CONTROLS[n] for n in args.only] or list(CONTROLS.values())
    kinds = [c for c in named if not args.kind or c.kind in args.kind]
    return [c for c in kinds if args.half is None or halves()[c.name] == args.half]


def has_mode(control: Control, mode: str) -> bool:
    """Only of a masked control the inside is another one than itself."""
    return mode in MODES or control.kind in ("masked", "hidden randomness")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="folder of the trained networks")
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--data", nargs="+", choices=tuple(BALLS), default=["mnist"])
    parser.add_argument("--norm", nargs="+", choices=("linf", "l2"), default=["linf", "l2"])
    parser.add_argument("--eps", type=float, nargs="+", help="instead of the data set's own budgets")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--mode", nargs="+", choices=(*MODES, INSIDE), default=(*MODES, INSIDE))
    parser.add_argument("--half", type=int, choices=(0, 1))
    parser.add_argument("--kind", nargs="+", help="honest, masked, ...")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--out", type=Path, help="FILE.json; resumed if it exists")
    parser.add_argument("--width", type=int, default=200)
    args = parser.parse_args()
    bench, rows = Bench(args.out), list[Row]()
    for seed in args.seeds:
        for data in args.data:
            stock = Stock(data, args.weights, args.n, seed)
            todo = [c for c in chosen(args) if data in c.data]
            for norm in args.norm:
                for eps in args.eps or BALLS[data][norm]:
                    found = [bench.run(c, stock, norm, eps, m) for c in todo for m in args.mode if has_mode(c, m)]
                    rows += [r for r in found if r]
    tables(rows, Console(width=args.width))


if __name__ == "__main__":
    main()
