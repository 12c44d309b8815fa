"""The front page of the replays: how many claims have which verdict, and each claim in a line; as sections and as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sparring.core.shown import many
from sparring.recipes.judging import WORDS, ClaimVerdict, judge
from sparring.recipes.numbers import Replay
from sparring.recipes.recipe import Recipe
from sparring.recipes.twins import weak_twins
from sparring.report.content import Entry, Section, Table, Text, Tone, row
from sparring.report.replays import grid, stale

NOT_RUN = "not run yet"
TONES: dict[str, Tone] = {"reproduced": "good", "contradicted": "bad"}
Replayed = Sequence[tuple[Recipe, Sequence[Replay]]]
NAME = "Five papers, replayed"
ONCE = "one training each"
MADE = "Made by `sparring recipe report`"


@dataclass(frozen=True)
class ClaimLine:
    """A claim with its verdict at a scale ("" where it was not run), that under ``adaptive`` beside it ("" where it was not asked), and what to
    know before either is believed.
    """

    recipe: Recipe
    claim: str
    text: str
    ours: bool
    scale: str
    verdict: str
    adaptive: str
    flags: tuple[str, ...]


def claim_lines(replayed: Replayed) -> list[ClaimLine]:
    """Every claim of some recipes, once for each scale that was run."""
    return [line for recipe, runs in replayed for line in _lines(recipe, runs)]


def _lines(recipe: Recipe, runs: Sequence[Replay]) -> Iterator[ClaimLine]:
    for run in runs:
        verdicts = judge(recipe, run.numbers)
        other = {v.claim: v.word for v in verdicts if not v.counts}
        for v in verdicts:
            if v.counts:
                yield ClaimLine(
                    recipe, v.claim, v.text, v.ours, run.scale, v.word, other.get(v.claim, ""), flags(recipe, run)
                )
    for v in judge(recipe, ()) if not runs else ():
        if v.counts:
            yield ClaimLine(recipe, v.claim, v.text, v.ours, "", unrun(v), "", ())


def unrun(verdict: ClaimVerdict) -> str:
    """The verdict on a claim whose recipe was not run: only a lost or missing claim has one."""
    return verdict.word if verdict.word in ("lost", "missing") else NOT_RUN


def flags(recipe: Recipe, replay: Replay) -> tuple[str, ...]:
    """What to know before a replay's numbers are believed: that other steps made them, how many checks doubt them, where who knows the defense
    was the weaker attacker, and that each network was trained once.
    """
    count, weak = len(replay.doubts), len(weak_twins(recipe, replay))
    doubted = f"checks doubt the evaluations ({many(count, 'finding')})" if count else ""
    failed = f"the adaptive attack failed in {many(weak, 'cell')}" if weak else ""
    once = ONCE if replay.trained_once else ""
    return tuple(filter(None, (stale(recipe, replay), doubted, failed, once)))


def counts_table(replayed: Replayed, lines: Sequence[ClaimLine]) -> Table:
    """Claims by paper and verdict, in the seat that they are about; a claim that was judged at two scales counts at each."""
    words = [w for w in (*WORDS, NOT_RUN) if any(line.verdict == w for line in lines)]
    rows: list[tuple[Entry, ...]] = []
    for paper in dict.fromkeys(r.paper for r, _ in replayed):
        for name, ours in (("the paper's", False), ("ours", True)):
            own = [line for line in lines if line.recipe.paper == paper and line.ours is ours]
            count = Counter(line.verdict for line in own)
            items = [runs for r, runs in replayed if r.paper == paper]
            run = f"{sum(map(bool, items))} of {len(items)}"
            if own:
                rows.append(row(Entry(paper, link=f"{paper}.html"), name, run, *(str(count[w]) for w in words)))
    total = Counter(line.verdict for line in lines)
    run = f"{sum(bool(runs) for _, runs in replayed)} of {len(replayed)}"
    rows.append(row("all", "", run, *(str(total[w]) for w in words)))
    return Table("claims by paper and verdict", ("paper", "claims", "recipes run", *words), tuple(rows), tuple(words))


def lines_table(lines: Sequence[ClaimLine]) -> Table:
    """A line a claim, with links to the pages of the papers."""
    rows = [
        row(
            Entry(line.recipe.item, link=f"{line.recipe.paper}.html#{line.recipe.item}"),
            f"{'ours: ' if line.ours else ''}{line.text}",
            Entry(line.verdict, TONES.get(line.verdict, "plain"), flags=line.flags),
            Entry(line.adaptive or ("" if line.verdict == NOT_RUN else "-"), TONES.get(line.adaptive, "plain")),
            line.scale,
        )
        for line in lines
    ]
    return Table("claims", ("item", "claim", "verdict", "under adaptive", "scale"), tuple(rows))


INTRODUCTION = (
    "Tables and figures of five papers, run again. A verdict is about the attacker that the paper had in mind; beside it stands the "
    "verdict on the same sentence for an attacker who knows the defense, where that was asked (-: it was not). A run at the small scale "
    "is not the paper's experiment: only claims are judged there, never numbers. One training each: bounds are over images, and another "
    "training, even of the same seed on another machine, may decide otherwise."
)


def front_sections(replayed: Replayed) -> list[Section]:
    """The front page: counts, then the claims of each paper."""
    lines = claim_lines(replayed)
    counts = Section("", (Text(INTRODUCTION), counts_table(replayed, lines)))
    return [counts, *(Section(paper, (lines_table(own),), paper) for paper, own in _by_paper(lines).items())]


def front_markdown(replayed: Replayed) -> str:
    """The front page as Markdown: counts, and each claim whose recipe was run."""
    lines = claim_lines(replayed)
    counts = counts_table(replayed, lines)
    linked = [row(f"[{r[0].text}]({r[0].text}.md)" if r[0].link else r[0].text, *r[1:]) for r in counts.rows]
    text = [f"# {NAME}", "", f"{MADE}; the rows in its folders are what it is made from.", "", INTRODUCTION, ""]
    text += [*grid(Table("", counts.columns, tuple(linked), counts.numbers)), ""]
    for paper, own in _by_paper([line for line in lines if line.scale]).items():
        text += [f"## {paper}", "", *grid(lines_table(own)), ""]
    return "\n".join(text).rstrip() + "\n"


def _by_paper(lines: Sequence[ClaimLine]) -> dict[str, list[ClaimLine]]:
    papers = dict.fromkeys(line.recipe.paper for line in lines)
    return {paper: [line for line in lines if line.recipe.paper == paper] for paper in papers}
