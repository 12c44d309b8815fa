"""The replays as pages: counts by verdict, every claim in a line, numbers drawn; nothing of somebody else's is replaced."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from sparring.core.errors import SparringError
from sparring.recipes.load import load_recipe
from sparring.recipes.numbers import Number, PerImage, Replay, replays_of
from sparring.report.content import Panels, Table
from sparring.report.front import MADE, NOT_RUN, ONCE, claim_lines, counts_table, front_markdown
from sparring.report.panels import Mark, Series, panel
from sparring.report.paper import paper_sections, write_replays
from sparring.report.replays import markdown
from tests.faults.commands import say

ROWS = Path(__file__).parents[2] / "docs" / "replay"
RECIPE = load_recipe("channels/table5")


@pytest.fixture(scope="module")
def replayed():
    """Two that were run, and one as if it had not been."""
    run = [(r, replays_of(r, ROWS)) for r in map(load_recipe, ("channels/table5", "hgd/table4"))]
    return [run[0], (load_recipe("hgd/table6"), []), run[1]]


def test_each_claim_is_counted_once(replayed):
    lines = claim_lines(replayed)
    table = counts_table(replayed, lines)
    words = table.columns[3:]
    total = {word: int(entry.text) for word, entry in zip(words, table.rows[-1][3:], strict=True)}
    assert total == Counter(line.verdict for line in lines)
    assert sum(total.values()) == sum(len(r.claim) for r, _ in replayed)
    assert table.rows[-1][2].text == f"{sum(bool(runs) for _, runs in replayed)} of 3"
    assert total["missing"], "table6 lacks something"
    without = [claim for recipe, runs in replayed for claim in recipe.claim if not runs and not claim.missing]
    assert total[NOT_RUN] == len(without) > 0, "what was not run has no verdict"


def test_a_claim_stands_beside_its_verdict_under_adaptive(replayed):
    pairs = {line.claim: (line.verdict, line.adaptive) for line in claim_lines(replayed[:1])}
    assert ("reproduced", "contradicted") in pairs.values(), "what changes for who knows the defense is seen"


def test_a_doubted_verdict_is_never_shown_without_the_doubt():
    recipe = load_recipe("channels/figure15")
    (run,) = replays_of(recipe, ROWS)
    steps = [{**step, "doubts": ["S1 of fc | oblivious: it leads nowhere"]} for step in run.provenance["steps"][:1]]
    doubted = replace(run, provenance={**run.provenance, "steps": [*steps, *run.provenance["steps"][1:]]})
    pairs = [(recipe, [doubted])]
    assert "checks doubt the evaluations (1 finding)" in front_markdown(pairs)
    texts = [item.text for s in paper_sections(pairs) for item in s.items if item.kind == "text"]
    assert "Doubted by S1 of fc | oblivious: it leads nowhere" in texts
    stale = replace(run, provenance={**run.provenance, "steps": []})
    assert "earlier text of this recipe" in front_markdown([(recipe, [stale])])


def test_a_verdict_on_networks_of_one_training_each_says_so():
    """Bounds over images are about these networks: another training may decide otherwise."""
    recipe = load_recipe("defective/table7")
    (run,) = replays_of(recipe, ROWS)
    flagged = [line.flags for line in claim_lines([(recipe, [run])])]
    assert flagged
    assert all(ONCE in flags for flags in flagged)
    assert "seeds 0, sparring" in markdown("defective", [(recipe, [run])])
    assert "One training each." in markdown("defective", [(recipe, [run])])
    steps = [step for step in run.provenance["steps"] if step["kind"] != "train"]
    for other in ({"seeds": [0, 1, 2]}, {"steps": steps}):
        kept = replace(run, provenance={**run.provenance, **other})
        assert not any(ONCE in line.flags for line in claim_lines([(recipe, [kept])]))


def test_pages_open_alone_and_their_links_lead_somewhere(replayed, tmp_path):
    files = write_replays(replayed, ["channels", "hgd"], tmp_path / "pages")
    assert [f.name for f in files] == ["index.html", "channels.html", "hgd.html"]
    texts = {f.name: f.read_text() for f in files}
    for text in texts.values():
        assert not re.search(r"(?:src|href)=\"(?:https?:)?//|url\(", text), "opens offline"
        assert text.count("<script") == 1, "runs its own script alone"
        for name, anchor in re.findall(r'href="([a-z0-9]+\.html)#?([a-z0-9]*)"', text):
            assert not anchor or f'id="{anchor}"' in texts[name], f"{name}#{anchor}"


def test_what_is_drawn_is_said_in_words():
    series = [
        Series("published", (Mark("a<b", 40.0), Mark("c", 60.0)), joined=True),
        Series("ours", (Mark("a<b", 50.0, (45.0, 55.0)),)),
        Series("informed", (Mark("a<b", 0.0, (0.0, 4.0)),)),
    ]
    svg = panel("FC & CD", ["a<b", "c"], series, shares=True)
    drawing = ElementTree.fromstring(svg)
    assert drawing.attrib["role"] == "img"
    words = drawing.attrib["aria-label"]
    assert words == ("FC & CD. Published: a<b 40, c 60. Ours: a<b 50 [45 to 55]. Ours under adaptive: a<b 0 [0 to 4].")
    heights = [float(c.attrib["cy"]) for c in drawing.iter("circle")]
    assert heights[1] < heights[2] < heights[0], "60 above 50 above 40"
    assert "0 %" in [t.text for t in drawing.iter("text")], "a share's axis begins at 0"


def test_a_missing_number_is_not_drawn():
    ones = PerImage(np.ones(4), np.ones(4), np.ones(4, bool), "share", False)
    labels = ("CIFAR-10", "accuracy")
    known = Number((*labels, "CD"), "paper", 0, "oblivious", "fgsm", "x", (ones,), 100.0, 100.0)
    absent = Number((*labels, "FC"), "paper", 0, "oblivious", "fgsm", "x", (), 100.0, float("nan"))
    provenance = {"command": "c", "made": "m", "seeds": [0], "seconds": 1.0, "environment": {"sparring": "0"}}
    run = Replay(RECIPE.id, "small", {**provenance, "steps": []}, (known, absent), {})
    sections = paper_sections([(RECIPE, [run])])
    (drawn,) = [item for s in sections for item in s.items if isinstance(item, Panels)]
    svg = dict(drawn.drawings)["CIFAR-10, accuracy"]
    assert "Ours: CD 100 [" in svg
    assert "nan" not in svg
    tables = [item for s in sections for item in s.items if isinstance(item, Table)]
    assert all(len(line) == len(t.columns) for t in tables for line in t.rows)


def test_somebody_elses_page_is_not_replaced(replayed, tmp_path):
    (tmp_path / "hgd.html").write_text("mine")
    with pytest.raises(SparringError, match=r"hgd\.html is there and is no page of sparring"):
        write_replays(replayed, ["hgd"], tmp_path)
    assert not (tmp_path / "index.html").exists(), "nothing is written before all may be"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--html", "page.html"), "page.html is no folder"),
        (("--html", "pages"), "README.md is there and is no page of sparring"),
    ],
)
def test_misuse_of_the_report_is_one_line(words, line, tmp_path):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "README.md").write_text(MADE if "page.html" in words else "mine")
    said = say(tmp_path, "recipe", "report", "hgd", "--rows", "rows", *words)
    assert said.code == 2
    assert line in said.err
    assert not (tmp_path / "rows" / "hgd.md").exists()


def test_the_committed_front_page_is_made_from_the_committed_rows():
    from sparring.recipes.load import recipes_of

    assert (ROWS / "README.md").read_text() == front_markdown([(r, replays_of(r, ROWS)) for r in recipes_of()])
