"""What became of each image, and what the images look like."""

from __future__ import annotations

from collections.abc import Mapping

from sparring.core.columns import Json
from sparring.core.spec import ball
from sparring.evaluation.results.table import CLEAN
from sparring.report.content import Entry, Evaluated, Item, Section, Table, Text, Tone, row, section
from sparring.report.names import ClassNames
from sparring.report.samples import anchor_of, chosen, strip
from sparring.verdict.images import lines_of

LINES = 300
COLUMNS = (
    "image",
    "defense",
    "threat",
    "ball",
    "outcome",
    "doubted by",
    "true",
    "answered",
    "by attack",
    "by threat",
    "linf",
    "l2",
)
# what speaks against a number first
TONES: dict[str, Tone] = {
    "suspect": "bad",
    "broken": "bad",
    "broken in some draws": "bad",
    "wrong without attack": "plain",
    "not broken": "plain",
}
ORDER = list(TONES)


@section("images", 50)
def images(run: Evaluated) -> Section | None:
    """A line per image of each number with a verdict, then pictures: clean, attacked, behind the defense, the difference."""
    rows, names = run.rows, ClassNames.of(run.record)
    pictured = chosen(run, rows)
    links = {
        (*seat, s.image): f"#{anchor_of(run.folder, seat, s.image)}"
        for seat, stored in pictured.items()
        for s in stored
    }
    items: list[Item] = []
    if names.guessed:
        items.append(
            Text("The data do not name all classes. As the model has 1,000, the other names are ImageNet's.", "soft")
        )
    lines = sorted(lines_of(rows, run.evaluation.verdicts), key=lambda line: ORDER.index(_outcome(line)))
    if lines:
        items += _table(run, lines, links, names)
    if pictured:
        about = (
            "Clean, attacked, what the classifier sees behind the defense, and the perturbation magnified; labels are the defended system's. Of each "
            "system and threat a few of the images whose pictures were stored, each after the attack that did most to it: first those whose robustness a "
            "check doubts, then those that are broken. The exact images are in the run folder."
        )
        items += [Text(about, "soft"), *(strip(run, rows, seat, stored, names) for seat, stored in pictured.items())]
    return Section("Image by image", tuple(items)) if lines or pictured else None


def _table(
    run: Evaluated, lines: list[Json], links: Mapping[tuple[str, str, str], str], names: ClassNames
) -> list[Item]:
    shown = [
        row(
            Entry(line["image"], link=links.get((line["defense"], line["threat"], line["image"]), "")),
            line["defense"],
            line["threat"],
            ball(line["norm"], line["eps"]),
            Entry(_outcome(line), TONES[_outcome(line)]),
            line["reasons"] or "-",
            names.of_label(line["y"]),
            names.of_label(line["label"]),
            line["by_attack"] or "-",
            line["by_threat"],
            f"{255 * line['linf']:.1f}/255",
            f"{line['l2']:.2f}",
        )
        for line in lines[:LINES]
    ]
    about = "The worst point of each image in each number with a verdict: suspect images first, then broken ones. An image with a link has pictures below."
    if len(lines) > LINES:
        about += f" These are the first {LINES} of {len(lines)} lines; all of them: sparring report {run.folder} --images images.csv"
    return [Text(about, "soft"), Table("What became of each image", COLUMNS, tuple(shown))]


def _outcome(line: Json) -> str:
    if line["suspect"]:
        return "suspect"
    if line["right"] == 1:
        return "not broken"
    if line["by_threat"] == CLEAN:
        return "wrong without attack"
    return "broken in some draws" if line["right"] > 0 else "broken"
