"""What every registered attack must do. A new attack is enrolled by existing; bugs are numbered as in the user asks."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import nn

import sparring
from sparring.attacks.attack import Attack
from sparring.attacks.engine import Batch, RunOptions
from sparring.attacks.engine.jobs import Turns, waves
from sparring.checks.controls import linear_layer
from sparring.core.errors import AccessError, SparringError
from sparring.core.geometry import distance, within
from sparring.core.noise import image_keys
from sparring.core.registry import ATTACKS
from sparring.core.rows import Rows
from sparring.core.spec import signature
from sparring.core.system import Combine, System
from sparring.core.victim import Access, Goal, Victim
from sparring.defenses.base import Defended, defense
from sparring.subject import Subject
from tests.contract.latin import latin, unmet

BUDGET = {"linf": 0.06, "l2": 0.8, "l1": 8.0, "l0": 4.0}
NAMES = list(ATTACKS)
CASES = [(name, norm) for name in NAMES for norm in ATTACKS[name].norms]
GRADIENT = [(n, norm) for n, norm in CASES if ATTACKS[n].needs is Access.GRADIENT]
PATIENT = ("autoattack", "cascade", "cw", "ead", "lbfgs")  # what asks hundreds of times whatever the image
# few enough steps for a test
SHORT: dict[str, dict[str, object]] = {
    "cw": {"steps": 100, "searches": 6, "c": 1.0, "lr": 0.02},
    "ead": {"steps": 60, "searches": 6, "c": 1.0},
    "lbfgs": {"steps": 25, "searches": 6},
    "ddn": {"steps": 60},
    "fmn": {"steps": 60},
    "pdgd": {"steps": 60},
    "sigma_zero": {"steps": 60},
    "fab": {"steps": 20},
    "apgd": {"steps": 25},
    "autoattack": {"steps": 10, "queries": 30},
    "jsma": {"gamma": 1},
    "one_pixel": {"steps": 5, "population": 12, "pixels": 2},
    "square": {"steps": 60},
    "spsa": {"steps": 6, "samples": 8},
    "local_search": {"steps": 6, "width": 16},
    "boundary": {"queries": 150},
    "hopskipjump": {"queries": 150},
    "rays": {"queries": 150},
    "sparse_rs": {"steps": 60},
    "tiles": {"steps": 60},
    "pointwise": {"queries": 150},
    "spatial": {"angles": 5, "shifts": 3},
    "single_pixel": {"steps": 30},
    "growing_fgsm": {"steps": 60},
}
# what cannot pass the linear oracle, and why
CASCADES = ("autoattack", "cascade")  # their members aim at rivals themselves
NO_ORACLE = {
    ("bim", "l1"): "kept as the channels paper used it: along the gradient, not its largest values",
    ("rfgsm", "linf"): "half of its step is random by design",
    ("growing_fgsm", "linf"): "goes along the gradient at the clean image, not to the nearest rival",
    ("jsma", "l0"): "changes pairs of values, upwards only",
}


def marked(cases: list[tuple[Any, ...]], slow: Callable[..., bool] = lambda *case: False) -> list[Any]:
    """The cases, those of patient attacks and those that are ``slow`` marked so."""
    return [pytest.param(*c, marks=[pytest.mark.slow] if c[0] in PATIENT or slow(*c) else []) for c in cases]


def make(name: str, norm: str, eps: float | None = None, **fields: object) -> Attack:
    """The attack at a budget that suits the norm, with few enough steps for a test."""
    fields = {**SHORT.get(name, {}), **fields}
    text = ",".join(f"{k}={v}" for k, v in fields.items())
    budget = eps if eps is not None else BUDGET[norm]
    unbounded = ATTACKS[name].goal is Goal.MINIMAL and eps is None
    return sparring.attack(
        f"{name}:norm={norm}" + ("" if unbounded else f",eps={budget}") + (f",{text}" if text else "")
    )


def net(shape: tuple[int, int, int] = (3, 8, 8), classes: int = 4, seed: int = 0) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    size = shape[0] * shape[1] * shape[2]
    layers = nn.Sequential(nn.Flatten(), nn.Linear(size, 16), nn.Tanh(), nn.Linear(16, classes))
    for p in layers.parameters():
        p.data = torch.randn(p.shape, generator=generator) / p.shape[-1] ** 0.5 * 1.5
    return layers.eval()


class NoProducts(nn.Module):
    """A classifier without matrix products: its logits are bit-equal whatever the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.randn(1, 4, 192, generator=torch.Generator().manual_seed(5))
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (torch.tanh(3 * (x.flatten(1)[:, None] - 0.5)) * self.weight).sum(2)


