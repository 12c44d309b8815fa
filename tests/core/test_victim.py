"""The only door to the model: hand-derived gradients, EOT objectives, counting, access."""

import pytest
import torch
from torch import nn

from sparring.core.errors import AccessError
from sparring.core.noise import Noise, image_keys
from sparring.core.system import Combine, Part, Readout, System
from sparring.core.victim import Access, Victim


def _noise(count: int) -> Noise:
    return Noise.of(0, "test", image_keys([str(i) for i in range(count)]))


class _Counting(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function, self.calls, self.rows = function, 0, 0

    def forward(self, x, *_):
        self.calls += 1
        self.rows += len(x)
        return self.function(x)


def test_bug_13_three_stages_back_propagate_at_their_own_intermediates():
    """ART #485, #1526: chained defenses used the pipeline input for every stage, or never called the surrogate.

    Stages: u1 = 2x (exact), u2 = round(4 u1)/4 with stand-in v -> v^3 (Jacobian 3 u1^2), u3 = u2^2 (exact, 2 u2).
    """
    stand_in = _Counting(lambda v: v**3)
    parts = (
        Part("double", lambda x, _: 2 * x),
        Part("round", lambda x, _: (4 * x).round() / 4, stand_in),
        Part("square", lambda x, _: x**2),
    )
    system = System(nn.Flatten(), parts)
    victim = Victim((system,), Access.GRADIENT)
    x = torch.tensor([[[[0.2, 0.45]]], [[[0.31, 0.7]]]])
    answer = victim.gradient(x, lambda z, rows: z.sum(1), _noise(2))
    u1 = 2 * x
    u2 = (4 * u1).round() / 4
    assert torch.equal(answer.logits, (u2**2).flatten(1)), "the forward pass is the deployed one, to the bit"
    assert torch.allclose(answer.grad, 2 * (3 * u1**2) * (2 * u2), atol=1e-5)
    assert stand_in.calls == 1


def test_identity_backward_passes_the_cotangent_through():
    system = System(nn.Flatten(), (Part("round", lambda x, _: x.round(), "identity"),))
    grad = (
        Victim((system,), Access.GRADIENT).gradient(torch.rand(3, 1, 2, 2), lambda z, r: (z * 7).sum(1), _noise(3)).grad
    )
    assert torch.equal(grad, torch.full_like(grad, 7.0))


def test_a_deterministic_prefix_runs_once_per_iterate():
    prefix, network = _Counting(lambda x: 3 * x), _Counting(lambda x: x.flatten(1))
    noisy = Part("noise", lambda x, n: x + n.normal("n", x.shape[1:]), random=True)
    victim = Victim((System(network, (Part("prefix", prefix), noisy)),), Access.GRADIENT, draws=5)
    victim.gradient(torch.rand(2, 1, 2, 2), lambda z, r: z.sum(1), _noise(2))
    assert prefix.rows == 2
    assert network.rows == 10
    assert victim.cost == 5


def test_eot_objective_is_minus_log_mean_probability_for_single_draws():
    noisy = Part("noise", lambda x, n: x + n.normal("n", x.shape[1:]), random=True)
    system = System(nn.Flatten(), (noisy,))
    x, y = torch.rand(3, 1, 1, 4), torch.tensor([0, 1, 2])
    z = system.logits(x, _noise(3).child("system0"), 6)
    expected = -z.softmax(2).mean(1).gather(1, y[:, None])[:, 0].log()
    victim = Victim((system,), Access.GRADIENT, draws=6)
    loss = victim.gradient(x, lambda v, r: -v.log_softmax(1).gather(1, y[r, None])[:, 0], _noise(3)).loss
    assert torch.allclose(loss, expected, atol=1e-5)


def test_readouts():
    z = torch.tensor([[[9.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]])
    assert Readout("vote", 3).scores(z).argmax(1).item() == 1
    assert Readout("mean-logit", 3).scores(z).argmax(1).item() == 0
    assert Readout("mean-prob", 3).scores(z).argmax(1).item() == int(z.softmax(2).mean(1).argmax())
    assert Readout().scores(z[:, 1:]).argmax(1).item() == 1


def test_ensembles_combine_in_three_modes():
    a, b = (System(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), id=str(i)) for i in range(2))
    x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 2])
    za, zb = (s.network(x).detach() for s in (a, b))
    ce = lambda v, r: nn.functional.cross_entropy(v, y[r], reduction="none")  # noqa: E731
    every = slice(0, 2)
    expected: dict[Combine, torch.Tensor] = {
        "logits": ce((za + zb) / 2, every),
        "probs": -((za.softmax(1) + zb.softmax(1)) / 2).gather(1, y[:, None])[:, 0].log(),
        "loss": (ce(za, every) + ce(zb, every)) / 2,
    }
    for mode, value in expected.items():
        loss = Victim((a, b), Access.GRADIENT, combine=mode).gradient(x, ce, _noise(2)).loss
        assert torch.allclose(loss, value, atol=1e-5), mode


@pytest.mark.parametrize(("access", "call"), [(Access.LABEL, "scores"), (Access.NONE, "labels")])
def test_more_than_the_granted_access_raises(access, call):
    victim = Victim((System(nn.Flatten()),), access)
    with pytest.raises(AccessError, match=access.name):
        getattr(victim, call)(torch.rand(1, 1, 2, 2), _noise(1))


def test_gradient_needs_gradient_access_and_no_inference_mode():
    x = torch.rand(1, 1, 2, 2)
    with pytest.raises(AccessError):
        Victim((System(nn.Flatten()),), Access.SCORES).gradient(x, lambda z, r: z.sum(1), _noise(1))
    victim = Victim((System(nn.Flatten()),), Access.GRADIENT)
    with torch.no_grad():  # bug 32: attacks turn gradients on themselves
        assert victim.gradient(x, lambda z, r: z.sum(1), _noise(1)).grad.abs().sum() > 0
    with torch.inference_mode(), pytest.raises(AccessError, match="inference_mode"):
        victim.gradient(x, lambda z, r: z.sum(1), _noise(1))


def test_micro_batches_change_nothing(monkeypatch):
    import sparring.core.victim as module

    noisy = Part("noise", lambda x, n: x + n.normal("n", x.shape[1:]), random=True)
    victim = Victim((System(nn.Flatten(), (noisy,)),), Access.GRADIENT, draws=3)
    x, y = torch.rand(7, 1, 2, 2), torch.arange(7) % 4
    ask = lambda: victim.gradient(x, lambda v, r: v.gather(1, y[r, None])[:, 0], _noise(7))  # noqa: E731
    whole = ask()
    monkeypatch.setitem(module.ROW_BUDGETS, "cpu", 4 * 3 * 2)
    parts = ask()
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_frozen_randomness_is_the_same_in_every_call():
    noisy = Part("noise", lambda x, n: x + n.normal("n", x.shape[1:]), random=True)
    system = System(nn.Flatten(), (noisy,), frozen=3)
    x = torch.rand(2, 1, 2, 2)
    assert not system.random
    assert torch.equal(system.scores(x, _noise(2)), system.scores(x, _noise(2).child("other").repeat(1, 9)))
