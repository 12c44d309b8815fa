"""The contract of attacks."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, ClassVar, Literal, get_args, get_origin

import pytest
import torch
from torch import Tensor

from sparring.attacks.attack import Attack, attack
from sparring.attacks.engine import Batch
from sparring.core.errors import SparringError
from sparring.core.geometry import distance, within
from sparring.core.noise import image_keys
from sparring.core.spec import signature
from sparring.core.system import System
from sparring.core.victim import Access, Goal, Victim
from sparring.testing.networks import CLASSES, Counting, Exact, Firm, images, labels
from sparring.testing.words import names_source

BUDGET = {"linf": 0.06, "l2": 0.8, "l1": 8.0, "l0": 4.0}
IDS = [f"image{i}" for i in range(9)]


def at_norms(spec: str) -> list[Attack]:
    """The attack in the norm that its text names, else in every norm it declares; at a budget that suits the norm unless its text or the
    search for the nearest point needs none.
    """
    given = attack(spec)
    budgets = dict.fromkeys([given.norm] if given.setting.norm else given.method.norms, given.setting.eps)
    if given.setting.eps is None and given.method.goal is Goal.BUDGET:
        budgets = {norm: BUDGET[norm] for norm in budgets}
    default = given.method.norms[0]
    settings = [replace(given.setting, norm=None if n == default else n, eps=e) for n, e in budgets.items()]
    return [replace(given, setting=setting) for setting in settings]


def choices(given: Attack) -> Iterator[Attack]:
    """The attack as it is and with every value that one of its fields offers, but for those that it refuses."""
    yield given
    for name, (annotation, _) in signature(type(given.method)).items():
        for value in get_args(annotation) if get_origin(annotation) is Literal else ():
            changed: dict[str, Any] = {name: value}
            try:
                method = replace(given.method, **changed)  # type: ignore[type-var]
                yield replace(given, method=method)
            except SparringError:
                continue


class AttackContract:
    """What every attack does, by its spec text. Subclass it and parametrize ``spec``."""

    kind: ClassVar[str] = "attacks"

    def test_it_is_declared(self, spec: str) -> None:
        """It is a frozen dataclass whose docstring names its norms, and its source unless it asks nothing."""
        method = attack(spec).method
        assert is_dataclass(method)
        with pytest.raises(AttributeError):
            setattr(method, fields(method)[0].name if fields(method) else "steps", 1)
        doc = type(method).__doc__ or ""
        assert "Norm" in doc
        assert method.needs is Access.NONE or all(norm in doc for norm in method.norms)
        assert method.needs is Access.NONE or (names_source(doc) and "Differs from the paper:" in doc)

    def test_its_text_round_trips(self, spec: str) -> None:
        for given in at_norms(spec):
            assert attack(str(given)) == given
            assert str(attack(str(given))) == str(given)

    def test_points_stay_in_ball_and_box(self, spec: str) -> None:
        model, x = Exact(), images(6)
        x[0], x[1] = 0.0, 1.0  # corners of the box
        for given in (choice for norm in at_norms(spec) for choice in choices(norm)):
            outcome = given.run(model, x, labels(model, x), stop="never")
            assert outcome.x.dtype == torch.float32
            assert outcome.x.min() >= 0
            assert outcome.x.max() <= 1
            if given.setting.eps is not None:
                assert within(outcome.x - x, torch.full((6,), given.setting.eps), given.norm).all()
            assert torch.allclose(outcome.distance, distance(outcome.x - x, given.norm))

    @pytest.mark.parametrize("stop", ["success", "never"])
    def test_an_answer_does_not_depend_on_company_order_or_slots(self, spec: str, stop: Literal["success", "never"]):
        """The Law: to the bit, as the network is without matrix products."""
        model, x = Exact(), images(9)
        y = labels(model, x)
        for given in at_norms(spec):
            reference = given.run(model, x, y, ids=IDS, slots=9, stop=stop)
            order = torch.tensor([4, 0, 8, 2, 6, 1, 7, 3, 5])
            for slots, pick in ((1, torch.arange(9)), (4, order), (64, order[:5])):
                outcome = given.run(model, x[pick], y[pick], ids=[IDS[i] for i in pick], slots=slots, stop=stop)
                assert torch.equal(outcome.x, reference.x[pick]), f"slots={slots}"
                assert torch.equal(outcome.success, reference.success[pick]), f"slots={slots}"
                assert torch.equal(outcome.forwards, reference.forwards[pick]), f"slots={slots}"

    def test_who_never_stops_goes_the_same_way_until_a_success(self, spec: str) -> None:
        """What did not fool its source on the way is not attacked once more to the end: it would give the same point."""
        model, x = Exact(), images(9)
        y = labels(model, x)
        for given in at_norms(spec):
            if given.setting.eps is not None:
                given = given.with_eps(1.0 if given.norm == "l0" else given.budget / 3)
            first, last = (given.run(model, x, y, ids=IDS, stop=stop) for stop in ("success", "never"))
            same = ~first.success
            assert torch.equal(first.success, last.success)
            assert torch.equal(first.x[same], last.x[same])

    @pytest.mark.parametrize("stop", ["success", "never"])
    def test_looking_for_finished_rows_every_few_steps_changes_nothing(
        self, spec: str, stop: Literal["success", "never"], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on a GPU: rows that are over stay as they were and pay nothing."""
        model, x = Exact(), images(9)
        y = labels(model, x)
        for given in at_norms(spec):
            monkeypatch.setattr("sparring.attacks.engine.loop.POLL", {})
            every = given.run(model, x, y, ids=IDS, slots=4, stop=stop)
            monkeypatch.setattr("sparring.attacks.engine.loop.POLL", {"cpu": 4})
            seldom = given.run(model, x, y, ids=IDS, slots=4, stop=stop)
            for (name, column), (_, other) in zip(every.items(), seldom.items(), strict=True):
                assert torch.equal(column.nan_to_num(7.0), other.nan_to_num(7.0)), name

    def test_the_seed_decides_and_nothing_of_the_users_changes(self, spec: str) -> None:
        model, x = Exact(), images(4)
        y = labels(model, x)
        weights, clean, state = copy.deepcopy(model.state_dict()), x.clone(), torch.get_rng_state()
        for given in at_norms(spec):
            first = given.run(model, x, y, seed=5)
            assert torch.equal(torch.get_rng_state(), state), "the global generator is left alone"
            with torch.random.fork_rng():
                torch.manual_seed(7)
                assert torch.equal(given.run(model, x, y, seed=5).x, first.x)
        assert torch.equal(x, clean)
        assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
        assert not any(m.training for m in model.modules())

    def test_query_caps_hold(self, spec: str) -> None:
        """An image spends at most its cap, and whoever asks for answers pays for every image that the network is shown. (A gradient that
        cannot be paid for does not count; it may be computed beside those that can.)
        """
        x, y = images(4), torch.zeros(4, dtype=torch.int64)
        for given in at_norms(spec):
            for cap in (1, 7, 23):
                counting = Counting(Firm())
                outcome = given.run(counting, x, y, queries=cap)
                assert (outcome.forwards <= cap).all()
                if given.method.needs < Access.GRADIENT:
                    assert counting.images == int(outcome.forwards.sum())

    def test_cost_is_what_an_image_pays_at_most(self, spec: str) -> None:
        """A dry run's promise, on a network that nothing breaks."""
        x, y, victim = images(2), torch.zeros(2, dtype=torch.int64), Victim((System(Firm()),), Access.GRADIENT)
        for given in at_norms(spec):
            outcome = given.run(victim, x, y)
            forwards, backwards = given.cost(victim, CLASSES, x[0].numel())
            assert not outcome.success.any()
            assert (outcome.forwards <= forwards).all()
            assert (outcome.backwards <= backwards).all()

    def test_success_is_what_the_returned_points_do(self, spec: str) -> None:
        model, x = Exact(), images(16)
        y = labels(model, x)
        for given in at_norms(spec):
            outcome = given.run(model, x, y)
            fooled = labels(model, outcome.x) != y
            if given.method.needs is not Access.NONE:  # who asks nothing cannot know
                assert torch.equal(outcome.success, fooled)

    def test_nothing_is_done_where_nothing_is_to_do(self, spec: str) -> None:
        """An empty set, images that are wrong already, and a ball without room."""
        model, x = Exact(), images(4)
        y = labels(model, x)
        for given in at_norms(spec):
            assert len(given.run(model, x[:0], y[:0]).x) == 0
            wrong = given.run(model, x, (y + 1) % CLASSES)
            assert given.method.needs is Access.NONE or bool(wrong.success.all())
            assert given.method.goal is Goal.BUDGET or float(wrong.distance.max()) == 0
            still = given.with_eps(0.0).run(model, x, y)
            assert not still.success.any()
            assert given.method.goal is Goal.MINIMAL or torch.equal(still.x, x)

    def test_only_the_declared_access_is_used(self, spec: str) -> None:
        """With the access it declares it runs; with one grade less it is refused."""
        model, x = Exact(), images(2)
        batch = Batch(x, labels(model, x), image_keys(["a", "b"]))
        for given in at_norms(spec):
            needs = given.method.needs
            given.on(Victim((System(model),), needs), batch)
            if needs > Access.NONE:
                with pytest.raises(SparringError, match=needs.name):
                    given.on(Victim((System(model),), Access(needs - 1)), batch)

    def test_masked_pixels_stay(self, spec: str) -> None:
        model, x = Exact(), images(4)
        mask: Tensor = torch.zeros(4, 1, 8, 8)
        mask[:, :, ::2, ::2] = 1
        for given in at_norms(spec):
            if given.method.needs is Access.GRADIENT:
                outcome = given.run(model, x, labels(model, x), mask=mask, stop="never")
                assert ((outcome.x - x) * (1 - mask)).abs().max() <= 1e-6