def images(count: int, shape: tuple[int, int, int] = (3, 8, 8), seed: int = 0) -> torch.Tensor:
    return 0.2 + 0.6 * torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))


def labels(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(x).argmax(1)


def starts(name: str) -> list[str]:
    """The starts an attack offers; one nameless one where there is no choice."""
    field = signature(ATTACKS[name]).get("start")
    return list(get_args(field[0])) if field else [""]


@pytest.mark.parametrize(
    ("name", "norm", "start"), marked([(*case, start) for case in CASES for start in starts(case[0])])
)
def test_bug_01_points_stay_in_ball_and_box(name, norm, start):
    fields = {"start": start} if start else {}
    model, x = net(), images(8)
    x[0], x[1] = 0.0, 1.0  # corners of the box
    attack = make(name, norm, **fields)
    found = attack.run(model, x, labels(model, x), stop="never")
    assert found.x.min() >= 0
    assert found.x.max() <= 1
    if attack.setting.eps is not None:
        assert within(found.x - x, torch.full((8,), attack.setting.eps), norm).all()
    assert torch.allclose(found.distance, distance(found.x - x, norm))


class Firm(nn.Module):
    """Class 0 by far, with ordinary gradients: nothing breaks it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = net()
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) / 100 + torch.tensor([100.0, 0, 0, 0])


# what ends images early by design: searches aborted without progress, starts not found, pixels used up, classes there are not
ENDS_EARLY = {"cw", "ead", "lbfgs", "boundary", "hopskipjump", "jsma", "fab", "deepfool"}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "norm"), marked(CASES))
def test_cost_is_what_an_image_pays_that_survives_everything(name, norm):
    """A dry run's promise and the weight of a run in the progress bar."""
    model, x = Firm(), images(2)
    attack = make(name, norm)
    found = attack.run(model, x, torch.zeros(2, dtype=torch.int64))
    forwards, backwards = attack.cost(Victim((System(model),), Access.GRADIENT), 4, x[0].numel())
    assert not found.success.any()
    assert (found.forwards <= forwards).all()
    assert (found.backwards <= backwards).all()
    if name not in ENDS_EARLY:
        assert (found.forwards == forwards).all()
        assert (found.backwards == backwards).all()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "norm"), marked(CASES))
def test_bugs_17_18_20_nothing_of_the_users_changes(name, norm):
    model, x = net(), images(4)
    model[1].weight.requires_grad_(True)
    y = labels(model, x)
    before, flags = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    image_hash = hashlib.sha256(x.numpy().tobytes()).hexdigest()
    state = torch.get_rng_state()
    make(name, norm).run(model, x, y)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == flags
    assert all(p.grad is None for p in model.parameters())
    assert model[1].weight.requires_grad
    assert hashlib.sha256(x.numpy().tobytes()).hexdigest() == image_hash
    assert torch.equal(torch.get_rng_state(), state)


def linear(classes: int, shape: tuple[int, int, int], seed: int = 0) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(shape[0] * shape[1] * shape[2], classes)
    layer.weight.data = torch.randn(layer.weight.shape, generator=generator)
    layer.bias.data = -layer.weight.data.sum(1) / 2
    return nn.Sequential(nn.Flatten(), layer).eval()


def true_distance(model: nn.Sequential, x: torch.Tensor, y: torch.Tensor, norm: str) -> torch.Tensor:
    """Distance of x to the nearest decision boundary of a linear net. linf and l2 ignore the box (inactive at these
    distances); l1 and l0 use up the best values or pixels one after the other, each as far as the box allows."""
    layer = linear_layer(model)
    w, b = layer.weight.detach(), layer.bias.detach()
    z = x.flatten(1)
    nearest = torch.full((len(x),), torch.inf)
    for rival in range(len(b)):
        direction = w[rival] - w[y]
        gap = -((direction * z).sum(1) + b[rival] - b[y])
        if norm in ("linf", "l2"):
            size = direction.abs().sum(1) if norm == "linf" else direction.norm(dim=1)
            reach = gap / size.clamp_min(1e-12)
        else:
            room = torch.where(direction > 0, 1 - z, z)
            gain = room * direction.abs()
            if norm == "l0":
                gain = gain.reshape(x.shape).sum(1).flatten(1)
                total = gain.sort(1, descending=True).values.cumsum(1)
                reach = (total < gap[:, None]).sum(1) + 1.0
            else:
                order = direction.abs().argsort(1, descending=True)
                gain, room, rate = (v.gather(1, order) for v in (gain, room, direction.abs()))
                before = gain.cumsum(1) - gain
                part = ((gap[:, None] - before).clamp_min(0) / rate.clamp_min(1e-12)).minimum(room)
                reach = part.sum(1)
        nearest = torch.minimum(nearest, torch.where(y == rival, torch.inf, reach))
    return nearest


