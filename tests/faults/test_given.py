"""What a user hands over in Python, images, labels, a model, a defense: the right result, or one line."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sparring
from sparring.attacks.attack import attack
from sparring.checks.controls import FunctionStage, images, linear_net
from sparring.core.errors import SparringError
from sparring.core.noise import Noise
from sparring.defenses.base import InputDefense, Stage, Surrogate

X = images(6)
NET = linear_net()
Y = NET(X).argmax(1).detach()
ATTACKS = ("pgd:eps=8/255,steps=3", "square:eps=8/255,steps=5", "ddn:steps=3")


class Around(nn.Module):
    """A network of one's own: a function around the linear one."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.net, self.function = NET, function
        self.eval()

    def forward(self, x: Tensor) -> Any:
        return self.function(self.net, x)


def fail(net: nn.Module, x: Tensor) -> Tensor:
    raise KeyError("two\nlines")


def single(net: nn.Module, x: Tensor) -> Tensor:
    assert len(x) == 1
    return net(x)


def leave(net: nn.Module, x: Tensor) -> Tensor:
    raise SystemExit(3)


IMAGES: dict[str, tuple[Any, str]] = {
    "array": (X.numpy(), "x is of type ndarray"),
    "list": (X.tolist(), "x is of type list"),
    "none": (None, "x is of type NoneType"),
    "bytes": ((X * 255).byte(), "x must be a float tensor"),
    "one image": (X[0], "x must be a float tensor (N,C,H,W)"),
    "channels last": (X.permute(0, 2, 3, 1), "channels last; they come first: x.permute(0, 3, 1, 2)"),
    "another size": (X[:, :, :5], "Sequential cannot take images of shape (3, 5, 8)"),
    "no pixels": (X[:, :, :0], "x has no pixels"),
    "0-255": (X * 255, "x must be pixels in [0,1], got 0..255; divide by 255"),
    "normalised": (X - 0.5, "move mean/std into the model"),
    "nan": (X * float("nan"), "x must be pixels in [0,1], got nan..nan; what is not finite is no pixel"),
}
LABELS: dict[str, tuple[Any, str]] = {
    "array": (Y.numpy(), "y is of type ndarray"),
    "list": (Y.tolist(), "y is of type list"),
    "none": (None, "y is of type NoneType"),
    "short": (Y[:3], "6 images but labels of shape (3,)"),
    "one": (Y[0], "labels of shape ()"),
    "column": (Y[:, None], "y[:, 0]"),
    "one-hot": (nn.functional.one_hot(Y, 4), "y.argmax(1)"),
    "float": (Y.float(), "y holds torch.float32, not class numbers"),
    "nan": (Y * float("nan"), "y holds torch.float32, not class numbers"),
    "bool": (Y > 1, "y holds torch.bool"),
    "from 1": (torch.arange(6) % 4 + 1, "label 4 is outside the model's 4 classes (0..3)"),
    "negative": (Y - 5, "is outside the model's 4 classes"),
}
MODELS: dict[str, tuple[Any, str]] = {
    "text": ("mnist_cnn", "load it first: sparring.load_model('mnist_cnn')"),
    "none": (None, "model is None, not an nn.Module"),
    "class": (nn.Flatten, "not an nn.Module"),
    "half": (linear_net().half(), "call model.float()"),
    "training": (linear_net().train(), "call model.eval() first"),
    "dict": (Around(lambda net, x: {"logits": net(x)}), "must return logits (B,K) with K >= 2, got dict"),
    "one score": (Around(lambda net, x: net(x)[:, 0]), "must return logits (B,K) with K >= 2, got ("),
    "nan": (Around(lambda net, x: net(x) * float("nan")), "returns logits that are not finite"),
    "integers": (Around(lambda net, x: net(x).long()), "must return floating-point logits"),
    "raises": (Around(fail), "Around cannot take images of shape (3, 8, 8): KeyError"),
    "one at a time": (Around(single), "cannot take more than one image at a time, which it must"),
    "exits": (Around(leave), "SystemExit"),
}
BESIDE: dict[str, tuple[dict[str, Any], str]] = {
    "few ids": ({"ids": ["a"]}, "one text per image"),
    "ids in one text": ({"ids": "abcdef"}, "one text per image"),
    "mask of another shape": ({"mask": torch.ones(5, 5)}, "mask must be a tensor of shape (6, 3, 8, 8), got (5, 5)"),
    "soft mask": ({"mask": torch.full((6, 1, 8, 8), 0.5)}, "mask must be 0 or 1"),
    "start of another shape": ({"start": X[:2]}, "start must be a tensor of shape (6, 3, 8, 8)"),
    "start outside": ({"start": 3 * X}, "start must be pixels in [0,1]"),
    "stop": ({"stop": "sucess"}, "stop=sucess is not valid"),
    "seed": ({"seed": 1.5}, "seed=1.5 is not valid"),
}
HANDED: dict[str, tuple[dict[str, Any], str]] = {
    **{f"x {k}": ({"x": x}, says) for k, (x, says) in IMAGES.items()},
    **{f"y {k}": ({"y": y}, says) for k, (y, says) in LABELS.items()},
    **{f"model {k}": ({"model": m}, says) for k, (m, says) in MODELS.items()},
    **BESIDE,
}


