"""Each part of a check's condition by itself: a context that fires it alone, or that must not fire it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import sparring
from sparring.checks.base import Context, Finding
from sparring.checks.controls import FunctionStage, context, images, linear_net
from sparring.core.registry import CHECKS


def ask(name: str, seen: Context) -> Finding:
    return next((f for f in CHECKS[name].run(seen) if not f.ok), CHECKS[name].run(seen)[0])


def staged(function, random: bool = False, x: Tensor | None = None) -> Context:
    return context(stages=(FunctionStage(function, random=random),), x=x)


@pytest.mark.parametrize("bad", [-0.01, 1.01, math.nan, math.inf])
def test_p1_fires_on_one_bad_pixel(bad):
    x = images()
    x[3, 1, 2, 2] = bad
    assert ask("P1", context(x=x)).stops
    assert ask("P1", context(x=images() * (1 - 1e-7))).ok


class Counts(nn.Module):
    """Its forward pass moves a buffer, in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.net = linear_net()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.net(x)


def test_p2_fires_where_a_forward_pass_changes_a_buffer():
    found = ask("P2", context(Counts().eval()))
    assert found.stops
    assert "calls" in found.message


def test_p3_warns_of_declared_randomness_that_never_varies():
    found = ask("P3", staged(lambda x, n: x + 0.1, random=True))
    assert (found.ok, found.severity) == (False, "WARN")
    assert ask("P3", staged(lambda x, n: x + n.normal("n", x.shape[1:]), random=True)).ok


class Noisy(nn.Module):
    """Draws from torch's own generator, whatever is put in front of it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = linear_net()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x + 0.1 * torch.randn_like(x))


def test_p3_says_whether_a_stage_or_the_network_draws():
    within = ask("P3", context(Noisy().eval()))
    assert within.stops
    assert "the network draws this noise itself" in within.message
    before = ask("P3", staged(lambda x, n: x + 0.1 * n.normal("n", x.shape[1:])))
    assert before.stops
    assert "declare it random" in before.message


SEEN: list[tuple[Tensor, Tensor]] = []  # in a module: no copy of the network brings its own


class Remembers(nn.Module):
    """Gives every image near one it has seen the answer that it gave then; it keeps images of 8 bits."""

    def __init__(self) -> None:
        super().__init__()
        self.net = linear_net()

    def forward(self, x: Tensor) -> Tensor:
        answers = []
        for image, z in zip(x, self.net(x), strict=True):
            known = next((old for key, old in SEEN if (key - image).abs().max() < 0.15), None)
            if known is None and torch.equal((255 * image).round() / 255, image):
                SEEN.append((image.detach().clone(), z.detach().clone()))
            answers.append(z if known is None else known + 1e-6 * z)
        return torch.stack(answers)


def test_p3_finds_who_keeps_what_it_has_seen():
    SEEN.clear()
    said = ask("P3", context(Remembers().eval()))
    assert said.stops
    assert "keeps what it has seen" in said.message


@pytest.mark.parametrize("random", [False, True])
def test_p3_names_answers_that_are_no_numbers(random):
    """They differ from themselves: the advice was to declare them random."""
    said = ask("P3", staged(lambda x, n: torch.where(x > 0.99, math.nan, x), random=random))
    assert said.stops
    assert "are not finite" in said.message


def _with_company(x: Tensor, noise) -> Tensor:
    return x + 0.3 * x * (len(x) > 1)


def _by_position(x: Tensor, noise) -> Tensor:
    at = torch.arange(len(x))
    return x + 0.3 * x * ((at >= 8) & (at < 12))[:, None, None, None]


def _beside_bright_ones(x: Tensor, noise) -> Tensor:
    return x + 0.3 * x * (x[:, 0, 0, 0].max() > 0.5)


@pytest.mark.parametrize("stage", [_with_company, _by_position, _beside_bright_ones])
def test_p4_fires_on_each_kind_of_company(stage):
    x = images()
    x[:, 0, 0, 0] = 51 / 255
    assert ask("P4", staged(stage, x=x)).stops
    assert ask("P4", staged(lambda u, n: 1.3 * u, x=x)).ok


class Outputs(nn.Module):
    """The same four numbers for every image."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = torch.tensor(values)

    def forward(self, x: Tensor) -> Tensor:
        return self.values + 0 * x.flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize(
    ("values", "ok"),
    [
        ((0.1, 0.2, 0.3, 0.4), False),
        ((0.1, 0.2, 0.9, 0.4), True),
        ((0.9, 0.9, -0.4, -0.4), True),
        ((2, 1, -1, -1), True),
    ],
)
def test_p5_fires_on_probabilities_and_on_nothing_that_only_resembles_them(values, ok):
    assert ask("P5", context(Outputs(*values).eval())).ok is ok


