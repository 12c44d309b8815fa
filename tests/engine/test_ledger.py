"""What the engine writes down of a scripted attack: first and best hit, best point, costs, and whose noise is drawn when."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from sparring.attacks.attack import MethodAttack, Setting
from sparring.attacks.engine import Stop
from sparring.attacks.method import Method
from sparring.attacks.query import Query
from sparring.core.geometry import Norm
from sparring.core.noise import Noise
from sparring.core.rows import Rows
from sparring.core.system import Part, System
from sparring.core.victim import Access, Goal, Victim


class Bright(nn.Module):
    """Class 0 up to a mean pixel of 0.5, then class 1, from 0.75 on class 2."""

    def forward(self, x: Tensor) -> Tensor:
        v = x.flatten(1).mean(1)
        return torch.stack([0.5 - v, torch.zeros_like(v), 4 * (v - 0.75)], 1)


@dataclass(frozen=True)
class Script(Method):
    """Looks at a gray image of each of ``values`` in turn, by its gradient, scores or label."""

    values: tuple[float, ...]
    needs: Access = Access.GRADIENT  # type: ignore[override]
    goal: Goal = Goal.BUDGET  # type: ignore[override]
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    spec_name: ClassVar[str] = "script"

    @property
    def steps(self) -> int:  # type: ignore[override]
        return len(self.values)

    def init(self, q: Query) -> Rows:
        return Rows(x=q.clean)

    def advance(self, q: Query, s: Rows) -> Rows:
        x = torch.zeros_like(q.clean) + torch.tensor(self.values)[q.t][:, None, None, None]
        ask = {Access.GRADIENT: q.gradient, Access.SCORES: q.scores, Access.LABEL: q.labels}[self.needs]
        ask(x)
        return s.put(x=x)


def play(
    method: Method,
    stop: Stop = "never",
    count: int = 2,
    model: object = None,
    access: Access = Access.GRADIENT,
    **setting,
):
    options = {k: setting.pop(k) for k in ("queries",) if k in setting}
    attack = MethodAttack(method, Setting(**{"eps": 1.0, **setting}))
    system = model if isinstance(model, System) else System(Bright())
    x = torch.zeros(count, 1, 2, 2)
    return attack.run(Victim((system,), access), x, torch.zeros(count, dtype=torch.int64), stop=stop, **options)


def gray(found) -> list[float]:
    return [round(float(v), 6) for v in found.x.amax((1, 2, 3))]


def test_first_hit_is_the_first_step_that_won_and_best_hit_that_of_the_point():
    found = play(Script((0.1, 0.6, 0.9, 0.7, 0.2)))
    assert found.success.all()
    assert gray(found) == [0.9, 0.9]
    assert found.first_hit.tolist() == [1, 1]
    assert found.best_hit.tolist() == [2, 2]
    never = play(Script((0.1, 0.2)))
    assert never.first_hit.tolist() == never.best_hit.tolist() == [-1, -1]


@pytest.mark.parametrize("stop", ["success", "never"])
def test_the_best_point_is_returned_not_the_last(stop: Stop):
    assert gray(play(Script((0.1, 0.4, 0.2, 0.3)), stop)) == [0.4, 0.4]


def test_whoever_wants_a_success_stops_at_the_first():
    found = play(Script((0.1, 0.6, 0.9)), "success")
    assert gray(found) == [0.6, 0.6]
    assert found.forwards.tolist() == [2, 2]


def test_a_minimum_norm_attack_returns_its_nearest_hit():
    found = play(Script((0.9, 0.6, 0.2, 0.8), goal=Goal.MINIMAL), eps=None)
    assert gray(found) == [0.6, 0.6]
    far = play(Script((0.9, 0.8), goal=Goal.MINIMAL), eps=0.7)
    assert not far.success.any(), "nothing inside the ball fooled"


@pytest.mark.parametrize("needs", [Access.GRADIENT, Access.SCORES, Access.LABEL])
def test_every_question_is_charged(needs):
    """Three steps and a last look."""
    found = play(Script((0.1, 0.2, 0.3), needs))
    assert found.forwards.tolist() == [4, 4]
    assert found.backwards.tolist() == ([3, 3] if needs is Access.GRADIENT else [0, 0])


def test_an_image_pays_for_all_its_jobs():
    found = play(Script((0.1, 0.2)), restarts=3)
    assert found.forwards.tolist() == [3 * 3] * 2
    assert found.backwards.tolist() == [3 * 2] * 2


@pytest.mark.parametrize("needs", [Access.GRADIENT, Access.SCORES, Access.LABEL])
def test_what_cannot_be_paid_for_does_not_count(needs):
    values = (0.1, 0.2, 0.9)
    for queries, wins in ((2, False), (3, True)):
        found = play(Script(values, needs), "success", queries=queries)
        assert found.success.tolist() == [wins, wins]
        assert found.forwards.tolist() == [queries, queries]


def test_the_jobs_of_an_image_share_its_queries():
    found = play(Script((0.1, 0.2, 0.3), Access.SCORES), queries=4, restarts=2)
    assert (found.forwards <= 4).all()


@pytest.mark.parametrize("needs", [Access.GRADIENT, Access.SCORES, Access.LABEL])
def test_a_targeted_attack_wins_where_its_target_is_reached(needs):
    assert play(Script((0.2, 0.6), needs), target=1).success.all()
    assert not play(Script((0.2, 0.9), needs), target=1).success.any()
    assert play(Script((0.2, 0.9), needs), target=2).success.all()


@dataclass(frozen=True)
class Dice(Method):
    """A gray of the attack's own draw at every step; ``seen`` keeps all draws."""

    count: int = 1
    seen: list[Tensor] = field(default_factory=list, compare=False)
    needs: ClassVar[Access] = Access.GRADIENT
    goal: ClassVar[Goal] = Goal.BUDGET
    norms: ClassVar[tuple[Norm, ...]] = ("linf",)
    spec_name: ClassVar[str] = "dice"

    @property
    def steps(self) -> int:  # type: ignore[override]
        return self.count

    def init(self, q: Query) -> Rows:
        return Rows(x=q.clean)

    def advance(self, q: Query, s: Rows) -> Rows:
        self.seen.append(q.noise("v").uniform("v", (1,))[:, 0])
        x = 0.5 * torch.ones_like(q.clean) * self.seen[-1][:, None, None, None]
        q.gradient(x)
        return s.put(x=x)