@pytest.mark.parametrize("text", ATTACKS[:2])
@pytest.mark.parametrize("case", HANDED)
def test_a_faulty_call_is_one_line(case: str, text: str):
    given, says = HANDED[case]
    with pytest.raises(SparringError) as error:
        attack(text).run(**{"model": NET, "x": X, "y": Y, **given})
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ATTACKS)
def test_what_is_right_in_another_form_gives_the_same(text: str):
    right = attack(text).run(NET, X, Y)
    forms = [(X.double(), Y), (X, Y.int()), (X, Y.byte()), (X.clone().requires_grad_(), Y), (X.half().float(), Y)]
    for x, y in forms[:-1]:
        again = attack(text).run(NET, x, y)
        assert torch.equal(again.x, right.x)
        assert not again.x.requires_grad
    half = attack(text).run(NET, X.half(), Y)
    assert torch.equal(half.x, attack(text).run(NET, *forms[-1]).x)
    assert len(attack(text).run(NET, X[:0], Y[:0]).x) == 0


def minus(x: Tensor) -> Tensor:
    return x.sub_(0.1)


def clamped(x: Tensor) -> Tensor:
    return x.clamp_(0.2, 0.8)


def scaled(x: Tensor) -> Tensor:
    with torch.no_grad():
        return x.mul_(0.5)


def unseen(x: Tensor) -> Tensor:
    x.data -= 0.1  # no version counter sees this
    return x


def relu(x: Tensor) -> Tensor:
    return torch.relu_(x)


@pytest.mark.slow
@pytest.mark.parametrize("write", [minus, clamped, scaled, unseen, relu], ids=lambda f: f.__name__)
def test_who_writes_into_the_images_is_handed_copies(write: Any):
    before = X.clone()
    for text in ATTACKS:
        ours = attack(text).run(Around(lambda net, x: net(write(x))), X, Y)
        theirs = attack(text).run(Around(lambda net, x: net(write(x.clone()))), X, Y)
        assert torch.equal(ours.x, theirs.x)
        assert torch.equal(X, before)
    kept = [
        sparring.evaluate(NET, (X, Y), [d], ["oblivious", "adaptive"], [ATTACKS[0]], expect_clean=1.0).cells
        for d in (write, lambda x: write(x.clone()))
    ]
    rates = [[(c.threat, c.robust_accuracy) for c in cells] for cells in kept]
    assert rates[0] == rates[1]
    assert torch.equal(X, before)


def gray(x: Tensor) -> Tensor:
    return x[:, :1]


def double(x: Tensor) -> Tensor:
    return x.double()


def first(x: Tensor) -> Tensor:
    return x[:1]


def nothing(x: Tensor) -> None:
    return None


def undefined(x: Tensor) -> Tensor:
    return x / 0


def failing(x: Tensor) -> Tensor:
    raise ValueError("two\nlines")


def failing_late(x: Tensor) -> Tensor:
    if len(x) > 4:
        raise ValueError("late")
    return x


class Silent(Stage):
    """A plug-in's stage that forgets to return."""

    def __init__(self) -> None:
        super().__init__("silent", Surrogate(backward={"exact": "exact"}, random=False, why="a control"))

    def forward(self, x: Tensor, noise: Noise) -> Any:
        return None


class Config(InputDefense):
    """Its config."""

    def stage(self) -> Stage:
        return Silent()


DEFENSES: dict[str, tuple[Any, str]] = {
    "gray": (gray, "defense gray: gray must return images of the shape and type that it is given"),
    "double": (double, "got (4, 3, 8, 8) torch.float64"),
    "first": (first, "got (1, 3, 8, 8)"),
    "nothing": (nothing, "got NoneType"),
    "array": (lambda x: x.numpy(), "got ndarray"),
    "undefined": (undefined, "returns pixels that are not finite"),
    "failing": (failing, "defense failing cannot take images of shape (4, 3, 8, 8): ValueError: two"),
    "failing late": (failing_late, "defense failing_late cannot take images of shape (12, 3, 8, 8): ValueError: late"),
    "a plug-in": (Config(), "silent must return images"),
    "class": (nn.Identity, "is no defense"),
    "built in": (torch.sigmoid, "is no defense"),
}