ORACLE = [c for c in GRADIENT if c not in NO_ORACLE]
NETS: list[tuple[int, tuple[int, int, int]]] = [(2, (3, 8, 8)), (3, (1, 7, 5)), (4, (3, 9, 5)), (10, (1, 8, 8))]
COUNTS = [1, 3, 8]  # images in the first of two batches
ORACLE_CASES = [(*case, net, count) for case in ORACLE for net, count in latin(":".join(case), NETS, COUNTS)]


def test_every_attack_meets_every_net_and_batch_of_the_oracle():
    """Which is what a Latin square is for; all attacks together meet every pair."""
    for case in ORACLE:
        met = [(net, count) for *which, net, count in ORACLE_CASES if tuple(which) == case]
        assert [net for net in NETS if net not in [n for n, _ in met]] == []
        assert {count for _, count in met} == set(COUNTS)
    assert unmet([(net, count) for *_, net, count in ORACLE_CASES], NETS, COUNTS) == []


@pytest.mark.parametrize(
    ("name", "norm", "count", "classes", "shape"),
    marked([(n, p, c, *net) for n, p, net, c in ORACLE_CASES], lambda name, norm, count, *net: count < 8),
)
def test_linear_oracle(name, norm, count, classes, shape):
    """A hit at 1.25x the true distance; minimum norms within 1.25 of it (l0: or one pixel more).

    Every case looks at the same eight images, cut into a batch of ``count`` and the rest.
    """
    model, x = linear(classes, shape), images(8, shape)
    y = labels(model, x)
    truth = true_distance(model, x, y, norm)
    parts = [slice(count), slice(count, None)] if count < 8 else [slice(None)]
    if ATTACKS[name].goal is Goal.MINIMAL:
        patient: dict[str, object] = {
            "cw": {"steps": 100, "searches": 7, "lr": 0.02},
            "ead": {"steps": 100, "searches": 6, "lr": 0.01},
            "lbfgs": {"steps": 50, "searches": 10},
            "deepfool": {"classes": 9},
        }.get(name, {"steps": 150})
        rivals: dict[str, object] = {"targets": 9} if (name, norm) in (("fmn", "l1"), ("ead", "l1")) else {}
        for part in parts:
            found, near = make(name, norm, None, **rivals, **patient).run(model, x[part], y[part]), truth[part]
            assert found.success.all()
            slack = 1.0 if norm == "l0" else 1e-4
            assert (found.distance <= torch.maximum(1.25 * near, near + slack)).all(), (found.distance / near).tolist()
            assert (found.distance >= 0.999 * near - 1e-6).all()
        return
    # every rival in turn: the margin's own rival is the runner-up, which need not be the nearest
    victim = Victim((System(model),), Access.GRADIENT)
    hard: dict[str, object] = {"loss": "margin", "steps": 60, "step_size": 0.1}
    hard = {
        "apgd": {"loss": "margin", "steps": 60},
        "fgsm": {"loss": "margin"},
        "adaifgsm": {"loss": "margin"},
        "growth": {},
    }.get(name, {} if name == "cascade" else {"steps": 60} if name == "autoattack" else hard)
    attack = make(name, norm, 1.0, **hard, **({} if name in CASCADES else {"targets": 9}))
    keys = image_keys([str(i) for i in range(8)])
    for part in parts:
        found = attack.on(victim, Batch(x[part], y[part], keys[part], 1.25 * truth[part]))
        assert found.success.all()
        short = Batch(x[part], y[part], keys[part], 0.9 * truth[part])
        assert not attack.on(victim, short, RunOptions("never")).success.any(), "nothing exists that near"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "norm", "queries"),
    [
        pytest.param("boundary", "l2", 1500, marks=pytest.mark.slow),
        ("hopskipjump", "l2", 1500),
        ("hopskipjump", "linf", 5000),
        ("rays", "linf", 1500),
    ],
)
def test_decision_attacks_come_near_the_linear_oracle(name, norm, queries):
    """Labels only: within 1.25 of the true distance after so many queries, never nearer than it. Two classes: with more a
    walk may stay at a rival that is not the nearest."""
    model, x = linear(2, (3, 9, 5)), images(3, (3, 9, 5))
    y = labels(model, x)
    truth = true_distance(model, x, y, norm)
    found = make(name, norm, queries=queries).run(model, x, y)
    assert found.success.all()
    assert (found.distance <= 1.25 * truth).all(), (found.distance / truth).tolist()
    assert (found.distance >= 0.999 * truth).all()
    assert (found.forwards <= queries).all()


