"""Every registered threat keeps the contract in ``sparring.testing``; what each of ours means in particular stands here."""

from __future__ import annotations

import pytest
import torch

from sparring.attacks.attack import attack
from sparring.checks.controls import CoinNet
from sparring.core.errors import SparringError
from sparring.core.noise import Noise
from sparring.core.registry import THREATS
from sparring.core.victim import Access
from sparring.defenses.base import Defended, defense
from sparring.evaluation.judge import Judge
from sparring.evaluation.plan.grid import make_plan
from sparring.testing.networks import CLASSES, linear_net
from sparring.testing.threats import ThreatContract
from sparring.threats import threat

# fewer draws and queries than by default, for a test
SHORT = {"noise": "noise:draws=5", "score": "score:queries=40", "decision": "decision:queries=100"}


@pytest.mark.parametrize("spec", [SHORT.get(name, name) for name in THREATS])
class TestThreats(ThreatContract):
    def others(self, spec, system):
        """A twin is of the architecture of what it is a twin of."""
        coin = spec == "twin" and isinstance(system.network, CoinNet)
        return [Defended(system.network, id="other")] if coin else super().others(spec, system)


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
    plan = make_plan(systems, ["oblivious"], [attack("pgd:eps=0.1")], judge=Judge(), seed=0, classes=4, values=192)
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


def test_a_gradient_at_the_image_is_the_bare_networks_there(tmp_path):
    """The logits are those behind the defense (the channels paper's code); a closed form on a network that is no line."""
    net = torch.nn.Sequential(linear_net(), torch.nn.Tanh())
    system = defense("cd:bits=1").install(Defended(net, id="a"))
    x = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    noise = Noise.of(0, "test", torch.arange(5))
    there, here = (threat(t).seat(system).views[0].victim for t in ("white-identity", "white-identity:at=x"))
    assert torch.equal(there.logits(x, noise), here.logits(x, noise))

    def objective(z, rows):
        return (z * z).sum(1)

    leaf = x.clone().requires_grad_(True)
    cotangent = 2 * here.logits(x, noise)
    (want,) = torch.autograd.grad(net(leaf), leaf, cotangent)
    assert torch.allclose(here.gradient(x, objective, noise).grad, want, atol=1e-6)
    assert not torch.allclose(there.gradient(x, objective, noise).grad, want, atol=1e-3)
    random = defense("cd:bits=1+gauss:std=0.1").install(Defended(net, id="a"))
    seat = threat("white-identity:at=x").seat(random)
    assert seat.stop == "never"
    victim = seat.views[0].victim
    assert victim.random
    assert not torch.equal(victim.logits(x, noise), victim.logits(x, Noise.of(1, "test", torch.arange(5))))


def test_an_oblivious_attacker_may_stop_at_his_first_success():
    system = defense("gauss:std=0.1").install(Defended(linear_net(), id="a"))
    assert threat("oblivious").seat(system).stop == "never"
    assert threat("oblivious:stop=first").seat(system).stop == "success", "its source is not random"


def test_an_ensemble_attacks_the_classifier_and_the_others():
    system = defense("cd:bits=3").install(Defended(linear_net(), id="a"))
    seat = threat("ensemble").seat(system, [Defended(linear_net(seed=1), id="b")])
    assert seat.views[0].victim.systems[0].id == system.drop().system().id
    assert len(seat.views[0].victim.systems) == 2
    with pytest.raises(SparringError, match="leave it out"):
        threat("ensemble").seat(system, [Defended(linear_net(), id="a")])


def test_a_bait_may_be_judged_behind_another_defense():
    """The channels paper's Table 1: points made against one channel, judged behind another."""
    system = defense("cd:bits=3").install(Defended(linear_net(), id="a"))
    seat = threat("bait:behind=gauss:std=0.1,backward=identity").seat(system)
    assert [p.name for p in seat.judge.parts] == ["gauss"]
    assert seat.judge.random
    assert not seat.pooled
    assert {p.backward for p in seat.views[0].victim.systems[0].parts} == {"identity"}
    at_x = threat("bait:behind=gauss:std=0.1,backward=x").seat(system)
    assert not at_x.views[0].victim.systems[0].parts, "the channels paper's own code: gradients at the image"
    with pytest.raises(SparringError, match="unknown defense"):
        threat("bait:behind=nothing").seat(system)
