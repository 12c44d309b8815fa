"""``Attack.run`` on a faster copy: proved, asked again, and left where it does not pay."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn

import sparring
from sparring.attacks import attack as attack_module
from sparring.core.prepare import Prepared
from sparring.models.classifier import Classifier

X = torch.rand(32, 3, 16, 16, generator=torch.Generator().manual_seed(0))
SPEC = "pgd:eps=8/255,steps=40"


def network() -> nn.Module:
    return Classifier(layers()).eval()


def layers() -> nn.Module:
    torch.manual_seed(0)
    modules = [
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(128, 4),
    ]
    net = nn.Sequential(*modules).train()
    net(torch.rand(16, 3, 16, 16))  # so that the BatchNorm does something
    return net.eval()


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[Prepared]:
    """Every copy that is made."""
    made: list[Prepared] = []

    def noting(model: nn.Module, example: Tensor) -> Prepared:
        made.append(prepare(model, example))
        return made[-1]

    prepare = attack_module.prepared_copy
    monkeypatch.setattr(attack_module, "prepared_copy", noting)
    return made


def test_a_copy_is_made_where_it_pays_and_finds_the_same(copies):
    net = network()
    y = net(X).argmax(1)
    plain = sparring.attack(SPEC).run(net, X, y, prepare=False)
    assert not copies
    found = sparring.attack(SPEC).run(net, X, y)
    assert copies[0].folded == 1
    assert torch.equal(found.success, plain.success)
    assert torch.equal(found.forwards, plain.forwards)
    assert torch.equal(net(found.x).argmax(1) != y, found.success)


@pytest.mark.parametrize(
    "spec", ["pgd:eps=8/255,steps=4", "ddn:steps=60", "square:eps=8/255,steps=100", "noise:eps=8/255"]
)
def test_short_attacks_nearest_points_and_queries_stay_on_the_network(copies, spec):
    net = network()
    sparring.attack(spec).run(net, X, net(X).argmax(1))
    assert not copies


class Counting(nn.Module):
    """Counts its calls: a copy would hide them."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.calls = network(), 0
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.calls += len(x)
        return self.net(x)


def test_a_network_that_keeps_something_is_attacked_itself():
    net = Counting()
    y = net.net(X).argmax(1)
    found = sparring.attack(SPEC).run(net, X, y)
    assert net.calls == int(found.forwards.sum()) + 1, "one look tells whether it has a gradient"


def test_points_that_fool_the_copy_alone_are_made_again(monkeypatch):
    """A copy that answers otherwise, as rounding may, leaves no success that is none, and no image unattacked."""
    net = network()
    y = net(X).argmax(1)

    class Other(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return net(x).roll(1, 1)

    monkeypatch.setattr(attack_module, "prepared_copy", lambda model, example: Prepared(Other(), 0, 0.0, ""))
    found = sparring.attack(SPEC).run(net, X, y)
    plain = sparring.attack(SPEC).run(net, X, y, prepare=False)
    assert torch.equal(found.success, plain.success)
    assert torch.equal(found.x, plain.x)


class Position(nn.Module):
    """A parameter of one row in front of a sum: written over in place, it would have to be as long as the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.gain = nn.Conv2d(3, 4, 4, 4), nn.Parameter(torch.ones(1))
        self.place, self.head = nn.Parameter(torch.rand(1, 4, 4, 4)), nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.gain * self.place + self.convolution(x)).flatten(1))


class Writing(nn.Module):
    """Writes into its input, of which ``run`` hands it copies."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.sub_(0.1).mul_(2.0))


class Locked(nn.Module):
    """Cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.lock = network(), threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@pytest.mark.parametrize("make", [Position, Writing, Locked, lambda: torch.jit.script(layers())])
def test_what_cannot_be_copied_or_written_over_is_attacked_as_it_is(make):
    """Each was a crash, and the first in ``evaluate``, too: found by a user."""
    net = make().eval()
    y = net(X.clone()).argmax(1)
    plain, found = (sparring.attack(SPEC).run(net, X, y, prepare=prepare) for prepare in (False, True))
    assert torch.equal(found.success, plain.success)


def test_a_parameter_of_one_row_in_a_sum_is_evaluated():
    net = Position().eval()
    y = net(X).argmax(1)
    result = sparring.evaluate(net, (X, y), threats=["adaptive"], attacks=["fgsm:eps=8/255"])
    assert result.closed