@pytest.mark.parametrize(("name", "norm"), marked(GRADIENT))
def test_targeted_attacks_reach_their_target(name, norm):
    model, x = linear(4, (3, 8, 8)), images(6)
    y = labels(model, x)
    text = str(make(name, norm, eps=None if ATTACKS[name].goal is Goal.MINIMAL else 3 * BUDGET[norm]))
    found = sparring.attack(f"{text},target=next" if ":" in text else f"{text}:target=next").run(model, x, y)
    reached = labels(model, found.x) == (y + 1) % 4
    clear = found.margin.abs() > 1e-5  # on the boundary to the last digit either answer is right
    assert torch.equal(found.success[clear], reached[clear]), "success means that the target itself is reached"
    assert reached.float().mean() >= 0.5


@pytest.mark.parametrize("name", CASCADES)
def test_a_cascade_can_be_aimed_at_class_0(name):
    """0 is a target like any other: members that aim at rivals themselves leave that to it."""
    model, x = linear(4, (3, 8, 8)), images(6)
    y = labels(model, x)
    x, y = x[y != 0], y[y != 0]
    found = sparring.attack(f"{make(name, 'linf', 0.3)},target=0").run(model, x, y)
    assert found.success.all()
    assert (labels(model, found.x) == 0).all()


def test_bug_12_targeted_loss_falls_with_the_target_in_view():
    """ART #840: targeted APGD judged progress in the untargeted direction."""
    model, x = linear(4, (3, 8, 8)), images(12)
    y = labels(model, x)
    rates = [
        sparring.attack(f"apgd:steps=20,eps={e},target=least").run(model, x, y).success.float().mean()
        for e in (0.0, 0.02, 0.3)
    ]
    assert rates[0] == 0
    assert rates[0] <= rates[1] <= rates[2]
    assert rates[2] > 0.9


# one slot means a run an image: enough steps that images still end at different ones, and no more
LAW: dict[str, dict[str, object]] = {
    "cw": {"steps": 50, "searches": 4},
    "ead": {"steps": 20, "searches": 3},
    "lbfgs": {"steps": 8, "searches": 4},
    "autoattack": {"steps": 4, "queries": 12},
    "boundary": {"queries": 60},
    "hopskipjump": {"queries": 100},
    "rays": {"queries": 60},
    "sparse_rs": {"steps": 20},
    "tiles": {"steps": 20},
    "pointwise": {"queries": 60},
    "contrast": {"steps": 20},
    "ddn": {"steps": 20},
    "fmn": {"steps": 20},
    "pdgd": {"steps": 20},
    "sigma_zero": {"steps": 20},
    "growing_noise": {"steps": 20},
    "multi_pixel": {"steps": 20},
    "salt_pepper": {"steps": 20},
    "single_pixel": {"steps": 20},
    "square": {"steps": 20},
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "norm"), marked(CASES))
@pytest.mark.parametrize("stop", ["success", "never"])
def test_bug_03_the_law_slots_order_and_company(name, norm, stop):
    """An image's answer depends neither on slots, nor on order, nor on batch-mates: to the bit, without matrix products."""
    model, x = NoProducts(), images(9)
    y = labels(model, x)
    ids = [f"image{i}" for i in range(9)]
    attack = make(name, norm, None, **LAW.get(name, {}))
    attack = attack.brief(8) if name == "cascade" else attack
    reference = attack.run(model, x, y, ids=ids, slots=9, stop=stop)
    order = torch.tensor([4, 0, 8, 2, 6, 1, 7, 3, 5])
    for slots, pick in ((1, order[:4]), (4, order), (64, order[:5])):
        found = attack.run(model, x[pick], y[pick], ids=[ids[i] for i in pick], slots=slots, stop=stop)
        assert torch.equal(found.x, reference.x[pick]), f"slots={slots}"
        assert torch.equal(found.success, reference.success[pick])
        assert torch.equal(found.forwards, reference.forwards[pick])


def test_restarts_and_targets_obey_the_law_too():
    model, x = net(), images(9)
    y = labels(model, x)
    for text in ("pgd:eps=0.01,steps=5,restarts=3", "apgd:eps=0.01,steps=5,targets=3,loss=dlr"):
        for stop in ("success", "never"):
            a = sparring.attack(text).run(model, x, y, slots=1, stop=stop)
            b = sparring.attack(text).run(model, x, y, slots=7, stop=stop)
            assert torch.allclose(a.x, b.x, atol=1e-6)
            assert torch.equal(a.job, b.job)
            assert torch.equal(a.forwards, b.forwards)


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "apgd:eps=0.01,steps=16,targets=3,loss=dlr",
        "pgd:eps=0.01,steps=12,restarts=6",
        "fab:norm=linf,eps=0.01,steps=12,targets=3",
    ],
)
def test_every_call_of_the_network_is_in_the_cost_column(text):
    """With many slots, and with one: jobs of an image wait for one another, none is begun for nothing."""
    model, x = NoProducts(), images(12)
    y = labels(model, x)
    for slots in (1, 64):
        counting = Counting(model).eval()
        victim, batch = (
            Victim((System(counting),), Access.GRADIENT),
            Batch(x, y, image_keys([str(i) for i in range(12)])),
        )
        outcome = sparring.attack(text).on(victim, batch, RunOptions("success", slots))
        assert 0 < int(outcome.success.sum()) < len(x), "some images fall, some survive"
        assert counting.images == int(outcome.forwards.sum())
        if text.startswith("pgd"):
            assert int(outcome.job[outcome.success].max()) > 0, "one falls to a later job"


