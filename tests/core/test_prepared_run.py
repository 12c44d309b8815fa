"""``Attack.run`` on a faster copy: proved, asked again, and left where it does not pay."""

from __future__ import annotations

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
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(128, 4),
    ]
    net = nn.Sequential(*layers).train()
    net(torch.rand(16, 3, 16, 16))  # so that the BatchNorm does something
    return Classifier(net.eval()).eval()


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