@pytest.mark.parametrize("case", DEFENSES)
def test_a_faulty_defense_is_one_line(case: str):
    given, says = DEFENSES[case]
    with pytest.raises(SparringError) as error:
        sparring.evaluate(NET, (X, Y), [given], ["adaptive"], [ATTACKS[0]], expect_clean=1.0)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


STATISTICS: dict[str, tuple[Any, Any, str]] = {
    "0-255": ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4), "looks like that of pixels in 0..255"),
    "std alone": ((0.0, 0.0, 0.0), (58.4, 57.1, 57.4), "divide it by 255"),
    "nan": ((float("nan"),) * 3, (0.2,) * 3, "must be finite"),
    "infinite": ((0.5,) * 3, (float("inf"),) * 3, "must be finite"),
    "zero": ((0.5,) * 3, (0.0,) * 3, "std must be positive"),
    "lengths": ((0.5,) * 3, (0.2,), "one value per channel"),
    "nothing": ((), (), "one value per channel"),
    "text": ("abc", "def", "is no list of numbers"),
}


@pytest.mark.parametrize("case", STATISTICS)
def test_a_faulty_mean_or_std_is_one_line(case: str):
    mean, std, says = STATISTICS[case]
    with pytest.raises(SparringError) as error:
        sparring.load_model(NET, mean=mean, std=std)
    assert says in str(error.value)


def test_mean_and_std_may_be_tensors():
    plain, tensors = ([0.5] * 3, [0.25] * 3), {"mean": torch.tensor([0.5] * 3), "std": torch.tensor([0.25] * 3)}
    given: dict[str, Any] = tensors
    assert torch.equal(sparring.load_model(NET, *plain)(X), sparring.load_model(NET, **given)(X))


@pytest.mark.parametrize("field", ["eps", "seed", "limit", "draws", "block", "slots", "expect_clean"])
def test_true_is_no_number(field: str):
    true: dict[str, Any] = {field: True}
    with pytest.raises(SparringError, match=f"{field}=True is not valid"):
        sparring.evaluate(NET, (X, Y), [], ["adaptive"], ["fgsm"], large_eps=True, **true)


@pytest.mark.parametrize("law", ["gauss", "uniform", "laplace", "sign"])
def test_noise_of_no_size_is_no_noise(law: str):
    result = sparring.evaluate(NET, (X, Y), [f"{law}:std=0"], ["adaptive"], [ATTACKS[0]], expect_clean=1.0)
    plain, noisy = (c.robust_accuracy for c in result.cells)
    assert plain == noisy
    assert [f.check for f in result.findings if not f.ok and f.defense == f"{law}:std=0"] == [
        "P12",
        "X2",
    ]  # the test's attack takes few steps


@pytest.mark.parametrize("text", ["gauss:std=1e-12", "resize-pad:scale=1"])
def test_noise_that_moves_nothing_is_said_to_be_too_weak(text: str):
    with pytest.raises(SparringError, match="other judge keys move no logit: the noise is too weak"):
        sparring.evaluate(NET, (X, Y), [text], ["adaptive"], [ATTACKS[0]], expect_clean=1.0)


def test_undeclared_noise_is_said_by_its_check():
    with pytest.raises(SparringError, match="P3 failed: declared deterministic, but logits differ"):
        sparring.evaluate(NET, (X, Y), [Undeclared()], ["adaptive"], [ATTACKS[0]], expect_clean=1.0)


class Undeclared(InputDefense):
    """Noise that its surrogate says nothing of."""

    def stage(self) -> Stage:
        return FunctionStage(lambda x, noise: x + 0.1 * noise.normal("hidden", x.shape[1:]), name="hidden")


@pytest.mark.parametrize("name", ["hgd", "s2snet", "ace", "rse"])
def test_a_folder_is_no_weights_file(name: str):
    with pytest.raises(SparringError, match=r"weights file \. is no file"):
        sparring.evaluate(NET, (X, Y), [f"{name}:weights=."], ["adaptive"], [ATTACKS[0]])


def test_sources_that_no_threat_asks_are_refused():
    with pytest.raises(
        SparringError,
        match=r"sources are used by no threat of adaptive: name one that asks them \(ensemble, transfer, twin\)",
    ):
        sparring.evaluate(NET, (X, Y), [], ["adaptive"], [ATTACKS[0]], sources=["small_cnn"])


def test_probabilities_are_warned_of_where_gradients_are_asked():
    """Losses on them saturate, and a call has no report that would say so."""
    soft = Around(lambda net, x: net(x).softmax(1))
    with pytest.warns(UserWarning, match="returns probabilities"):
        attack("pgd:eps=0.1,steps=1").run(soft, X, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attack("pgd:eps=0.1,steps=1").run(NET, X, Y)
        attack("square:eps=0.1,steps=1").run(soft, X, Y)