def test_restarts_draw_anew_and_the_best_one_is_returned():
    """The largest of 15 uniform draws is 15/16 on average."""
    dice = Dice()
    found = play(dice, restarts=15, count=40)
    drawn = torch.cat(dice.seen)
    assert len(drawn.unique()) == len(drawn) == 15 * 40
    assert float(found.x.amax((1, 2, 3)).mean()) * 2 == pytest.approx(15 / 16, abs=0.03)


def test_every_step_draws_the_attacks_and_the_defenses_noise_anew():
    drawn: list[Tensor] = []

    def stage(x: Tensor, noise: Noise) -> Tensor:
        drawn.append(noise.uniform("n", (1,))[:, 0])
        return x + 0 * drawn[-1][:, None, None, None]

    dice = Dice(5)
    play(dice, model=System(Bright(), (Part("noise", stage, random=True),)))
    for seen in (torch.cat(dice.seen), torch.cat(drawn)):
        assert len(seen) >= 10
        assert len(seen.unique()) == len(seen)


class Crowd(Dice):
    """Scores four candidates, so large that they are made two at a time."""

    needs: ClassVar[Access] = Access.SCORES

    def advance(self, q: Query, s: Rows) -> Rows:
        grays = torch.tensor([0.1, 0.4, 0.3, 0.2])
        margins = q.candidates(4, lambda i, j: grays[i:j].reshape(1, -1, 1, 1, 1).expand(1, -1, *q.clean.shape[1:]))
        self.seen.append(margins)
        return s


def test_of_several_candidates_the_best_is_written_down_and_each_has_its_own_noise():
    drawn: list[Tensor] = []

    def stage(x: Tensor, noise: Noise) -> Tensor:
        drawn.append(noise.uniform("n", (1,))[:, 0])
        return x

    x = torch.zeros(1, 1, 2500, 2500)
    crowd = Crowd()
    victim = Victim((System(Bright(), (Part("noise", stage, random=True),)),), Access.SCORES)
    found = MethodAttack(crowd, Setting(eps=1.0)).run(victim, x, torch.zeros(1, dtype=torch.int64), stop="never")
    assert gray(found) == [0.4]
    assert int(crowd.seen[0].argmax()) == 1
    candidates = torch.cat(drawn)[:4]
    assert len(candidates.unique()) == 4


class Guess(Dice):
    """Asks for the labels of four candidates, all of class 1."""

    needs: ClassVar[Access] = Access.LABEL

    def advance(self, q: Query, s: Rows) -> Rows:
        q.labels(torch.full((len(q.clean), 4, *q.clean.shape[1:]), 0.6))
        return s


def test_candidates_that_cannot_be_paid_for_do_not_count():
    """Two of four are asked; no answer about the others is no success, whatever class has number 0."""
    x, y = torch.zeros(2, 1, 2, 2), torch.ones(2, dtype=torch.int64)
    victim = Victim((System(Bright()),), Access.LABEL)
    found = MethodAttack(Guess(3), Setting(eps=1.0)).run(victim, x, y, stop="never", queries=2)
    assert not found.success.any()
    assert found.forwards.tolist() == [2, 2]


class Slopes(Dice):
    """Asks for the gradients of all three logits."""

    def advance(self, q: Query, s: Rows) -> Rows:
        q.jacobian(s.x, lambda z, rows: torch.eye(3).expand(len(z), 3, 3))
        return s


def test_every_row_of_a_jacobian_is_charged():
    found = play(Slopes(2))
    assert found.forwards.tolist() == [3, 3], "two steps and a last look"
    assert found.backwards.tolist() == [2 * 3, 2 * 3]


class Root(nn.Module):
    """The slope in the first pixel is 0 times infinity at 0."""

    def forward(self, x: Tensor) -> Tensor:
        z = 0 * x[:, 0, 0, 0].sqrt() + x[:, 0, 1].sum(1) - 1
        return torch.stack([-z, z], 1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_gradient_that_is_not_finite_spoils_neither_point_nor_count(norm):
    from sparring import attack

    found = attack(f"pgd:norm={norm},eps=0.4,steps=2,start=clean").run(
        Root().eval(), torch.zeros(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64), stop="never"
    )
    assert torch.isfinite(found.x).all()
    assert (found.x[:, 0, 1] > 0.03).all(), "the other pixels go on"
    assert (found.nonfinite_gradients >= 1).all()