def test_the_next_job_of_an_image_in_turn_begins_when_the_last_one_failed():
    turns = Turns(2, 3, [True, False])
    assert turns.take(9) == [(0, 0), (1, 0), (1, 1), (1, 2)]
    turns.failed(0, 0)
    assert turns.take(9) == [(0, 1)]
    turns.failed(0, 1)
    turns.failed(0, 2)
    assert turns.take(9) == [(0, 2)]


def test_finished_rows_are_grouped_without_an_image_twice_in_order_of_jobs():
    done = Rows(image=torch.tensor([3, 1, 3, 0, 3]), job=torch.tensor([2, 0, 0, 5, 1]))
    groups = [list(zip(w.image.tolist(), w.job.tolist(), strict=True)) for w in waves(done)]
    assert groups == [[(0, 5), (1, 0), (3, 0)], [(3, 1)], [(3, 2)]]
    assert [len(w) for w in waves(done.keep(torch.tensor([0, 1])))] == [2]
    assert waves(done.keep(torch.tensor([], dtype=torch.int64))) == []


@pytest.mark.parametrize(("name", "norm"), marked(CASES))
def test_bug_08_empty_and_all_misclassified_sets(name, norm):
    model, x = net(), images(4)
    attack = make(name, norm)
    empty = attack.run(model, x[:0], torch.zeros(0, dtype=torch.int64))
    assert len(empty.x) == 0
    wrong = (labels(model, x) + 1) % 4
    found = attack.run(model, x, wrong)
    if ATTACKS[name].needs is not Access.NONE:
        assert found.success.all()
    if ATTACKS[name].goal is Goal.MINIMAL:
        assert found.distance.max() == 0, "a misclassified image is its own nearest adversarial"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "norm"), marked(CASES))
def test_bug_25_float32_in_float32_out(name, norm):
    model, x = net(), images(2)
    assert make(name, norm).run(model, x, labels(model, x)).x.dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize(("name", "norm"), marked(CASES))
def test_bug_16_zero_budget_returns_the_image(name, norm):
    model, x = net(), images(5)
    y = labels(model, x)
    found = make(name, norm, eps=0.0).run(model, x, y)
    assert not found.success.any()
    if ATTACKS[name].goal is Goal.BUDGET:
        assert torch.equal(found.x, x)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "norm"), marked([c for c in GRADIENT if ATTACKS[c[0]].goal is Goal.MINIMAL]))
def test_a_minimum_norm_attack_with_a_budget_ends_inside_it(name, norm):
    """Only a point inside eps is a success, and the search for a nearer one stops there."""
    model, x = net(), images(16)
    y = labels(model, x)
    free = make(name, norm).run(model, x, y)
    eps = float(free.distance.median()) + 1e-6
    bounded = make(name, norm, eps).run(model, x, y)
    won = labels(model, bounded.x) != y
    assert torch.equal(bounded.success, won & (bounded.distance <= eps + 1e-6))
    assert bounded.success.float().mean() >= 0.5
    assert bounded.forwards.sum() <= free.forwards.sum()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "norm"), marked(GRADIENT))
@pytest.mark.parametrize("change", ["offset", "scale"])
def test_bugs_09_11_logit_offset_and_scale_do_not_weaken_it(name, norm, change):
    model, x = net(), images(16)
    y = labels(model, x)

    class Changed(nn.Module):
        def forward(self, u):
            return model(u) + 100.0 if change == "offset" else 1000.0 * model(u)

    kwargs: dict[str, object] = {"c": 0.01} if name in ("cw", "ead") else {}
    kwargs = {"c": 1e-4, "searches": 12} if name == "lbfgs" else kwargs
    eps = 0.3 * BUDGET[norm] if ATTACKS[name].goal is Goal.BUDGET else None
    attack = make(name, norm, eps, **kwargs)
    plain, changed = attack.run(model, x, y), attack.run(Changed().eval(), x, y)
    if ATTACKS[name].goal is Goal.MINIMAL:
        assert changed.success.all()
        assert changed.distance.median() <= 1.1 * plain.distance.median()
    else:
        assert changed.success.float().mean() >= plain.success.float().mean() - 1 / 16


