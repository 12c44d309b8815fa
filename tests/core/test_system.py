"""Defended systems: noise streams of their own, frozen randomness, and what an answer costs."""

import pytest
import torch
from torch import Tensor

from sparring.core.noise import Noise, image_keys
from sparring.core.system import Combine, Part, Readout, System
from sparring.core.victim import Access, Victim


def _noise(count: int, role: str = "test", seed: int = 0) -> Noise:
    return Noise.of(seed, role, image_keys([str(i) for i in range(count)]))


class Recorder:
    """A random part, or a noisy network, that keeps what it draws and how many rows it sees."""

    def __init__(self) -> None:
        self.drawn: list[Tensor] = []
        self.rows = 0

    def __call__(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        self.rows += len(x)
        if noise is not None:
            self.drawn.append(noise.uniform("u", (1,))[:, 0])
            return x + self.drawn[-1][:, None, None, None]
        return x.flatten(1)


@pytest.mark.parametrize("draws", [1, 3])
def test_stages_and_network_draw_from_streams_of_their_own(draws):
    """Two stages on one stream would cancel or reinforce one another: x + n - n."""
    first, second, network = Recorder(), Recorder(), Recorder()
    parts = (Part("a", first, random=True), Part("b", second, random=True))
    answer = System(lambda x, n: network(x, n).flatten(1), parts, noisy=True)
    answer.logits(torch.rand(4, 1, 2, 2), _noise(4), draws)
    drawn = torch.cat([*first.drawn, *second.drawn, *network.drawn])
    assert len(drawn) == 3 * 4 * draws
    assert len(drawn.unique()) == len(drawn)


def test_members_of_an_ensemble_draw_from_streams_of_their_own():
    one, two = Recorder(), Recorder()
    systems = tuple(System(torch.nn.Flatten(), (Part("n", r, random=True),)) for r in (one, two))
    Victim(systems, Access.GRADIENT, draws=3).logits(torch.rand(2, 1, 2, 2), _noise(2))
    drawn = torch.cat([*one.drawn, *two.drawn])
    assert len(drawn.unique()) == len(drawn) == 12


def test_frozen_randomness_is_the_same_in_every_role():
    """Known-w: what the attacker sees in "attack" is what the judge draws in "judge"; images differ, and other w."""
    noisy = Part("noise", lambda x, n: x + n.normal("n", x.shape[1:]), random=True)
    x = torch.full((2, 1, 2, 2), 0.5)
    system = System(torch.nn.Flatten(), (noisy,), frozen=3)
    seen = system.scores(x, _noise(2, "attack"))
    assert torch.equal(seen, system.scores(x, _noise(2, "judge", seed=7).on(torch.tensor([4, 4])).repeat(1, 5)))
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen, System(torch.nn.Flatten(), (noisy,), frozen=4).scores(x, _noise(2, "attack")))


def test_an_answer_costs_the_network_calls_it_makes():
    """A vote of 3 that is asked 4 times: 12 network calls, as counted at the network."""
    part = Part("noise", Recorder(), random=True)
    network = Recorder()
    system = System(network, (part,), Readout("vote", 3))
    for answers in (1, 4):
        victim = Victim((system,), Access.SCORES, answers=answers)
        network.rows = 0
        victim.scores(torch.rand(2, 1, 2, 2), _noise(2))
        assert victim.score_cost == 3 * answers == network.rows // 2
    plain = Victim((System(network),), Access.SCORES, answers=4)
    network.rows = 0
    plain.labels(torch.rand(2, 1, 2, 2), _noise(2))
    assert plain.score_cost == 1 == network.rows // 2, "a deterministic system is asked once"


# the mean probability is for label 0, two of three draws are for label 1
LOGITS = torch.tensor([[4.0, 0.0, -1.0], [-0.1, 0.0, -2.0], [-0.1, 0.0, -2.0]])


def _tabled(readout: Readout | None = None) -> System:
    """A random system whose draws are the rows of LOGITS in turn."""
    part = Part("row", lambda x, n: ((n.draw & 0xFFFF) % 3)[:, None, None, None].float(), random=True)
    return System(lambda u: LOGITS[u.flatten().long()], (part,), readout or Readout())


def test_a_readout_sees_all_its_draws():
    x = torch.zeros(1, 1, 1, 1)
    assert torch.allclose(_tabled(Readout("mean-logit", 3)).scores(x, _noise(1))[0], LOGITS.mean(0))
    assert torch.allclose(
        _tabled(Readout("mean-prob", 3)).scores(x, _noise(1))[0], LOGITS.softmax(1).mean(0).log(), atol=1e-5
    )
    assert int(_tabled(Readout("vote", 3)).scores(x, _noise(1)).argmax()) == 1


def test_the_label_of_several_answers_is_their_majority_and_their_score_the_mean_probability():
    x = torch.zeros(1, 1, 1, 1)
    victim = Victim((_tabled(),), Access.SCORES, answers=3)
    assert int(victim.labels(x, _noise(1))) == 1
    found = victim.scores(x, _noise(1))[0]
    assert torch.allclose(found.softmax(0), LOGITS.softmax(1).mean(0), atol=1e-5)
    assert int(found.argmax()) == 0


def test_votes_are_counted_and_ties_go_to_the_larger_mean_probability():
    sure, narrow = [9.0, 0.0, 0.0], [0.0, 0.1, 0.0]
    assert Readout("vote", 3).scores(torch.tensor([[sure, narrow, narrow]])).argmax().item() == 1
    assert Readout("vote", 2).scores(torch.tensor([[sure, narrow]])).argmax().item() == 0
    assert Readout("vote", 2).scores(torch.tensor([[narrow, [0.0, 0.0, 9.0]]])).argmax().item() == 2


@pytest.mark.parametrize("combine", ["logits", "probs", "loss"])
def test_eot_objectives_of_a_random_system_are_their_definitions(combine: Combine):
    """PROTOCOL 1.2, over the draws of one system: mean logits, log of the mean probability, mean loss."""
    noisy = Part("noise", lambda x, n: x + n.normal("n", x.shape[1:]), random=True)
    seen: list[Tensor] = []

    def network(u: Tensor) -> Tensor:
        seen.append(u.detach().flatten(1))
        return u.flatten(1)

    victim = Victim((System(network, (noisy,)),), Access.GRADIENT, draws=5, combine=combine)
    y = torch.tensor([0, 3])
    loss = victim.gradient(
        torch.rand(2, 1, 2, 2), lambda z, r: -z.log_softmax(1).gather(1, y[r, None])[:, 0], _noise(2)
    ).loss
    z = seen[0].unflatten(0, (2, 5))
    each = -z.log_softmax(2)[torch.arange(2), :, y]
    mean = -z.mean(1).log_softmax(1)[torch.arange(2), y]
    expected = {"logits": mean, "probs": -(-each).exp().mean(1).log(), "loss": each.mean(1)}[combine]
    assert torch.allclose(loss, expected, atol=1e-5)
