"""What an attack declares is all that the engine reads; every kind of attack is entered through one guarded door."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import sparring
from sparring.attacks.attack import Attack, MethodAttack
from sparring.attacks.engine import Batch
from sparring.attacks.method import Method
from sparring.attacks.pgd import PGD
from sparring.checks.controls import linear_net
from sparring.core.columns import OUTCOME, STOPS
from sparring.core.errors import SparringError
from sparring.core.noise import image_keys
from sparring.core.system import System
from sparring.core.victim import Access, Victim
from tests.contract.test_attacks import Firm, images, labels, net

SRC = Path(__file__).parents[2] / "src" / "sparring"


def test_a_third_partys_innocent_fields_mean_nothing():
    """``std`` never got a budget, ``classes`` changed the cost, ``kappa`` turned successes into failures."""

    @dataclass(frozen=True, kw_only=True)
    class Mine(PGD):
        std: float = 0.5
        classes: int = 10
        kappa: float = 50.0
        queries: int = 3

    model, x = net(), images(8)
    mine, pgd = MethodAttack(Mine(steps=5)).with_eps(0.1), MethodAttack(PGD(steps=5)).with_eps(0.1)
    victim = Victim((System(model),), Access.GRADIENT)
    assert not MethodAttack(Mine()).bounded, "it needs a budget like any other"
    assert mine.cost(victim, 4, 192) == pgd.cost(victim, 4, 192) == (6, 5)
    ours, theirs = (a.run(model, x, labels(model, x)) for a in (mine, pgd))
    assert ours.success.sum() == theirs.success.sum() > 0
    assert torch.equal(ours.x, theirs.x)


@pytest.mark.parametrize(("name", "near"), [("setled", "settled"), ("norm", "norms"), ("need", "needs")])
def test_a_misspelt_declaration_is_an_error(name, near):
    with pytest.raises(TypeError, match=f"{name} is declared by no attack; did you mean {near}"):
        type("Mine", (PGD,), {name: True})
    with pytest.raises(TypeError, match=near):
        type("Mine", (PGD,), {"__annotations__": {name: "ClassVar[bool]"}, name: True})


def test_nobody_guesses_what_a_method_is():
    for file in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("getattr", "hasattr")
            ):
                subject = ast.unparse(node.args[0])
                assert "method" not in subject.lower().removeprefix("method"), (
                    f"{file.name}:{node.lineno} asks {subject}"
                )


def test_no_kind_overrides_the_entry():
    kinds, found = [Attack], []
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        found.append(kind)
    assert len(found) >= 4
    assert all("on" not in vars(k) and "run" not in vars(k) for k in found if k is not Attack)


@pytest.mark.parametrize(
    "spec", ["pgd", "cascade", "autoattack", "autoattack:version=rand", "square", "apgd:targets=3", "fgsm"]
)
def test_a_missing_ball_is_refused_by_every_kind(spec):
    """cascade and autoattack ran unbounded: points at linf .92 counted as found."""
    x = images(4)
    with pytest.raises(SparringError, match="eps is missing"):
        sparring.attack(spec).run(net(), x, labels(net(), x))


@pytest.mark.parametrize(
    ("spec", "field"),
    [("cascade:restarts=5", "restarts"), ("cascade:targets=3", "targets"), ("autoattack:restarts=2", "restarts")],
)
def test_a_setting_without_use_is_refused(spec, field):
    with pytest.raises(SparringError, match=f"{field}= has no use here"):
        sparring.attack(f"{spec},eps=0.1")


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [
        "cascade",
        "autoattack:steps=10,queries=50",
        "pgd",
        "pgd:restarts=3",
        "apgd:targets=2",
        "square",
        "fab",
        "ddn",
        "cw",
        "deepfool",
        "jsma:norm=l0",
    ],
)
@pytest.mark.parametrize("queries", [1, 7, 20, 61])
def test_query_caps_hold_for_every_kind(spec, queries):
    """With a cap of 20 cascade spent 39 and autoattack 78."""
    x = images(4)
    eps = "" if "norm" in spec else f"{',' if ':' in spec else ':'}eps=0.02"
    found = sparring.attack(spec + eps).run(Firm(), x, torch.zeros(4, dtype=torch.int64), queries=queries)
    assert (found.forwards <= queries).all(), found.forwards


@pytest.mark.parametrize("eps", [float("nan"), -0.1, float("inf")])
@pytest.mark.parametrize("spec", ["pgd", "cascade", "square"])
def test_budgets_by_image_must_be_numbers(spec, eps):
    x = images(2)
    batch = Batch(x, labels(net(), x), image_keys(["0", "1"]), eps=torch.tensor([0.1, eps]))
    with pytest.raises(SparringError, match="every eps must be a number"):
        sparring.attack(spec).on(Victim((System(net()),), Access.GRADIENT), batch)


def test_query_is_the_only_door():
    """An attack that asked through ``q.victim`` asked 4,004 images and paid for one each."""

    @dataclass(frozen=True, kw_only=True)
    class Sneaky(Method):
        steps: int = 3

        def init(self, q):
            return q.victim.scores(q.clean)  # pyright: ignore[reportAttributeAccessIssue]

    x = images(2)
    with pytest.raises(AttributeError, match="victim"):
        MethodAttack(Sneaky()).with_eps(0.1).run(net(), x, labels(net(), x))
    for file in (SRC / "attacks").glob("*.py"):
        names = {n.attr for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Attribute)}
        assert file.name == "query.py" or not names & {"_victim", "_stream", "_ledger"}, file


def test_what_an_attack_cannot_pay_for_does_not_count():
    """Two gradients in one step with a purse of one: the second is no candidate."""

    @dataclass(frozen=True, kw_only=True)
    class Twice(Method):
        steps: int = 1

        def init(self, q):
            from sparring.core.rows import Rows

            return Rows(x=q.clean)

        def advance(self, q, s):
            q.gradient(q.clean)
            q.gradient(q.project(1 - q.clean), call="second")
            return s

    model, x = net(), images(6)
    attack = MethodAttack(Twice()).with_eps(1.0)
    y = labels(model, x)
    assert attack.run(model, x, y).success.any()
    capped = attack.run(model, x, y, queries=1)
    assert not capped.success.any()
    assert (capped.forwards == 1).all()


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("pgd:eps=0.000001,steps=3", "steps"),
        ("pgd:eps=0.5", "success"),
        ("square:eps=0.000001", "queries"),
        ("deepfool", "method"),
    ],
)
def test_outcomes_say_why_a_job_stopped(spec, why):
    model, x = net(), images(4)
    found = sparring.attack(spec).run(model, x, labels(model, x), queries=9 if why == "queries" else None)
    assert {STOPS[i] for i in found.stopped.tolist()} <= {why, "success"}
    assert why in {STOPS[i] for i in found.stopped.tolist()}


def test_outcomes_hold_a_trace():
    """Margins at the first, the middle and the last look, and the length of the last gradient."""
    model, x = net(), images(6)
    y = labels(model, x)
    found = sparring.attack("bim:eps=0.02,steps=9,step_size=0.2").run(model, x, y, stop="never")
    with torch.no_grad():
        z = model(x)
    start = z.scatter(1, y[:, None], -torch.inf).amax(1) - z.gather(1, y[:, None])[:, 0]
    assert torch.allclose(found.margin_start, start, atol=1e-4)
    assert (found.margin_start < found.margin_middle).all()
    assert (found.margin_middle <= found.margin_end).all()
    assert torch.isfinite(found.gradient_end).all()
    assert set(dict(found.items())) == {"x", *(c.name for c in OUTCOME)}


@pytest.mark.parametrize(("model", "equal"), [(linear_net(2), True), (net(), False)])
def test_variance_tuning_adds_what_neighbors_say_otherwise(model, equal):
    """A linear model's neighbors all say the same, so its points are those of plain momentum; their gradients are paid for."""
    x = images(4)
    y = labels(model, x)
    plain, tuned = (
        sparring.attack(f"mifgsm:steps=5,step_size=0.25,loss=margin,eps=0.02,neighbors={n}").run(
            model, x, y, stop="never"
        )
        for n in (0, 3)
    )
    assert torch.allclose(plain.x, tuned.x, atol=1e-6) == equal
    assert ((tuned.x - x).abs() <= 0.02 + 1e-6).all()
    assert (plain.backwards == 5).all()
    assert (tuned.backwards == 20).all()
