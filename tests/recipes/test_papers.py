"""The packaged recipes: every one loads and resolves, and no published number was made up."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest

from sparring.core.errors import SparringError
from sparring.evaluation.results.table import CLEAN
from sparring.recipes.expand import Expanded
from sparring.recipes.judging import ClaimVerdict, judge
from sparring.recipes.load import load_recipe, papers, recipe_files, recipes_of
from sparring.recipes.numbers import replays_of
from sparring.recipes.steps import Folders, check, check_cells, command
from sparring.report.replays import markdown, stale
from sparring.threats import threat

ROOT = Path(__file__).parents[2]
REPLAY = ROOT / "docs" / "replay"
RECIPES = list(recipe_files())
ITEMS = {"ace": 20, "defective": 22, "s2snet": 7, "channels": 28, "hgd": 11}
NUMBER = re.compile(r"(?<![\d.])\d*\.?\d+(?:e-\d+)?(?![\d.]*\d)")


def paper_lines(source: str) -> list[str]:
    """The lines of "channels.txt:315-338, 400-401"; skips where the papers are not here."""
    folder = Path(os.environ.get("SPARRING_DATA", "/nowhere")).parent / "papers"
    name, _, ranges = source.partition(":")
    if not (folder / name).is_file():
        pytest.skip("the papers' texts are not here")
    text = (folder / name).read_text().splitlines()
    lines: list[str] = []
    for span in ranges.split(","):
        first, _, last = span.strip().partition("-")
        lines += text[int(first) - 1 : int(last or first)]
    return lines


@pytest.mark.parametrize("name", RECIPES)
def test_every_published_number_stands_in_the_cited_lines(name):
    """As often as it is published, at least: none was guessed, and none was copied from another place."""
    recipe = load_recipe(name)
    numbers = [] if recipe.all_lost else [v for v in recipe.numbers.values() if v != "lost"]
    if not numbers:
        return
    assert recipe.source, "published numbers without their lines"
    there = Counter(float(n) for line in paper_lines(recipe.source) for n in NUMBER.findall(line))
    missing = Counter(numbers) - there
    assert not missing, f"{recipe.source} lacks {dict(missing)}"


@pytest.mark.parametrize("name", RECIPES)
def test_every_step_of_every_scale_resolves(name):
    """All but the data and the weights: names, fields and their ranges, axes, and where each cell is read."""
    recipe = load_recipe(name)
    for scale in recipe.scale if not recipe.missing else ():
        expanded = Expanded.of(recipe, scale)
        for step in expanded.steps:
            check(step, expanded)
            assert command(step, Folders(Path("out"), "DATA")).startswith(f"sparring {step.kind}")
        addresses = expanded.addresses
        assert addresses or recipe.draws
        read = {a.place for a in addresses}
        asked = [s for s in expanded.steps if s.kind in ("evaluate", "analyze") and "png" not in s.asked]
        assert {s.place for s in asked} <= read, "a step that no cell reads and that draws nothing"
        check_cells(expanded)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_cells_whose_attacker_ignores_the_defense_are_read_under_adaptive_too(name):
    """What such an attacker leaves is high for any defense, and says nothing of it alone."""
    recipe = load_recipe(name)
    for scale in recipe.scale if not recipe.missing else ():
        addresses = Expanded.of(recipe, scale).addresses
        known = {a.labels for a in addresses if a.seat == "adaptive"}
        for a in addresses:
            if a.seat == "adaptive":
                assert not a.threat or a.threat == CLEAN or threat(a.threat).kind.adaptive or a.path, (
                    f"{a.labels}: {a.threat}"
                )
            elif a.defense not in ("", "none") and a.threat != CLEAN and not threat(a.threat).kind.deployed:
                assert a.labels in known, f"{a.labels} is judged under {a.threat} alone; give {name} [cell.adaptive]"


def test_what_is_trained_under_one_name_is_one_thing():
    """The recipes of a paper share what they train."""
    trained: dict[str, object] = {}
    for recipe in recipes_of():
        for scale in recipe.scale if not recipe.missing else ():
            for step in Expanded.of(recipe, scale).steps:
                if step.kind == "train":
                    assert trained.setdefault(step.place, (step.name, step.asked)) == (step.name, step.asked), (
                        step.place
                    )


@pytest.mark.parametrize("name", RECIPES)
def test_status_and_missing_agree(name):
    recipe = load_recipe(name)
    assert recipe.title.strip()
    measured = recipe.kind in ("table", "series")
    assert bool(recipe.missing) == (recipe.status in ("C", "D")) or not measured, (
        "C and D say what is missing, A and B run"
    )
    assert not recipe.missing or not recipe.missing.endswith(".")
    for claim in recipe.claim:
        assert claim.ours != bool(claim.where), f"{claim.id}: a claim of the paper says where it stands, ours does not"


def test_every_item_has_both_scales_and_committed_rows():
    for name in RECIPES:
        assert set(load_recipe(name).scale) == {"small", "paper"}, name
        assert (REPLAY / f"{name}.small.json").exists(), name


def test_all_items_of_the_papers_are_files():
    counts = Counter(name.split("/")[0] for name in RECIPES)
    assert {p: counts[p] for p in ITEMS} == ITEMS
    assert set(papers()) == set(ITEMS)


@pytest.mark.parametrize("file", sorted(REPLAY.glob("*/*.json")), ids=lambda f: f"{f.parent.name}-{f.stem}")
def test_committed_rows_are_of_a_recipe_and_of_its_present_text(file):
    recipe = load_recipe(f"{file.parent.name}/{file.stem.rsplit('.', 1)[0]}")
    (replayed,) = [r for r in replays_of(recipe, REPLAY) if r.scale == file.stem.rsplit(".", 1)[1]]
    assert stale(recipe, replayed) == ""
    assert not re.search(r"/tmp/|/home/|/work/", file.read_text()), "a path of somebody's machine"


def verdicts(name: str, seat: str = "paper") -> dict[str, ClaimVerdict]:
    """Of the committed rows, by claim."""
    recipe = load_recipe(name)
    (replayed,) = replays_of(recipe, REPLAY)
    return {v.claim: v for v in judge(recipe, replayed.numbers) if v.seat == seat}


def test_a_claim_asks_what_its_sentence_says():
    """Rows of which the paper says nothing are left out, a number that is left is no bound, and each network that is named is asked."""
    among = verdicts("defective/table10")["not-white"].comparisons
    assert [line.split("/PGD8")[0] for line in among] == ["-(ResNet-18", "-(0.5-Bottom", "-(0.3-Bottom"]
    left = verdicts("ace/table5", "adaptive")["lam-10"]
    assert left.word != "reproduced", "0 is not 32.1"
    own = [v for name, v in verdicts("s2snet/figure8").items() if name.startswith("own-")]
    targets = load_recipe("s2snet/figure8").axes["target"]
    assert [{line.split("/")[0] for line in v.comparisons} for v in own] == [{target} for target in targets]
    assert all(len(v.comparisons) == len(targets) - 1 for v in own)
    assert [c.a["target"] for c in load_recipe("defective/table9").claim] == ["ResNet-18", "DenseNet-121"]
    assert verdicts("defective/figure4")["until-16"].word == "not at this scale", "50 % is no high accuracy to maintain"


@pytest.mark.parametrize("paper", papers())
def test_pages_are_up_to_date(paper):
    page = markdown(paper, [(r, replays_of(r, REPLAY)) for r in recipes_of(paper)])
    assert (REPLAY / f"{paper}.md").read_text() == page, "run: sparring recipe report"


def test_an_unknown_recipe_is_one_line_with_suggestions():
    with pytest.raises(SparringError, match="unknown recipe 'channels/tabel1'; did you mean channels/table"):
        load_recipe("channels/tabel1")
    with pytest.raises(SparringError, match="unknown paper 'channel'"):
        recipes_of("channel")
