"""The judge's estimators (PROTOCOL 2.4): what a score says is what the recorded draws say, and selection is not counting."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import sparring
from sparring.core.losses import NO_LABEL, margin
from sparring.core.noise import Noise, image_keys
from sparring.core.system import Part, Readout, System
from sparring.evaluation.judge import Judge

COUNT = 12
KEYS = image_keys([str(i) for i in range(COUNT)])


class Coin:
    """A random stage that writes its draw into the first pixel, and keeps it."""

    def __init__(self) -> None:
        self.drawn: list[Tensor] = []

    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        self.drawn.append(noise.uniform("coin", (1,))[:, 0])
        x = x.clone()
        x[:, 0, 0, 0] = self.drawn[-1]
        return x

    def take(self) -> Tensor:
        """(draws,N) what was drawn since the last time."""
        found, self.drawn = torch.cat([part.unflatten(0, (COUNT, -1)).T for part in self.drawn]), []
        return found


def logits(v: Tensor) -> Tensor:
    """Class 0 below 0.5, then 1, then 2 from 0.75."""
    return torch.stack([0.5 - v, torch.zeros_like(v), 2 * (v - 0.75)], -1)


class ByPixel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rows = 0

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return logits(x[:, 0, 0, 0])


def play(seed: int = 3, select: int = 4, draws: int = 6):
    """(score, selection draws (select,N), judge draws (draws,N)) of COUNT images of true class 0."""
    coin, judge = Coin(), Judge(select, draws, seed)
    system = System(ByPixel(), (Part("coin", coin, random=True),))
    x, y = torch.zeros(COUNT, 1, 1, 2), torch.zeros(COUNT, dtype=torch.int64)
    score = judge.score(system, x, y, KEYS)
    drawn = coin.take()
    labels = judge.labels(system, x, KEYS)
    judged = coin.take()
    assert torch.equal(labels, logits(judged).argmax(2))
    counted = (drawn[:, None] == judged[None]).all(2).any(1)
    return score, drawn[~counted], judged


def test_it_counts_on_other_draws_than_it_selects_on():
    """Counting on the draws that chose the candidate would report the luckiest draws, not the system."""
    _, selected, judged = play()
    assert selected.shape == (4, COUNT)
    assert judged.shape == (6, COUNT)
    every = torch.cat([selected, judged]).flatten()
    assert len(every.unique()) == len(every), "no draw is used twice, nor shared by images"


def test_a_score_is_what_its_draws_say():
    score, selected, judged = play()
    y = torch.zeros(COUNT, dtype=torch.int64)
    right, labels = judged < 0.5, logits(judged).argmax(2)
    assert torch.equal(score.k, right.sum(0))
    assert torch.equal(score.first, right[0])
    assert torch.equal(score.label, labels[0])
    assert torch.allclose(score.p_select, (selected < 0.5).double().mean(0))
    assert torch.allclose(score.margin, torch.stack([margin(logits(s), y) for s in selected]).mean(0), atol=1e-6)


def test_all_draws_follow_the_seed_and_the_images_keys():
    _, selected, judged = play(seed=3)
    _, others, rejudged = play(seed=4)
    assert not torch.isin(selected, others).any()
    assert not torch.isin(judged, rejudged).any()
    _, same, again = play(seed=3)
    assert torch.equal(same, selected)
    assert torch.equal(again, judged)


def test_its_cost_is_the_network_calls_it_makes():
    network, judge = ByPixel(), Judge(4, 6)
    random = System(network, (Part("coin", Coin(), random=True),), Readout("vote", 5))
    for system, cost, draws in ((random, 50, 6), (System(network), 1, 1)):
        network.rows = 0
        judge.score(system, torch.zeros(3, 1, 1, 2), torch.zeros(3, dtype=torch.int64), KEYS[:3])
        assert judge.cost(system) == cost == network.rows / 3
        assert judge.draws_for(system) == draws


def test_a_deterministic_system_is_asked_once():
    x = torch.tensor([0.2, 0.6, 0.9]).reshape(3, 1, 1, 1)
    y = torch.tensor([0, 0, 2])
    score = Judge(4, 6).score(System(ByPixel()), x, y, KEYS[:3])
    assert score.k.tolist() == [1, 0, 1]
    assert score.first.tolist() == [True, False, True]
    assert score.label.tolist() == [0, 1, 2]
    assert score.p_select.tolist() == [1.0, 0.0, 1.0]
    assert torch.allclose(score.margin, margin(logits(x.flatten()), y))


def test_slices_of_a_large_request_change_nothing():
    """So many draws of so large an image fit into one call only one image at a time."""
    coin = Coin()
    system = System(ByPixel(), (Part("coin", coin, random=True),), Readout("vote", 501))
    x, y = torch.zeros(3, 1, 80, 80), torch.zeros(3, dtype=torch.int64)
    judge = Judge(1, 2)
    judge.score(system, x, y, KEYS[:3])
    drawn = torch.cat(coin.drawn)
    assert len(drawn.unique()) == 3 * 3 * 501, "every image has draws of its own"
    coin.drawn = []
    for i in range(3):
        judge.score(system, x[i : i + 1], y[:1], KEYS[i : i + 1])
    assert torch.equal(drawn.sort().values, torch.cat(coin.drawn).sort().values)


class Refuses(nn.Module):
    """Answers no number to what is not quite black."""

    def forward(self, x: Tensor) -> Tensor:
        far = x.flatten(1).amax(1) > 0.1
        rising = torch.stack([torch.ones(len(x)), x.flatten(1).mean(1), torch.zeros(len(x))], 1)
        return torch.where(far[:, None], torch.nan, rising)


def test_what_is_no_answer_is_not_right():
    """Class 0 is where argmax points among numbers that are none: an image of class 0 read as robust."""
    x, y = torch.zeros(COUNT, 1, 1, 2), torch.zeros(COUNT, dtype=torch.int64)
    x[COUNT // 2 :] = 0.2
    score = Judge().score(System(Refuses()), x, y, KEYS)
    assert score.first.tolist() == [True] * (COUNT // 2) + [False] * (COUNT // 2)
    assert (score.label[COUNT // 2 :] == NO_LABEL).all()
    assert (score.margin[COUNT // 2 :] == torch.inf).all()
    found = sparring.attack("pgd:eps=0.2,steps=5").run(
        Refuses().eval(), torch.zeros(4, 1, 2, 2), torch.zeros(4, dtype=torch.int64)
    )
    assert found.success.all()
