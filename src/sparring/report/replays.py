"""Recipes on paper: published numbers beside ours, claims with their verdicts, as tables and as a Markdown page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from sparring.recipes.expand import Expanded
from sparring.recipes.judging import WORDS, ClaimVerdict, agreement, judge
from sparring.recipes.numbers import Number, Replay
from sparring.recipes.recipe import Recipe, ScaleName
from sparring.recipes.twins import weak_twins
from sparring.report.content import Entry, Table, row

SCALE_SAYS: dict[ScaleName, str] = {
    "small": "small: 2 cores, not the paper's scale",
    "paper": "the paper's scale",
}


def list_table(recipes: Sequence[Recipe]) -> Table:
    """Every recipe with its status, its scales and how long they take."""
    rows = [row(r.id, r.title, r.status, _scales(r), str(len(r.claim)), r.missing or "-") for r in recipes]
    return Table("recipes", ("id", "title", "status", "scales (minutes)", "claims", "missing"), tuple(rows))


def _scales(recipe: Recipe) -> str:
    texts = [f"{n} ({s.minutes:g})" if s.minutes is not None else n for n, s in recipe.scale.items()]
    return ", ".join(texts) or "-"


def number_table(recipe: Recipe, replay: Replay | None) -> Table:
    """A cell a place: published | ours [interval]; a line for whoever knows the defense under it where it was asked, flagged
    where that attacker was the weaker one.
    """
    axes = recipe.published.axes
    columns = list(recipe.axes[axes[-1]]) if axes else []
    ours = _by_place(replay)
    published = {} if recipe.all_lost else recipe.numbers
    names = [*axes[:-1], "of", *columns] if axes[:-1] else ["of", *columns]
    flags = {twin.labels: (twin.flag,) for twin in weak_twins(recipe, replay)}
    rows: list[tuple[str | Entry, ...]] = []
    for labels in combinations([list(recipe.axes[axis]) for axis in axes[:-1]]):
        said = [published.get((*labels, c), "lost" if recipe.all_lost else "") for c in columns]
        rows.append((*labels, "published", *(s if isinstance(s, str) else f"{s:g}" for s in said)))
        for seat in dict.fromkeys(n.seat for n in replay.numbers) if replay else ():
            cells = [_shown(ours.get((*labels, c, seat), [])) for c in columns]
            if seat == "paper":
                rows.append((*labels, "ours", *cells))
                continue
            flagged = [Entry(text, flags=flags.get((*labels, c), ())) for c, text in zip(columns, cells, strict=True)]
            rows.append((*labels, f"ours, {seat}", *flagged))
    title = f"{recipe.id}: {recipe.title}"
    if replay:
        n = ", ".join(map(str, sorted({x.n for x in replay.numbers if x.n})))
        title += f" ({SCALE_SAYS[replay.scale]}{n and f'; n = {n}'})"
    return Table(title, tuple(names), tuple(row(*r) for r in rows), tuple(columns))


def _by_place(replay: Replay | None) -> dict[tuple[str, ...], list[Number]]:
    places: dict[tuple[str, ...], list[Number]] = {}
    for number in replay.numbers if replay else ():
        places.setdefault((*number.labels, number.seat), []).append(number)
    return places


def combinations(axes: Sequence[Sequence[str]]) -> Iterator[tuple[str, ...]]:
    """Each combination of a label of every axis; one empty one where there is no axis."""
    if not axes:
        yield ()
        return
    for label in axes[0]:
        for rest in combinations(axes[1:]):
            yield (label, *rest)


def _shown(numbers: Sequence[Number]) -> str:
    """One number with its interval; of several seeds the mean and the range."""
    if not numbers:
        return "-"
    values = [n.value for n in numbers]
    mean = sum(values) / len(values)
    text = f"{mean:.1f}" if numbers[0].scale == 100 else f"{mean:.4g}"
    if len(numbers) > 1:
        return f"{text} ({min(values):.4g} to {max(values):.4g})"
    interval = numbers[0].interval
    return f"{text} [{interval[0]:.0f}-{interval[1]:.0f}]" if interval and numbers[0].scale == 100 else text


def claims_table(verdicts: Sequence[ClaimVerdict]) -> Table:
    """Each claim with its verdict and why; that under who knows the defense follows it."""
    order = list(dict.fromkeys(v.claim for v in verdicts))
    rows = [
        row(
            v.claim,
            f"{'ours: ' if v.ours else ''}{v.text}",
            v.where,
            "" if v.seat == "paper" else v.seat,
            v.word,
            v.why,
        )
        for v in sorted(verdicts, key=lambda v: order.index(v.claim))
    ]
    return Table("claims", ("claim", "text", "where", "seat", "verdict", "why"), tuple(rows))


def counts(verdicts: Sequence[ClaimVerdict]) -> str:
    """How many claims of the papers have which verdict, in the seat that they are about; ours counted apart."""
    own = [v for v in verdicts if v.counts]
    parts = []
    for name, chosen in (("of the paper", [v for v in own if not v.ours]), ("ours", [v for v in own if v.ours])):
        count = Counter(v.word for v in chosen)
        if chosen:
            parts.append(f"{len(chosen)} {name}: {', '.join(f'{count[w]} {w}' for w in WORDS if count[w])}")
    return "; ".join(parts) or "none"


def stale(recipe: Recipe, replay: Replay) -> str:
    """Whether the numbers were made by other steps than the recipe's now, in words, or ""."""
    if recipe.missing or replay.scale not in recipe.scale:
        return "made by an earlier text of this recipe"
    asked = [
        {"kind": s.kind, "name": s.name, "seed": s.seed, "fields": s.asked}
        for s in Expanded.of(recipe, replay.scale).steps
    ]
    before = [{k: s[k] for k in ("kind", "name", "seed", "fields")} for s in replay.provenance["steps"]]
    return "" if asked == before else "made by an earlier text of this recipe; run it again"