@pytest.mark.parametrize(
    ("right", "declared", "ok"),
    [
        (24, 0.99, True),
        (24, 0.85, True),
        (24, 0.78, False),
        (12, 0.99, False),
        (12, 0.5, True),
        (12, 0.2, False),
        (0, 0.01, True),
    ],
)
def test_p8_takes_the_99_percent_interval_and_a_point(right, declared, ok):
    """Clopper-Pearson of 24 of 24 at 99 % begins at 0.005^(1/24) = 0.802, at 90 % at 0.883."""
    made = context()
    y = made.y.clone()
    y[right:] = (y[right:] + 1) % 4
    assert ask("P8", context(expected_clean=declared, y=y)).ok is ok


def _square_root(x: Tensor, noise) -> Tensor:
    return x.sqrt()


def _deaf_to_bright_ones(x: Tensor, noise) -> Tensor:
    return torch.where(x[:, :1, :1, :1] > 0.5, x.detach(), x)


def test_p10_fires_on_gradients_that_are_not_finite():
    x = images().clamp_min(0.1)
    assert ask("P10", staged(_square_root, x=x)).ok
    x[:, 0, 0, 0] = 0  # the slope of a square root at 0 is infinite
    assert not ask("P10", staged(_square_root, x=x)).ok


def test_p10_fires_where_one_image_of_24_loses_its_gradient():
    x = images()
    x[:, 0, 0, 0] = 51 / 255
    assert ask("P10", staged(_deaf_to_bright_ones, x=x)).ok
    x[5, 0, 0, 0] = 1
    found = ask("P10", staged(_deaf_to_bright_ones, x=x))
    assert not found.ok
    assert found.value == pytest.approx(1 / 24)


@pytest.mark.parametrize(("changed", "ok"), [(0, False), (1, False), (4, True)])
def test_p12_asks_for_one_percent_of_the_inputs(changed, ok):
    x = images(200)
    x[:, 0, 0, 0] = 51 / 255
    x[:changed, 0, 0, 0] = 1
    found = ask("P12", staged(lambda u, n: torch.where(u[:, :1, :1, :1] > 0.5, 0.9 * u, u), x=x))
    assert found.ok is ok
    assert found.value == changed / 200


def test_p13_fires_on_noise_that_ignores_its_keys():
    found = ask("P13", staged(lambda x, n: x + 0.1, random=True))
    assert found.stops
    assert "keys" in found.message


@pytest.mark.parametrize(("classes", "ok"), [(2, False), (3, False), (4, True), (10, True)])
def test_p14_names_what_few_classes_change(classes, ok):
    assert ask("P14", context(linear_net(classes=classes))).ok is ok


class LastDigits(nn.Module):
    """Moves its logits by the last digits of a sum, and by how many images it sees, as kernels do whose sums a network rounds."""

    def __init__(self, digits: float) -> None:
        super().__init__()
        self.net, self.digits = linear_net(), digits
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        chaos = torch.sin(self.digits * x.double().sum((1, 2, 3)) + len(x)).to(x)
        return self.net(x) + chaos[:, None] * torch.arange(4)


@pytest.mark.parametrize(("digits", "severity"), [(1e8, "WARN"), (0.0, "FATAL")])
def test_p4_warns_where_last_digits_move_as_much_as_company(digits, severity):
    found = ask("P4", context(LastDigits(digits)))
    assert (found.ok, found.severity) == (False, severity)


@pytest.mark.parametrize(("eps", "said"), [("0.1", True), ("25/255", False), ("8/255", False), ("0.001", False)])
def test_p17_says_of_a_budget_between_levels_what_8_bit_images_have_of_it(eps, said):
    """At eps 0.1 the 8-bit number read 48 % where it is 38 at 25/255."""
    answers = CHECKS["P17"].run(context(attacks=[sparring.attack(f"pgd:eps={eps}")]))
    assert all(a.ok for a in answers)
    assert any("25/255" in a.message and a.severity == "INFO" for a in answers) == said