@pytest.mark.slow
@pytest.mark.parametrize(("name", "norm"), marked(GRADIENT))
def test_better_than_random_noise_at_equal_queries(name, norm):
    model, x = net(), images(32)
    y = labels(model, x)
    attack = make(name, norm, eps=0.35 * BUDGET[norm] if ATTACKS[name].goal is Goal.BUDGET else None)
    found = attack.run(model, x, y)
    budget = attack.setting.eps or float(found.distance.median())
    won = found.success & (found.distance <= budget * 1.001)
    draws = int(found.forwards.float().mean())  # in one run: each copy of an image has an id, and so noise, of its own
    noise = sparring.attack(f"noise:norm={norm},eps={budget}")
    points = noise.run(model, x.repeat(draws, 1, 1, 1), y.repeat(draws), slots=4096).x
    random = (labels(model, points) != y.repeat(draws)).reshape(draws, len(x)).any(0)
    # a few pixels of 64, anywhere, are a strong random attack
    assert won.float().mean() > random.float().mean() + (0.1 if norm == "l0" else 0.2)


@pytest.mark.parametrize(("name", "norm"), marked(CASES))
def test_only_the_granted_access_is_used(name, norm):
    """With the access it declares an attack runs; with one grade less it is refused before any compute."""
    model, x = net(), images(2)
    needs = ATTACKS[name].needs
    y, keys = labels(model, x), image_keys(["a", "b"])
    make(name, norm).on(Victim((System(model),), needs), Batch(x, y, keys))
    if needs > Access.NONE:
        with pytest.raises((AccessError, SparringError), match=needs.name):
            make(name, norm).on(Victim((System(model),), Access(needs - 1)), Batch(x, y, keys))


@pytest.mark.parametrize(("name", "norm"), marked(GRADIENT))
def test_bugs_05_06_success_is_what_the_returned_tensor_does(name, norm):
    model, x = net(), images(16)
    y = labels(model, x)
    found = make(name, norm, eps=0.3 * BUDGET[norm] if ATTACKS[name].goal is Goal.BUDGET else None).run(model, x, y)
    for size in (1, 16):
        again = torch.cat([labels(model, part) for part in found.x.split(size)]) != y
        assert torch.equal(again, found.success)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "norm"), marked(GRADIENT))
def test_bug_19_gradients_do_not_accumulate(name, norm):
    """The same call twice gives the same points: nothing is left behind."""
    model, x = net(), images(4)
    y = labels(model, x)
    attack = make(name, norm)
    assert torch.equal(attack.run(model, x, y).x, attack.run(model, x, y).x)


@pytest.mark.parametrize(("name", "norm"), marked(GRADIENT))
def test_masked_pixels_stay(name, norm):
    model, x = net(), images(4)
    y = labels(model, x)
    mask = torch.zeros(4, 1, 8, 8)
    mask[:, :, ::2, ::2] = 1
    found = make(name, norm).run(model, x, y, mask=mask, stop="never")
    assert ((found.x - x) * (1 - mask)).abs().max() <= 1e-6  # tanh space returns a clean pixel up to round-off
    assert (found.x - x).abs().max() > 0


@pytest.mark.parametrize("name", NAMES)
def test_docstring_says_source_and_norms(name):
    text = ATTACKS[name].__doc__ or ""
    assert "Norm" in text
    assert ATTACKS[name].needs is Access.NONE or ("arXiv" in text and "Differs from the paper:" in text)


CLASSES = [2, 3, 4, 8, 10, 1000]


def rival_counts(name: str) -> list[int]:
    """Without rival targets, and with nine where the attack takes them."""
    return [0] if ATTACKS[name].needs < Access.SCORES or name in CASCADES else [0, 9]


CLASS_CASES = [
    (name, *case) for name in NAMES for case in latin(name, CLASSES, rival_counts(name), list(ATTACKS[name].norms))
]


def test_every_attack_meets_every_class_count_with_and_without_rivals_in_every_norm():
    for name in NAMES:
        met = list(zip(*[rest for which, *rest in CLASS_CASES if which == name], strict=True))
        assert [set(levels) for levels in met] == [set(CLASSES), set(rival_counts(name)), set(ATTACKS[name].norms)]
    assert unmet([tuple(case) for _, *case in CLASS_CASES], CLASSES, [0, 9], list(BUDGET)) == []


