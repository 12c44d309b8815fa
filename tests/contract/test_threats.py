"""What every registered threat must do. The null control (PROTOCOL B4): a coin-flip defense is reported as a coin flip."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparring.attacks.attack import attack
from sparring.core.errors import SparringError
from sparring.core.noise import image_keys
from sparring.core.registry import THREATS
from sparring.core.victim import Access
from sparring.data.images import ImageSet
from sparring.defenses.base import Defended, defense
from sparring.evaluation.checks.controls import CLASSES, coin_system, linear_net
from sparring.evaluation.judge import Judge
from sparring.evaluation.plan import make_plan
from sparring.evaluation.results import RowTable, all_cells, all_closed
from sparring.evaluation.ring import Ring
from sparring.evaluation.store import Store, read_rows
from sparring.models.classifier import Classifier
from sparring.models.prepare import Prepared
from sparring.subject import Subject
from sparring.threats import Options, threat


def ring_results(system: Defended, x, y, threats, attacks, tmp_path, others=()):
    """Cells and closed results of one system, through the real ring, judge and store."""
    images = ImageSet.of(x, y)
    model = Classifier(nn.Identity().eval())
    made = Subject(
        model,
        Prepared(nn.Identity(), 0, 0.0, ""),
        images,
        {"none": system.drop(), system.name: system},
        list(others),
        CLASSES,
        {},
        image_keys(images.ids),
    )
    plan = make_plan(
        made.systems,
        threats,
        attacks,
        others=others,
        options=Options(draws=4),
        judge=Judge(10, 20),
        seed=0,
        data_hash=images.hash,
        classes=CLASSES,
        values=images.x[0].numel(),
    )
    Ring(made, plan, Store(tmp_path / "run", {}), 64, 128, None).run()
    rows = RowTable(read_rows(tmp_path / "run"), threats={t: threat(t).facts() for t in threats})
    return all_cells(rows), all_closed(rows)


@pytest.mark.parametrize("name", list(THREATS))
@pytest.mark.parametrize("eps", [0.0, 8 / 255])
@pytest.mark.slow
def test_bugs_14_15_a_coin_flip_is_reported_as_080_by_every_threat(name, eps, tmp_path):
    """A lucky draw must not end an attack, and a lucky iterate must not count: 0.80 at eps 0 and at eps 8/255."""
    system, x, y = coin_system(0.8)
    others = [Defended(system.network if name == "twin" else linear_net(seed=7), id="other")]
    text = {"noise": "noise:draws=5", "score": "score:queries=40", "decision": "decision:queries=100"}.get(name, name)
    specs = {
        "noise": [f"noise:eps={eps}"],
        "score": [f"square:steps=20,eps={eps}"],
        "decision": [f"boundary:queries=100,tries=2,eps={eps}"],
    }.get(name, [f"pgd:eps={eps},steps=4", f"fgsm:eps={eps}"])
    attacks = [attack(a) for a in specs]
    cells, closed = ring_results(system, x, y, [text], attacks, tmp_path, others)
    mine = [c for c in cells if c.defense == "coin"]
    assert mine
    for c in mine:
        if name == "bait":  # judged with the coin removed: the classifier alone is always right
            assert c.robust_accuracy == 1.0
        else:
            assert c.ci_low <= 0.8 <= c.ci_high, f"{c.attack}: {c.robust_accuracy} in [{c.ci_low}, {c.ci_high}]"
            assert abs(c.robust_accuracy - 0.8) < 0.03
    for c in closed:
        if c.defense == "coin":
            assert c.ci_low <= 0.8 <= c.ci_high


@pytest.mark.parametrize("name", list(THREATS))
def test_seats_name_their_source_and_grant_one_access(name):
    base = Defended(linear_net(), id="a")
    system = defense("cd:bits=3+gauss:std=0.1").install(base)
    seat = threat(name).seat(system, [Defended(linear_net(seed=1), id="b")])
    assert seat.views
    assert all(v.victim.access == seat.access for v in seat.views)
    assert seat.source
    assert THREATS[name].__doc__


def test_what_each_source_sees():
    base = Defended(linear_net(), id="a")
    system = defense("cd:bits=3+gauss:std=0.1").install(base)
    other = [Defended(linear_net(seed=1), id="b")]
    seen = {n: threat(n).seat(system, other) for n in THREATS}
    parts = {n: [p.name for p in s.views[0].victim.systems[0].parts] for n, s in seen.items()}
    assert parts["oblivious"] == []
    assert parts["bait"] == ["cd", "gauss"]
    assert [p.name for p in seen["bait"].judge.parts] == []
    assert parts["transfer"] == []
    assert seen["transfer"].views[0].victim.systems[0].id != seen["oblivious"].views[0].victim.systems[0].id
    assert {p.backward for p in seen["white-exact"].views[0].victim.systems[0].parts} == {"exact"}
    assert {p.backward for p in seen["white-identity"].views[0].victim.systems[0].parts} == {"identity"}
    assert seen["white-exact"].views[0].victim.draws == 1
    assert seen["adaptive"].views[0].victim.draws == 8
    assert seen["fixed-w"].judge.frozen == 0
    assert [v.judge.frozen for v in seen["known-w"].views[:2] if v.judge] == [0, 0]
    assert seen["decision"].views[0].victim.answers == 5
    assert (seen["score"].access, seen["decision"].access) == (Access.SCORES, Access.LABEL)
    for name, seat in seen.items():
        assert seat.stop == ("success" if name in ("fixed-w", "known-w") else "never"), (
            f"{name}: no early stop on a random or foreign target"
        )
        if name not in ("bait", "fixed-w"):
            assert [p.name for p in seat.judge.parts] == ["cd", "gauss"]
            assert all(p.backward is not None for p in seat.judge.parts)


def test_adaptive_offers_every_declared_variant_and_both_objectives():
    base = Defended(linear_net(), id="a")
    deterministic = threat("adaptive").seat(defense("cd:bits=3").install(base))
    assert [v.name for v in deterministic.views] == ["default", "cd=staircase10", "cd=staircase50", "cd=levels"]
    assert deterministic.stop == "success"
    random = threat("adaptive").seat(defense("gauss:std=0.1").install(base))
    assert [v.victim.combine for v in random.views] == ["probs", "loss"]
    logits = threat("adaptive").seat(defense("gauss:std=0.1+mean-logit:samples=4").install(base))
    assert [v.victim.combine for v in logits.views] == ["logits", "loss"]
    vote = threat("adaptive").seat(defense("gauss:std=0.1+vote:samples=32").install(base))
    assert vote.views[0].victim.draws == 32, "a vote is attacked with at least as many draws as it has"


def test_dominance_is_transitive_and_ready_for_what_is_to_come():
    assert THREATS["adaptive"].dominated >= {
        "oblivious",
        "transfer",
        "white-exact",
        "white-identity",
        "score",
        "decision",
        "twin",
    }
    assert "adaptive" in THREATS["known-w"].dominated
    assert THREATS["oblivious"].dominated == {"oblivious"}
    assert "bait" not in THREATS["adaptive"].dominated


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("transfer", "pass --sources"),
        ("transfer:mode=sum", "logits | probs | loss"),
        ("obvious", "did you mean oblivious"),
        ("adaptive:n=3", "unknown field 'n'"),
    ],
)
def test_bad_threats_say_what_is_wrong(text, says):
    from sparring.core.errors import SparringError

    with pytest.raises(SparringError) as error:
        threat(text).seat(Defended(linear_net(), id="a"))
    assert says in str(error.value)


def test_a_source_with_the_targets_weights_is_no_transfer():
    from sparring.core.errors import SparringError

    base = Defended(linear_net(), id="a")
    with pytest.raises(SparringError, match="same weights"):
        threat("transfer").seat(base, [base])


def test_access_rules_are_decided_before_any_compute():
    base = Defended(linear_net(), id="a")
    plan = make_plan(
        {"none": base},
        ["noise", "oblivious"],
        [attack("pgd:eps=0.1"), attack("noise:eps=0.1")],
        judge=Judge(),
        seed=0,
        data_hash="",
        classes=4,
        values=192,
    )
    assert {(str(c.threat), c.attack.name) for c in plan.cells} == {("noise", "noise"), ("oblivious", "pgd")}
    assert {s.reason for s in plan.skipped} == {
        "pgd needs GRADIENT access, the threat noise grants NONE",
        "noise asks nothing: it belongs in the noise threat",
    }
    assert Access.NONE < Access.LABEL < Access.SCORES < Access.GRADIENT


def test_oblivious_points_are_made_once_for_all_defenses():
    base = Defended(linear_net(), id="a")
    systems = {s: defense(s).install(base) for s in ("none", "cd:bits=3", "gauss:std=0.1")}
    plan = make_plan(
        systems, ["oblivious"], [attack("pgd:eps=0.1")], judge=Judge(), seed=0, data_hash="", classes=4, values=192
    )
    assert len(plan.cells) == 3
    assert len(plan.runs) == 1


def test_twins_must_be_twins():
    base, strange = Defended(linear_net(), id="a"), Defended(linear_net(classes=CLASSES + 1), id="b")
    twin_of = Defended(linear_net(seed=3), id="c")
    seat = threat("twin").seat(defense("cd:bits=3").install(base), [twin_of])
    assert [p.name for p in seat.views[0].victim.systems[0].parts] == ["cd"], "the twin stands behind the same defense"
    assert seat.views[0].victim.systems[0].network is twin_of.network
    for others, says in (([], "--sources"), ([strange], "architecture"), ([base], "same weights")):
        with pytest.raises(SparringError, match=says):
            threat("twin").seat(base, others)
    with pytest.raises(SparringError, match="same masks"):
        threat("twin:phi=new").seat(*_masked(0, 0))
    assert threat("twin:phi=new").seat(*_masked(0, 1)).views
    assert threat("twin").seat(*_masked(0, 0)).views
    with pytest.raises(SparringError, match="other masks"):
        threat("twin").seat(*_masked(0, 1))


def _masked(mine: int, theirs: int) -> tuple[Defended, list[Defended]]:
    nets = []
    for seed, bit in ((0, mine), (1, theirs)):
        net = linear_net(seed=seed)
        net.register_buffer("mask", torch.tensor([float(bit)]))
        nets.append(net)
    return Defended(nets[0], id="a"), [Defended(nets[1], id="b")]
