"""Which candidates count, on tables of rows made by hand: the worst one, inside the ball, of whom one inherits; never the best."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest

from sparring.evaluation.records.rows import SCHEMA
from sparring.evaluation.results.cells import all_cells, own
from sparring.evaluation.results.closed import all_closed, closed, headline, strongest
from sparring.evaluation.results.contributions import contributions, optimality
from sparring.evaluation.results.stats import upper_bound
from sparring.evaluation.results.table import RowTable
from sparring.report.sections.worst_case import closed_table
from sparring.threats import threat

EPS = 0.1
POINT: dict[str, Any] = {
    "defense": "d", "threat": "adaptive", "attack": "a", "view": "default", "run": "r", "norm": "linf", "eps": EPS,
    "image": "i0", "y": 0, "random": False, "pooled": True, "averaged": False, "source_fooled": True, "feasible": True,
    "correct": True, "p_select": 1.0, "margin": -1.0, "k": 1, "draws": 1, "label": 0, "lattice": True, "k_8bit": 1,
    "label_8bit": 0, "k_truncated": 1, "linf": 0.1, "l2": 0.1, "l1": 0.1, "l0": 1.0, "forwards": 10, "backwards": 5,
}  # fmt: skip
CLEAN: dict[str, Any] = {
    "threat": "clean", "attack": "none", "view": "", "run": "clean", "eps": 0.0, "source_fooled": False,
    "linf": 0.0, "l2": 0.0, "l1": 0.0, "l0": 0.0, "forwards": 0, "backwards": 0,
}  # fmt: skip


def point(**changes: Any) -> dict[str, Any]:
    """A candidate of a deterministic system, right and in its ball; ``lost=True``: it fools, also on the lattice."""
    if changes.pop("lost", False):
        changes = {"correct": False, "p_select": 0.0, "margin": 1.0, "k": 0, "k_8bit": 0, "k_truncated": 0, **changes}
    if changes.get("random"):
        changes = {"draws": 20, "k": 20, "k_8bit": 20, "k_truncated": 20, **changes}
    blank = {f.name: "" if f.type == pa.string() else False if f.type == pa.bool_() else 0 for f in SCHEMA}
    return {**blank, **POINT, **changes}


def clean(**changes: Any) -> dict[str, Any]:
    return point(**{**CLEAN, **changes})


def table(*rows: dict[str, Any]) -> RowTable:
    facts = {r["threat"]: threat(r["threat"]).facts() for r in rows if r["threat"] != "clean"}
    return RowTable(pa.Table.from_pylist(list(rows), schema=SCHEMA), threats=facts)


def test_the_worst_candidate_counts_by_its_selection_draws_first():
    """Not by the margin, and not by the judge draws, which would pick the luckiest."""
    rows = table(
        clean(random=True),
        point(random=True, run="r1", p_select=0.2, margin=-5.0, k=8),
        point(random=True, run="r2", p_select=0.6, margin=9.0, k=4),
    )
    assert own(rows, "d", "adaptive", "a").robust_accuracy == 8 / 20
    assert closed(rows, "d", "adaptive", "linf", EPS).robust_accuracy == 8 / 20


def test_among_equals_the_one_nearest_to_being_lost_counts():
    """The margin is positive where the label is lost: the larger, the worse for the defense."""
    rows = table(
        clean(random=True, margin=-6.0),
        point(random=True, run="r1", margin=-4.0, k=17),
        point(random=True, run="r2", margin=-0.1, k=12),
        point(random=True, run="r3", margin=-2.0, k=14),
    )
    assert own(rows, "d", "adaptive", "a").robust_accuracy == 12 / 20
    assert closed(rows, "d", "adaptive", "linf", EPS).robust_accuracy == 12 / 20


def test_the_clean_image_is_always_a_candidate():
    """Wrong when clean is not robust, whatever attacks did to it: robust <= clean by construction."""
    rows = table(clean(lost=True), clean(image="i1"), point(), point(image="i1"))
    for found in (own(rows, "d", "adaptive", "a"), closed(rows, "d", "adaptive", "linf", EPS)):
        assert (found.n, found.clean_accuracy, found.robust_accuracy) == (2, 0.5, 0.5)


def test_images_whose_points_all_left_the_ball_still_count():
    rows = table(clean(), clean(image="i1"), point(feasible=False, linf=0.2, lost=True), point(image="i1", lost=True))
    for found in (own(rows, "d", "adaptive", "a"), closed(rows, "d", "adaptive", "linf", EPS)):
        assert (found.n, found.robust_accuracy) == (2, 0.5), "out of the ball is no success, and no missing image"


@pytest.mark.parametrize(("reach", "robust"), [(0.05, 0.0), (EPS, 0.0), (EPS + 1e-3, 1.0), (0.15, 1.0)])
def test_points_of_other_attacks_enter_a_ball_by_their_distance(reach, robust):
    rows = table(clean(), point(), point(attack="ddn", run="r2", eps=math.inf, linf=reach, lost=True))
    assert closed(rows, "d", "adaptive", "linf", EPS).robust_accuracy == robust


@pytest.mark.parametrize("flags", [{"pooled": False}, {"averaged": True}, {"pooled": False, "averaged": True}])
def test_diagnostic_and_averaged_points_stay_out_of_the_pool(flags):
    rows = table(clean(), point(), point(threat="twin", run="r2", lost=True, **flags))
    assert closed(rows, "d", "adaptive", "linf", EPS).robust_accuracy == 1
    assert (
        closed(
            table(clean(), point(), point(threat="twin", run="r2", lost=True)), "d", "adaptive", "linf", EPS
        ).robust_accuracy
        == 0
    )


def test_a_threat_inherits_the_points_of_those_it_dominates_and_no_others():
    lost_obliviously = table(clean(), point(), point(threat="oblivious", run="r2", lost=True))
    assert closed(lost_obliviously, "d", "adaptive", "linf", EPS).robust_accuracy == 0
    lost_adaptively = table(clean(), point(lost=True), point(threat="oblivious", run="r2"))
    assert closed(lost_adaptively, "d", "oblivious", "linf", EPS).robust_accuracy == 1


def test_the_same_threat_with_other_fields_is_another_one_except_for_adaptive():
    one, two = "transfer:source=0", "transfer:source=1"
    rows = table(clean(), point(threat=one), point(threat=two, run="r2", lost=True))
    assert closed(rows, "d", one, "linf", EPS).robust_accuracy == 1
    assert closed(rows, "d", two, "linf", EPS).robust_accuracy == 0
    rows = table(clean(), point(), point(threat="adaptive:draws=4", run="r2", lost=True))
    assert closed(rows, "d", "adaptive", "linf", EPS).robust_accuracy == 0


def test_on_the_lattice_any_witness_counts_for_a_deterministic_system_only():
    float_only = {"lost": True, "margin": 5.0, "k_8bit": 1, "k_truncated": 1}
    rows = table(clean(), point(**float_only), point(run="r2", lost=True, margin=1.0))
    for found in (own(rows, "d", "adaptive", "a"), closed(rows, "d", "adaptive", "linf", EPS)):
        assert found.robust_accuracy == found.robust_accuracy_8bit == 0
    chosen = {"random": True, "p_select": 0.1, "k": 2, "k_8bit": 3, "k_truncated": 4}
    rows = table(clean(random=True), point(**chosen), point(random=True, run="r2", p_select=0.5, k_8bit=1))
    found = own(rows, "d", "adaptive", "a")
    assert (found.robust_accuracy_8bit, found.robust_accuracy_truncated) == (3 / 20, 4 / 20)


def test_averaged_threats_report_the_mean_over_draws_of_the_worst_view():
    flags = {"threat": "known-w", "pooled": False, "averaged": True}
    rows = table(
        clean(),
        point(draw=0, view="default", run="r1", **flags),
        point(draw=0, view="other", run="r2", lost=True, **flags),
        point(draw=1, view="default", run="r3", **flags),
        point(draw=1, view="other", run="r4", **flags),
        point(draw=2, view="default", run="r5", **flags),
        point(draw=3, view="default", run="r6", lost=True, **flags),
    )
    assert own(rows, "d", "known-w", "a").robust_accuracy == 0.5
    assert all_closed(rows) == []


def test_a_cell_that_is_judged_elsewhere_has_its_own_clean_rows():
    """The bare classifier is wrong on image 0, the deployed system is not, and a system frozen at w=0 is on image 1."""
    bait, frozen = {"pooled": False, "judge": "bare"}, {"pooled": False, "judge": "w0"}
    rows = table(
        *(clean(image=i) for i in ("i0", "i1", "i2", "i3")),
        *(clean(image=i, attack="for bait", lost=i == "i0", **bait) for i in ("i0", "i1", "i2", "i3")),
        *(clean(image=i, attack="for fixed-w", lost=i in ("i0", "i1"), **frozen) for i in ("i0", "i1", "i2", "i3")),
        *(point(image=i, threat="bait", **bait) for i in ("i0", "i1", "i2", "i3")),
        *(point(image=i, threat="fixed-w", **frozen) for i in ("i0", "i1", "i2", "i3")),
    )
    for kind, robust in (("bait", 0.75), ("fixed-w", 0.5)):
        found = own(rows, "d", kind, "a")
        assert (found.n, found.clean_accuracy, found.robust_accuracy) == (4, 1.0, robust)


def test_a_closed_result_compares_with_its_own_points_and_the_undefended_network():
    base = {"defense": "none"}
    rows = table(
        *(clean(image=i) for i in "abcd"),
        *(clean(image=i, **base) for i in "abcd"),
        *(point(image=i) for i in "abcd"),
        *(point(image=i, threat="oblivious", run="r2", lost=i in "ab") for i in "abcd"),
        *(point(image=i, lost=i in "abc", **base) for i in "abcd"),
    )
    found = closed(rows, "d", "adaptive", "linf", EPS)
    assert (found.robust_accuracy, found.own_accuracy, found.gap, found.undefended) == (0.5, 1.0, 0.5, 0.25)
    assert found.upper == upper_bound(2, 4)
    assert found.attacks == 2
    best = strongest([closed(rows, "d", t, "linf", EPS) for t in ("oblivious", "adaptive", "oblivious")])
    assert [r.threat for r in best] == ["adaptive"]


def test_a_persistent_attacker_resubmits_the_chosen_point():
    rows = table(clean(random=True), point(random=True, p_select=0.4, k=8))
    assert closed(rows, "d", "adaptive", "linf", EPS).persistent_10 == 0
    assert closed(table(clean(random=True), point(random=True)), "d", "adaptive", "linf", EPS).persistent_10 == 1


def test_a_cells_costs_are_sums_over_its_views_and_its_norm_is_of_what_fooled_its_source():
    rows = table(
        *(clean(image=i) for i in "ab"),
        *(point(image=i, view="one", forwards=10, backwards=4, linf=0.02) for i in "ab"),
        *(point(image=i, view="two", run="r2", forwards=30, backwards=6, linf=0.09, source_fooled=False) for i in "ab"),
    )
    (cell,) = all_cells(rows)
    assert (cell.forwards_per_image, cell.backwards_per_image) == (40, 10)
    assert cell.median_norm == 0.02
    assert cell.source_fooled == 0.5


def test_an_unbounded_attack_alone_is_no_robustness():
    """It was announced as a robust accuracy of at most 0.0 % with a lattice number of 97.5 %."""
    rows = table(clean(), point(lost=True, eps=math.inf, k_8bit=1, label_8bit=0))
    (result,) = all_closed(rows)
    said = headline(result, "quick")
    assert "leaves 0.0 % right under T = {adaptive, linf unbounded, untargeted} (n=1)" in said
    assert "no robust accuracy" in said
    assert "lattice" not in said
    assert "at most" not in said
    shown = closed_table([result])
    assert "no robustness" in shown.title
    assert shown.rows[0][shown.columns.index("8-bit")].text == "-"
    bounded = closed(table(clean(), point(lost=True)), "d", "adaptive", "linf", EPS)
    assert "robust accuracy under" in headline(bounded, "quick")
    assert "no robustness" not in closed_table([bounded]).title


def test_what_each_attack_adds_is_counted_over_images_that_are_right_when_clean():
    """i0 falls to both and most to b, i1 to a alone, i2 to nobody, i3 is wrong anyway; b never looked at i2."""
    images = [clean(image=f"i{i}") for i in range(3)] + [clean(image="i3", correct=False, k=0, p_select=0.0)]
    own_points = [
        point(image="i0", lost=True, margin=1.0),
        point(image="i1", lost=True),
        point(image="i2"),
        point(image="i3", lost=True),
        point(image="i0", attack="b", run="q", lost=True, margin=2.0, forwards=3, backwards=0),
        point(image="i1", attack="b", run="q", forwards=5, backwards=0),
    ]
    a, b = contributions(table(*images, *own_points))
    assert (a.n, a.broken, a.alone, a.worst, a.calls) == (3, 2, None, 1, 15), (
        "nobody knows what b would have done to i2"
    )
    assert (b.n, b.broken, b.alone, b.worst, b.calls) == (2, 1, 0, 1, 4)
    assert math.isnan(a.optimality)


def test_without_a_budget_the_nearest_point_is_the_pools():
    endless = {"eps": math.inf, "norm": "l2"}
    sizes = {"a": [1.0, 3.0, 4.0], "b": [2.0, 2.0, None]}
    points = [
        point(attack=attack, run=attack, image=f"i{i}", l2=size or 9.0, lost=size is not None, **endless)
        for attack, each in sizes.items()
        for i, size in enumerate(each)
    ]
    a, b = contributions(table(*(clean(image=f"i{i}") for i in range(3)), *points))
    assert (a.worst, a.alone, b.worst, b.alone) == (2, 1, 1, 0)
    assert (a.optimality, b.optimality) == pytest.approx((4 / 5, 4 / 5))


def test_of_an_attacks_views_the_nearest_point_is_its_own():
    """The view of the worst margin lay far away, and was taken for the attack's distance."""
    endless = {"eps": math.inf, "norm": "l2", "lost": True, "image": "i0"}
    near = point(attack="a", run="r1", view="x", l2=1.0, margin=0.1, **endless)
    far = point(attack="a", run="r2", view="y", l2=9.0, margin=5.0, **endless)
    a, b = contributions(table(clean(), near, far, point(attack="b", run="q", l2=2.0, **endless)))
    assert (a.worst, b.worst) == (1, 0)


def test_one_attack_by_itself_adds_to_nobody():
    assert contributions(table(clean(), point(lost=True))) == []


def test_optimality_is_the_area_above_a_curve_in_shares_of_the_best_ones():
    """Best distances 1, 2 and 4: the areas up to 4 are 3, 2 and 0. The first attack finds the second at 3: 3 + 1 of 5; a failure counts as 4."""
    never = math.inf
    shares = optimality([[1.0, 3.0, 4.0], [1.0, 2.0, 4.0], [never, 2.0, never], [never, never, never]])
    assert shares == pytest.approx([4 / 5, 1.0, 2 / 5, 0.0])
    assert optimality([[never, never], [never, never]]) == [1.0, 1.0], "nobody finds anything: all are as near"