@pytest.mark.slow
@pytest.mark.parametrize(("name", "classes", "rivals", "norm"), CLASS_CASES)
def test_bug_24_no_class_or_target_count_is_built_in(name, classes, rivals, norm):
    """auto-attack #70, #110: nine targets whatever K. Two steps of every attack."""
    shape = (3, 8, 8)
    model, x = net(shape, classes), images(2, shape)
    y = labels(model, x)
    short = {k: v for k, v in SHORT.get(name, {}).items() if k not in ("steps", "queries", "searches", "population")}
    fields: dict[str, object] = {"steps": 2} if "steps" in signature(ATTACKS[name]) else {}
    fields |= {"queries": 30} if name in ("autoattack", "boundary", "hopskipjump", "rays", "pointwise") else {}
    fields |= {"population": 5} if name == "one_pixel" else {}
    if name == "spatial":
        fields = {}
    found = make_plain(name, norm, {**short, **fields, **({"targets": rivals} if rivals else {})}).run(model, x, y)
    assert torch.equal(found.success, (labels(model, found.x) != y) & found.success)
    assert (found.job < max(1, min(9, classes - 1))).all()


def make_plain(name: str, norm: str, fields: dict[str, object]) -> Attack:
    text = ",".join(f"{k}={v}" for k, v in fields.items())
    unbounded = ATTACKS[name].goal is Goal.MINIMAL
    return sparring.attack(
        f"{name}:norm={norm}" + ("" if unbounded else f",eps={BUDGET[norm]}") + f",{text}" * bool(text)
    )


@pytest.mark.parametrize("name", ["boundary", "hopskipjump"])
def test_decision_attacks_start_where_all_fine_noise_looks_alike(name):
    """A network that sees one class in every picture of independent pixels (real ones do: "frog") leaves images of that class
    without a start, unless coarser pictures are tried.
    """

    class Grain(nn.Module):
        def forward(self, x):
            grain = (x[..., 1:] - x[..., :-1]).abs().mean((1, 2, 3)) - 0.2  # independent uniform pixels: 1/3
            return torch.stack([grain, -grain], 1)

    model = Grain().eval()
    x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    y = torch.zeros(4, dtype=torch.int64)
    found = sparring.attack(f"{name}:queries=60").run(model, x, y)
    assert bool(found.success.all())
    assert bool((model(found.x).argmax(1) == 1).all())


@pytest.mark.parametrize("name", ["boundary", "hopskipjump"])
def test_bug_07_one_image_without_a_start_does_not_stop_the_others(name):
    """foolbox #541: a failed initialisation is that image's own; it ends unsuccessful, the others go on."""

    class Deaf(nn.Module):
        """Always class 0 for images with a bright corner, else by the mean."""

        def forward(self, u):
            bright = u[:, 0, 0, 0] > 2
            score = torch.where(bright, -1.0, u.mean((1, 2, 3)) - 0.45)
            return torch.stack([torch.zeros_like(score), score], 1)

    class NeverFooled(Deaf):
        """Class 0 everywhere: no start exists."""

        def forward(self, u):
            return torch.stack([torch.ones(len(u)), torch.zeros(len(u))], 1)

    x = torch.full((3, 1, 6, 6), 0.3)
    y = torch.zeros(3, dtype=torch.int64)
    found = sparring.attack(f"{name}:queries=200,tries=7").run(NeverFooled().eval(), x, y)
    assert not found.success.any()
    assert torch.equal(found.x, x)
    assert (found.forwards == 7).all(), "gave up after its tries"
    assert sparring.attack(f"{name}:queries=200").run(Deaf().eval(), x, y).success.all()


def test_given_starts_are_used():
    model, x = linear(2, (3, 8, 8)), images(4)
    y = labels(model, x)
    start = sparring.attack("pgd:eps=0.5,loss=margin").run(model, x, y).x
    near = sparring.attack("boundary:queries=60").run(model, x, y, start=start)
    far = sparring.attack("boundary:queries=60").run(model, x, y)
    assert near.success.all()
    assert near.distance.median() <= far.distance.median()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "norm"), [c for c in CASES if Access.NONE < ATTACKS[c[0]].needs < Access.GRADIENT])
def test_query_budgets_are_exact(name, norm):
    """What an image cannot pay for does not count: at most so many forwards, and no success that rests on a later one."""
    model, x = net(), images(6)
    y = labels(model, x)
    asked = Counting(model)
    attack = make(name, norm)
    free = attack.run(asked.eval(), x, y)
    for cap in (1, 7, 23):
        found = attack.run(Counting(model).eval(), x, y, queries=cap)
        assert (found.forwards <= cap).all()
        early = free.success & (free.forwards <= cap)
        assert found.success[early].all()
    assert int(free.forwards.sum()) == asked.images, "every image shown is counted, and nothing else"


