"""Claims of every kind in closed form: counts whose bounds are known, and what each verdict needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from sparring.core.errors import SparringError
from sparring.evaluation.results.stats import lower_bound, upper_bound
from sparring.recipes.bounds import Discordant, difference, holm
from sparring.recipes.judging import agreement, judge
from sparring.recipes.numbers import Number, PerImage, Replay
from sparring.recipes.recipe import Recipe

ROWS, COLUMNS = ("a", "b", "c"), ("x", "y", "z")


def share(right: int, n: int = 100, labels: Sequence[str] = ("a", "x"), **more) -> Number:
    """The first ``right`` of n images are right."""
    top = (np.arange(n) < right).astype(float)
    column = PerImage(top, np.ones(n), top > 0.5, more.pop("kind", "share"), False)
    about = {"seat": "paper", "seed": 0, "threat": "t", "attack": "k", "images": f"of{n}", **more}
    return Number(tuple(labels), columns=(column,), scale=100.0, value=100 * right / n, **about)


def table(rights: Sequence[Sequence[int]], n: int = 100, **more) -> list[Number]:
    return [
        share(right, n, (r, c), **more)
        for r, line in zip(ROWS, rights, strict=False)
        for c, right in zip(COLUMNS, line, strict=False)
    ]


def recipe(*claims: dict, missing: str = "") -> Recipe:
    axes = {"row": dict.fromkeys(ROWS, ""), "column": dict.fromkeys(COLUMNS, "")}
    content = {
        "id": "p/t",
        "title": "t",
        "status": "A",
        "missing": missing or "(closed form)",
        "axes": axes,
        "published": {"axes": ["row", "column"]},
        "claim": [{"id": f"c{i}", "text": "t", **claim} for i, claim in enumerate(claims)],
    }
    made = Recipe.model_validate(content)
    made.check()
    return made.model_copy(update={"missing": missing})


def word(claim: dict, numbers: list[Number], missing: str = "") -> str:
    return judge(recipe(claim, missing=missing), numbers)[0].word


A, B = {"row": "a", "column": "x"}, {"row": "b", "column": "x"}


@pytest.mark.parametrize(
    ("claim", "rights", "expected"),
    [
        ({"test": "at_most", "a": A, "value": 5}, [[0]], "reproduced"),  # U(0 of 100) = 2.95
        ({"test": "at_most", "a": A, "value": 2.9}, [[0]], "undecided"),
        ({"test": "at_most", "a": A, "value": 5}, [[20]], "contradicted"),  # L(20 of 100) = 13.7
        ({"test": "at_least", "a": A, "value": 85}, [[95]], "reproduced"),
        ({"test": "at_least", "a": A, "value": 95}, [[95]], "undecided"),
        ({"test": "at_least", "a": A, "value": 99}, [[90]], "contradicted"),
        ({"test": "above", "a": A, "b": B}, [[60], [40]], "reproduced"),
        ({"test": "above", "a": A, "b": B}, [[41], [40]], "undecided"),
        ({"test": "above", "a": A, "b": B}, [[40], [60]], "contradicted"),
        ({"test": "above", "a": A, "b": B, "margin": 10}, [[60], [40]], "reproduced"),
        ({"test": "above", "a": A, "b": B, "margin": 30}, [[60], [40]], "contradicted"),
        ({"test": "above", "a": A, "b": B, "factor": 2}, [[80], [20]], "reproduced"),
        ({"test": "above", "a": A, "b": B, "factor": 2}, [[60], [50]], "contradicted"),
        ({"test": "within", "a": A, "b": B, "margin": 5}, [[40], [40]], "reproduced"),  # 0 of 100 differ: +-2.95
        ({"test": "within", "a": A, "b": B, "margin": 2}, [[40], [40]], "undecided"),
        ({"test": "within", "a": A, "b": B, "margin": 5}, [[40], [70]], "contradicted"),
        ({"test": "within", "a": A, "value": 50, "margin": 15}, [[50]], "reproduced"),  # L, U (50 of 100) = 41.4, 58.6
        ({"test": "within", "a": A, "value": 50, "margin": 5}, [[50]], "undecided"),
        ({"test": "within", "a": A, "value": 30, "margin": 5}, [[50]], "contradicted"),
        ({"test": "within", "a": A, "value": 70, "margin": 5}, [[50]], "contradicted"),
        (
            {"test": "order", "along": "row", "labels": ["c", "a", "b"], "a": {"column": "x"}},
            [[40], [10], [80]],
            "reproduced",
        ),
        (
            {"test": "order", "along": "row", "labels": ["a", "b", "c"], "a": {"column": "x"}},
            [[40], [10], [80]],
            "contradicted",
        ),
        (
            {"test": "order", "along": "row", "labels": ["a", "b", "c"], "a": {"column": "x"}},
            [[80], [40], [39]],
            "undecided",
        ),
        ({"test": "monotone", "along": "column", "direction": "down", "a": {"row": "a"}}, [[90, 89, 50]], "reproduced"),
        ({"test": "monotone", "along": "column", "direction": "up", "a": {"row": "a"}}, [[90, 89, 50]], "contradicted"),
        (
            {"test": "monotone", "along": "column", "direction": "down", "a": {"row": "a"}},
            [[90, 20, 50]],
            "contradicted",
        ),
        ({"test": "monotone", "along": "column", "direction": "down", "a": {"row": "a"}}, [[90, 90, 90]], "undecided"),
        # 5 of 5 pairs the other way: p = 1/32 is below 5 %, and not below a third of it
        ({"test": "monotone", "along": "column", "direction": "down", "a": {"row": "a"}}, [[90, 95, 50]], "undecided"),
        ({"test": "monotone", "along": "column", "direction": "up", "a": {"row": "a"}}, [[50, 95, 90]], "undecided"),
        ({"test": "argmax", "along": "column", "labels": ["y"], "a": {"row": "a"}}, [[10, 60, 20]], "reproduced"),
        ({"test": "argmax", "along": "column", "labels": ["x", "y"], "a": {"row": "a"}}, [[10, 60, 20]], "reproduced"),
        (
            {"test": "argmax", "along": "column", "labels": ["x", "z"], "a": {"row": "a"}},
            [[10, 60, 20]],
            "contradicted",
        ),
        ({"test": "argmax", "along": "column", "labels": ["y"], "a": {"row": "a"}}, [[60, 60, 20]], "undecided"),
    ],
)
def test_each_kind_has_its_verdicts(claim, rights, expected):
    assert word(claim, table(rights)) == expected


def test_a_count_is_exact_on_both_sides():
    """Three is three, four is not, two is not."""
    for count, expected in ((3, "reproduced"), (4, "contradicted"), (2, "contradicted")):
        counted = Number(("a", "x"), "paper", 0, "", "", "", (), 1.0, count, exact=True)
        assert word({"test": "within", "a": A, "value": 3, "margin": 0.5}, [counted]) == expected


def test_a_value_beside_b_is_refused():
    for claim in ({"test": "within", "b": B}, {"test": "above"}):
        with pytest.raises(SparringError, match="value is beside b"):
            recipe({**claim, "a": A, "value": 5})


def test_a_claim_goes_through_what_it_does_not_name():
    """above on every row: one row the other way contradicts it, one that is near leaves it open."""
    claim = {"test": "above", "a": {"column": "x"}, "b": {"column": "y"}}
    assert word(claim, table([[60, 20], [70, 20], [80, 20]])) == "reproduced"
    fast = {**claim, "among": {"row": ["a", "b"]}}
    assert word(fast, table([[60, 20], [70, 20]])) == "reproduced"
    assert word(fast, table([[60, 20], [21, 20]])) == "undecided"
    assert word(fast, table([[60, 20], [20, 70]])) == "contradicted"


def test_a_mean_over_an_axis_leaves_cells_out_that_are_alike():
    axes = {"row": ["x", "y"], "column": ["x", "y"]}
    numbers = [
        share(k, labels=labels) for labels, k in {("x", "x"): 0, ("x", "y"): 80, ("y", "x"): 40, ("y", "y"): 0}.items()
    ]
    claim = {"test": "above", "a": {"row": "x"}, "b": {"row": "y"}, "over": ["column"], "unlike": ["row", "column"]}
    content = recipe().model_dump(by_alias=True) | {
        "axes": {k: dict.fromkeys(v, "") for k, v in axes.items()},
        "claim": [{"id": "c", "text": "t", **claim}],
        "scale": {},
    }
    (verdict,) = judge(Recipe.model_validate(content), numbers)
    assert verdict.word == "reproduced"
    assert "= 40 [" in verdict.comparisons[0], "80 - 40, not 40 - 20"


def test_a_cell_that_is_not_there_is_never_taken_as_agreement():
    claim = {"test": "above", "a": {"column": "x"}, "b": {"column": "y"}}
    (verdict,) = judge(recipe(claim), table([[60, 20]]))
    assert verdict.word == "not at this scale"
    assert "1 of 3 comparisons hold" in verdict.why
    assert word(claim, []) == "not at this scale"
    assert word({"test": "at_most", "a": A, "value": 5}, []) == "not at this scale"
    assert (
        word({"test": "argmax", "along": "column", "labels": ["y"], "a": {"row": "a"}}, table([[10, 60]]))
        == "not at this scale"
    )


def test_no_cell_may_be_missing_from_an_average():
    claim = {"test": "at_least", "over": ["column"], "a": {"row": "a"}, "value": 1}
    assert word(claim, table([[60, 20]])) == "not at this scale"
    assert word(claim, table([[60, 20, 30]])) == "reproduced"


def test_a_precondition_comes_first():
    needs = {"cells": {"row": "a", "column": "x"}, "at_least": 85.0}
    claim = {"test": "above", "a": {"row": "b", "column": "x"}, "b": {"row": "c", "column": "x"}, "needs": needs}
    assert word(claim, table([[84], [60], [10]])) == "not at this scale"
    assert word(claim, table([[86], [60], [10]])) == "reproduced"


def test_lost_and_missing_are_said_not_guessed():
    assert word({"test": "at_least", "a": A, "value": "lost"}, table([[90]])) == "lost"
    assert word({"test": "at_least", "a": A, "value": 5, "missing": "a net"}, table([[90]])) == "missing"
    assert word({"test": "at_least", "a": A, "value": 5}, table([[90]]), missing="all of it") == "missing"


def test_the_same_predicate_is_judged_under_who_knows_the_defense():
    claim = {"test": "at_least", "a": A, "value": 50}
    verdicts = judge(recipe(claim), [*table([[90]]), *table([[0]], seat="adaptive")])
    assert [(v.seat, v.word) for v in verdicts] == [("paper", "reproduced"), ("adaptive", "contradicted")]


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize(
    "claim",
    [
        {"test": "above", "a": A, "b": B},
        {"test": "above", "a": A, "b": B, "margin": -5},
        {"test": "above", "a": A, "b": B, "factor": 2},
        {"test": "within", "a": A, "b": B, "margin": 5},
        {"test": "order", "along": "row", "labels": ["a", "b"], "a": {"column": "x"}},
        {"test": "argmax", "along": "row", "labels": ["a"], "a": {"column": "x"}, "among": {"row": ["a", "b"]}},
        {"test": "monotone", "along": "row", "a": {"column": "x"}, "among": {"row": ["a", "b"]}},
    ],
)
def test_no_difference_among_twenty_images_proves_nothing_under_adaptive(claim, columns, seeds):
    """Nor where the number is the mean of several attacks, nor where three seeds agree to rounding: t would then be certain."""
    numbers = [n for seat in ("paper", "adaptive") for n in table([[0], [0]], n=20, seat=seat)]
    noisy = [
        replace(n, seed=seed, value=seed * 1e-14 * (n.labels[0] == "a"), columns=n.columns * columns)
        for n in numbers
        for seed in range(seeds)
    ]
    words = {v.seat: v.word for v in judge(recipe(claim), noisy)}
    assert words == {"paper": "undecided", "adaptive": "undecided"}


def test_a_claim_about_who_knows_the_defense_is_judged_there_alone():
    claim = {"test": "at_most", "a": A, "value": 5, "ours": True, "seat": "adaptive"}
    (verdict,) = judge(recipe(claim), [*table([[90]]), *table([[0]], seat="adaptive")])
    assert (verdict.seat, verdict.word, verdict.counts) == ("adaptive", "reproduced", True)
    (unmade,) = judge(recipe(claim), table([[0]]))
    assert unmade.word == "not at this scale"


def test_seeds_are_a_sample_of_trainings():
    """Ten points in each of 1000 images is certain for one network, and an accident of training where seeds differ as much."""
    claim = {"test": "above", "a": A, "b": B}
    pairs = [(600, 500), (500, 590), (610, 500)]
    one = [n for s, (x, y) in enumerate(pairs[:1]) for n in table([[x], [y]], n=1000, seed=s)]
    three = [n for s, (x, y) in enumerate(pairs) for n in table([[x], [y]], n=1000, seed=s)]
    alike = [n for s, x in enumerate((600, 610, 605)) for n in table([[x], [500]], n=1000, seed=s)]
    assert [word(claim, numbers) for numbers in (one, three, alike)] == ["reproduced", "undecided", "reproduced"]


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]
    assert holm([0.05]) == [True]
    assert holm([0.051, 0.001]) == [False, True]


def test_a_family_is_tested_together():
    """Eight images won and none lost is enough alone, and not beside sixty comparisons that hold nothing."""
    alone = {"test": "above", "a": A, "b": B}
    numbers = table([[48], [40]])
    assert word(alone, numbers) == "reproduced"
    others = [{"test": "above", "a": A, "b": A | {"row": "c"}, "family": "f"} for _ in range(60)]
    family = judge(recipe(alone | {"family": "f"}, *others), [*numbers, share(48, labels=("c", "x"))])
    assert family[0].word == "undecided"


def test_bounds_are_those_of_the_counts():
    bounds = difference([share(3)], [])
    assert bounds.high(0.95) == pytest.approx(100 * upper_bound(3, 100))
    assert bounds.low(0.99) == pytest.approx(100 * lower_bound(3, 100, 0.99))
    assert bounds.p_above(2) > 0.05 > bounds.p_below(20)


def test_a_bootstrap_is_never_certain_of_nothing():
    """Ratios of two networks that agree on all images differ by 0, but 30 images do not prove it."""
    same = [share(20, 30, labels=(r, "x"), kind="ratio") for r in "ab"]
    bounds = difference(same[:1], same[1:])
    assert bounds.value == 0
    for level in (0.95, 0.99, 0.999):
        assert bounds.high(level) >= 100 * upper_bound(0, 30, level), "at each level of Holm's test, not at 95 % alone"
    assert bounds.p_below(100 * upper_bound(0, 30, 0.99)) == pytest.approx(0.01, rel=1e-3)


def test_pairs_are_of_the_same_images():
    """The same counts on other images are no pair: their difference is wider."""
    paired = difference([share(60)], [share(50, labels=("b", "x"))])
    apart = difference([share(60)], [share(50, labels=("b", "x"), images="others")])
    assert paired.high(0.95) - paired.low(0.95) < (apart.high(0.95) - apart.low(0.95)) / 1.4
    assert apart.how == "bootstrap over images"


def test_a_number_without_images_proves_nothing_unless_it_is_exact():
    panel = [Number((r, "x"), "paper", 0, "", "", "", (), 1.0, v) for r, v in (("a", 3.0), ("b", 1.0))]
    exact = [Number((r, "x"), "paper", 0, "", "", "", (), 1.0, v, True) for r, v in (("a", 3.0), ("b", 1.0))]
    claim = {"test": "above", "a": A, "b": B}
    assert (word(claim, panel), word(claim, exact)) == ("undecided", "reproduced")
    assert word(claim | {"margin": 2}, exact) == "undecided", "3 is not above 1 by more than 2"


def test_undecided_says_how_many_images_would_settle_it():
    (verdict,) = judge(recipe({"test": "above", "a": A, "b": B}), table([[42], [40]]))
    assert verdict.word == "undecided"
    assert "about 286 images would settle it" in verdict.why


def test_a_monotone_claim_names_the_pair_that_goes_the_other_way():
    """Also one that are no neighbors: 60, 57, 55, 90 falls by 5 from the first to the third, and by less in each step."""
    claim = {"test": "monotone", "along": "column", "a": {"row": "a"}}
    (verdict,) = judge(recipe(claim), table([[90, 95, 50]][:1]))
    assert verdict.word == "contradicted"
    (verdict,) = judge(recipe({**claim, "direction": "down"}), table([[90, 95, 50]]))
    assert "1 of 1 comparisons hold; the other way: x - y at a = -5 [" in verdict.why
    row = {"a": dict(zip("xyzw", (60, 59, 55, 90), strict=True))}
    content = recipe(claim).model_dump(by_alias=True) | {
        "axes": {"row": {"a": ""}, "column": dict.fromkeys("xyzw", "")}
    }
    numbers = [share(k, labels=("a", c)) for c, k in row["a"].items()]
    (verdict,) = judge(Recipe.model_validate(content | {"scale": {}}), numbers)
    assert verdict.word == "undecided"
    assert "the other way: z - x at a = -5 [" in verdict.why


@pytest.mark.parametrize("pairs", [3, 4, 5, 6, 8])
def test_a_paired_difference_is_above_zero_only_where_the_sign_test_says_so(pairs):
    """All of the images differ the same way: the exact one-sided p is a half to their number."""
    bounds = difference([share(pairs, pairs)], [share(0, pairs, labels=("b", "x"))])
    assert bounds.how == "paired"
    assert bounds.p_above(0) >= 0.5**pairs - 1e-12
    assert bounds.p_above(10) >= bounds.p_above(0), "what is above ten is above zero"
    swapped = difference([share(0, pairs)], [share(pairs, pairs, labels=("b", "x"))])
    assert swapped.p_below(0) == bounds.p_above(0)


def test_five_pairs_of_five_do_not_pass_a_third_of_five_percent():
    """The joined bound says [0.36, 1]; the exact p is 1/32, and of six pairs 1/64."""
    claims = [{"test": "above", "a": A, "b": B, "family": "f"} for _ in range(3)]
    for pairs, expected in ((5, "undecided"), (6, "reproduced")):
        verdict = judge(recipe(*claims), table([[pairs], [0]], n=pairs))[0]
        assert verdict.word == expected
        assert "about 6 images would settle it" in verdict.why or expected == "reproduced"


def test_the_sign_test_is_binomial():
    assert Discordant(5, 0).p == pytest.approx(1 / 32)
    assert Discordant(4, 1).p == pytest.approx(6 / 32)
    assert Discordant(0, 0).p == 1
    assert Discordant(1, 0).growth(0.95) == 5, "5 of 5 is the least that is below 5 %"
    assert Discordant(2, 2).growth(0.95) == np.inf


@pytest.mark.parametrize(
    ("claim", "rights"),
    [
        ({"test": "at_most", "value": 5}, [[0]]),
        ({"test": "at_least", "value": 95}, [[20]]),
        ({"test": "within", "b": B, "margin": 5}, [[10], [10]]),
    ],
)
def test_of_none_or_all_of_n_the_bound_shrinks_as_one_over_n(claim, rights):
    """0 of 58 has a bound above 5 %, 0 of 59 below; of two comparisons at half the level 71 and 72. By a square root it were 154."""
    (verdict,) = judge(recipe({"a": A, **claim}), table(rights, n=20))
    least = 72 if claim["test"] == "within" else 59
    level = 1 - 0.05 / (2 if claim["test"] == "within" else 1)
    assert upper_bound(0, least, level) < 0.05 < upper_bound(0, least - 1, level)
    assert verdict.word == "undecided"
    assert f"about {least} images would settle it" in verdict.why


def test_an_estimate_on_the_threshold_names_no_number():
    (verdict,) = judge(recipe({"test": "above", "a": A, "b": B}), table([[40], [40]]))
    assert "it stands on the threshold: no number of images can be named" in verdict.why


def test_numbers_are_compared_at_the_papers_scale_alone():
    """90 of 100 is near 92 and 95 (intervals overlap), not near 84; 90 of 10,000 published images is not near 95 of as many."""
    published = {"a": {"x": 92, "y": 84, "z": "lost"}, "b": {"x": 95}}
    content = recipe().model_dump(by_alias=True) | {
        "scale": {},
        "published": {"axes": ["row", "column"], "n": 10_000, "values": published},
    }
    chosen = Recipe.model_validate(content)
    numbers = [share(90, labels=("a", c)) for c in COLUMNS] + [share(9000, 10_000, labels=("b", "x"))]
    said = agreement(chosen, Replay("p/t", "paper", {}, tuple(numbers), {}))
    assert said == "1 of 3 numbers are within 5 of the published ones; not a/y, b/x."
    with pytest.raises(ValueError, match="paper's scale only"):
        agreement(chosen, Replay("p/t", "small", {}, tuple(numbers), {}))


def test_what_would_settle_a_family_is_more_than_what_is_there():
    """An estimate that would do alone is open among many: more images than it has are needed."""
    claims = [{"test": "above", "a": A, "b": B, "family": "f"} for _ in range(60)]
    verdict = judge(recipe(*claims), table([[48], [40]]))[0]
    assert verdict.word == "undecided"
    assert int(verdict.why.split("about ")[1].split()[0]) > 100