def verdicts_of(replays: Sequence[tuple[Recipe, Sequence[Replay]]]) -> list[ClaimVerdict]:
    """The verdicts on all claims of the recipes that were run."""
    return [v for r, runs in replays for replay in runs for v in judge(r, replay.numbers)]


def markdown(paper: str, replays: Sequence[tuple[Recipe, Sequence[Replay]]]) -> str:
    """A paper's page: counts by verdict on top, then every recipe."""
    judged = verdicts_of(replays)
    unrun = [v for r, runs in replays if not runs for v in judge(r, ()) if v.word in ("missing", "lost")]
    waiting = sum(len(r.claim) for r, runs in replays if not runs) - len(unrun)
    every = judged + unrun
    lines = [f"# {paper}, replayed", ""]
    lines += ["Made by `sparring recipe report`; the rows beside it are what it is made from.", ""]
    lines += [
        f"{len(replays)} tables and figures. Claims {counts(every)}{f'; {waiting} are not run yet' if waiting else ''}.",
        "",
    ]
    for recipe, runs in replays:
        lines += [f"## {recipe.id}: {recipe.title}", ""]
        facts = [
            f"Status {recipe.status}.",
            recipe.about,
            f"Published: {recipe.source or 'lost'}.",
            recipe.missing and f"Missing: {recipe.missing}.",
        ]
        lines += [" ".join(filter(None, facts)), ""]
        for replay in runs:
            lines += _run(recipe, replay)
        if not runs:
            lines += [*grid(number_table(recipe, None)), ""] if recipe.published.axes and not recipe.all_lost else []
            waits = [f"- {c.id}: {c.text} ({c.where or 'ours'})" for c in recipe.claim]
            lines += ["Claims, not judged:", "", *waits, ""] if waits else []
    return "\n".join(lines).rstrip() + "\n"


def _run(recipe: Recipe, replay: Replay) -> list[str]:
    provenance, old, twins = replay.provenance, stale(recipe, replay), weak_twins(recipe, replay)
    scale = recipe.scale.get(replay.scale)
    environment = provenance["environment"]
    once = " One training each." if replay.trained_once else ""
    lines = [
        f"Scale {SCALE_SAYS[replay.scale]}. {scale.about if scale else ''} `{provenance['command']}`: {provenance['seconds']:g} s, seeds "
        f"{', '.join(map(str, provenance['seeds']))}, sparring {environment['sparring']}, {provenance['made']}.{once}{f' **{old}.**' if old else ''}",
        "",
        *([*grid(number_table(recipe, replay)), ""] if recipe.published.axes else []),
        *(f"![{name}]({recipe.paper}/{recipe.item}.{replay.scale}/{name})" for name in replay.pictures),
        *([""] if replay.pictures else []),
        *([agreement(recipe, replay), ""] if replay.scale == "paper" else []),
        *(f"- Doubted by {line}" for line in replay.doubts),
        *(f"- {twin.line}" for twin in twins),
        *([""] if replay.doubts or twins else []),
    ]
    verdicts = judge(recipe, replay.numbers)
    return [*lines, *grid(claims_table(verdicts)), ""] if verdicts else lines


def grid(table: Table) -> list[str]:
    """A table as the lines of a Markdown table, the flags of an entry behind its text."""

    def line(texts: Sequence[str]) -> str:
        return f"| {' | '.join(t.replace('|', '/') for t in texts)} |"

    rule = ["---:" if name in table.numbers else "---" for name in table.columns]
    return [line(table.columns), line(rule), *(line([_plain(e) for e in r]) for r in table.rows)]


def _plain(entry: Entry) -> str:
    return " ".join([entry.text, *(f"**({flag})**" for flag in entry.flags)])