class Counting(nn.Module):
    """Counts the images it is shown."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.images = model, 0

    def forward(self, u):
        assert len(u), "an empty batch was shown"
        self.images += len(u)
        return self.model(u)


def test_bug_04_a_point_on_the_sphere_counts():
    """ART #507: eps compared in float threw valid points away."""
    model, x = linear(2, (3, 8, 8)), images(6)
    y = labels(model, x)
    for norm in ("linf", "l2"):
        truth = true_distance(model, x, y, norm)
        attack = make("pgd", norm, 1.0, loss="margin", steps=60)
        keys = image_keys([str(i) for i in range(6)])
        victim = Victim((System(model),), Access.GRADIENT)
        found = attack.on(victim, Batch(x, y, keys, truth * 1.001 + 1e-6))
        assert found.success.all(), norm


def test_bug_26_a_callable_without_parameters_can_be_attacked():
    class Bare(nn.Module):
        def forward(self, x):
            return torch.stack([x.mean((1, 2, 3)), 1 - x.mean((1, 2, 3))], 1)

    x = torch.full((2, 1, 4, 4), 0.52)
    assert sparring.attack("pgd:eps=0.1").run(Bare().eval(), x, torch.zeros(2).long()).success.all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x, y, m: (x * 255, y, m), "pixels in [0,1]"),
        (lambda x, y, m: ((x * 255).byte(), y, m), "float tensor"),
        (lambda x, y, m: (x * torch.nan, y, m), "pixels in [0,1]"),
        (lambda x, y, m: (x, y[:1], m), "2 images but labels of shape (1,)"),
        (lambda x, y, m: (x, y, m.train()), "train mode"),
    ],
)
def test_bad_inputs_are_refused_in_one_line(change, says):
    model, x = net(), images(2)
    x, y, model = change(x, labels(model, x), model)
    with pytest.raises(SparringError) as error:
        sparring.attack("pgd:eps=0.1").run(model, x, y)
    assert says in str(error.value)


def test_bug_32_attacks_run_under_no_grad_and_explain_inference_mode():
    model, x = net(), images(2)
    y = labels(model, x)
    with torch.no_grad():
        assert sparring.attack("pgd:eps=0.5").run(model, x, y).success.all()
    with torch.inference_mode(), pytest.raises(SparringError, match="inference_mode"):
        sparring.attack("pgd:eps=0.5").run(model, x, y)


@pytest.mark.slow
def test_cw_finds_what_is_there_in_a_few_short_searches():
    """Black pixels hardly move in tanh space, and a first constant far too small is searched for in vain: 7 of 40 digits were found."""
    subject = Subject.of("mnist_cnn", "mnist5k:split=test", [], limit=20)
    outcome = sparring.attack("cw:steps=60,searches=6,c=0.02").run(
        subject.prepared.model, subject.images.x, subject.images.y
    )
    assert int(outcome.success.sum()) >= 18
    assert 0.5 < float(outcome.distance[outcome.success].median()) < 2
    # two searches from a constant a million times too small: the linear model's is taken
    few = sparring.attack("cw:steps=60,searches=2,c=0.000001").run(
        subject.prepared.model, subject.images.x[:8], subject.images.y[:8]
    )
    assert bool(few.success.all())


def test_momentum_pgd_takes_the_loss_that_fits_how_draws_are_combined():
    """The margin of a mean probability goes on raising draws that are lost; where each draw has its own loss, that is the one."""
    defended = defense("gauss:std=0.1").install(Defended(NoProducts(), id="a"))
    x = images(6)
    batch = Batch(x, labels(NoProducts(), x), image_keys([f"i{i}" for i in range(6)]))

    def points(combine: Combine, changed: str) -> torch.Tensor:
        victim = Victim((defended.system(),), Access.GRADIENT, 4, combine)
        return sparring.attack(f"mpgd:eps=.05,steps=3{changed}").on(victim, batch, RunOptions("never")).x

    cases: tuple[tuple[Combine, str, str], ...] = (
        ("probs", "loss_of_mean=margin", "loss=ce"),
        ("loss", "loss=ce", "loss_of_mean=margin"),
    )
    for combine, decides, idle in cases:
        plain = points(combine, "")
        assert not torch.equal(plain, points(combine, f",{decides}"))
        assert torch.equal(plain, points(combine, f",{idle}"))


def test_of_a_random_system_momentum_pgd_keeps_the_last_point_not_the_luckiest():
    defended = defense("gauss:std=0.5").install(Defended(NoProducts(), id="a"))
    x = images(6)
    batch = Batch(x, labels(NoProducts(), x), image_keys([f"i{i}" for i in range(6)]))
    victim = Victim((defended.system(),), Access.GRADIENT, 2, "loss")
    kept = sparring.attack("mpgd:eps=.05,steps=9").on(victim, batch, RunOptions("never"))
    assert set(kept.best_hit.tolist()) <= {-1, 9}
