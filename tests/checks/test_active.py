"""Active checks and what follows from them, on masked and honest networks from end to end."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import sparring
from sparring.checks.active.g03_eot import draws_that_agree
from sparring.checks.controls import FunctionStage, images, linear_layer, linear_net
from sparring.checks.trials import run_active_checks, toy_trial
from sparring.core.access import Access
from sparring.core.noise import Noise
from sparring.core.registry import CHECKS
from sparring.core.system import Readout

X = images(24)
Y = linear_net()(X).argmax(1).detach()


def fired(findings) -> set[str]:
    return {f.check for f in findings if not f.ok}


class Outside(nn.Module):
    """Computed by another library: no gradient, and nothing that could be mended."""

    def __init__(self) -> None:
        super().__init__()
        self.net = linear_net(scale=0.05)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(torch.from_numpy(x.detach().numpy()))


class Shattered(nn.Module):
    """A true gradient that leads nowhere: a fast sine on top of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.net = linear_net(scale=0.05)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x + 0.1 * torch.sin(1e4 * x))


@pytest.mark.usefixtures("whole_searches")
@pytest.mark.parametrize("network", [Outside, Shattered])
def test_what_gradients_cannot_see_is_searched(network):
    """White-box attacks alone would call it robust; the checks say why not, and the search that they ask for breaks it."""
    result = sparring.evaluate(network(), (X, network()(X).argmax(1)), [], ["adaptive"], ["pgd:eps=0.2,steps=10"])
    assert result.cells[0].robust_accuracy > 0.3
    assert {"S1", "F1"} <= fired(result.findings)
    assert result.closed[0].robust_accuracy < 0.1
    assert result.closed[0].robust_accuracy < result.cells[0].robust_accuracy
    assert [c.attack for c in result.cells] == ["pgd:steps=10,eps=0.2"], "the search is no attack of the user's table"


def test_an_honest_network_with_survivors_is_not_suspected():
    result = sparring.evaluate(linear_net(), (X, Y), [], ["adaptive"], ["apgd:eps=0.005,steps=20"])
    assert result.closed[0].robust_accuracy > 0.5
    assert {"S1", "PL", "X5"} <= {f.check for f in result.findings}
    assert not fired(result.findings)


def test_the_slope_of_a_shattered_stage():
    sine = FunctionStage(lambda x, noise: x + 0.1 * torch.sin(1e4 * x), name="sine")
    found = fired(run_active_checks(toy_trial((sine,))))
    assert "S1" in found


def test_a_random_stage_is_measured_at_a_fixed_draw():
    noise = FunctionStage(lambda x, n: x + 0.05 * n.normal("g", x.shape[1:]), name="gauss", random=True)
    found = run_active_checks(toy_trial((noise,)))
    assert not {f.check for f in found if not f.ok and f.severity == "FAIL"}


def test_a_resumed_run_keeps_its_follow_up(tmp_path):
    call = (Outside(), (X, Outside()(X).argmax(1)), [], ["adaptive"], ["pgd:eps=0.2,steps=5"])
    first = sparring.evaluate(*call, out=tmp_path / "run")
    again = sparring.evaluate(*call, out=tmp_path / "run")
    assert again.closed == first.closed
    said = [[(f.check, f.ok, f.value, f.message) for f in r.findings if f.check != "P8"] for r in (first, again)]
    assert said[0] == said[1]


class Honeypot(nn.Module):
    """Decides by one network, in Python's numbers, and shows the logits of another that has nothing to do with it. ``seen``: by logits that
    torch computes.
    """

    def __init__(self, seen: bool) -> None:
        super().__init__()
        self.net, self.decoy = linear_net(scale=0.05), linear_net(seed=3, scale=0.01)
        self.seen = seen
        self.eval()

    def logits(self, x: Tensor) -> list[list[float]]:
        if self.seen:
            return self.net(x).tolist()
        layer = linear_layer(self.net)
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        return (x.detach().flatten(1).numpy() @ weight.T + bias).tolist()

    def forward(self, x: Tensor) -> Tensor:
        decided = [max(range(4), key=row.__getitem__) for row in self.logits(x)]
        return 10.0 * torch.nn.functional.one_hot(torch.tensor(decided), 4) + self.decoy(x)


@pytest.mark.parametrize(("seen", "word"), [(False, "ATTACK_NOT_TRUSTED"), (True, "BROKEN")])
def test_a_decoys_slopes_are_not_taken_for_the_decisions(seen, word):
    """Its gradients are exact and its planted targets reachable; only the boundary shows that neither has to do with the label. Where what
    decides can be seen, the follow-up attacks that.
    """
    net = Honeypot(seen)
    result = sparring.evaluate(net, (X, net(X).argmax(1)), [], ["adaptive"], ["apgd:eps=0.05,steps=10"])
    assert "S2" in fired(result.findings)
    assert {v.word for v in result.verdicts} == {word}
    assert (result.closed[0].robust_accuracy > 0.3) != seen


def test_a_search_that_finds_nothing_does_not_excuse_the_attack(monkeypatch):
    """Goals that neither reaches are left out, but half of them must be within reach."""
    blind = "sparring.checks.active.pl_planted._search"
    monkeypatch.setattr(blind, lambda chosen: sparring.attack("random_search:steps=1,eps=1e-6"))
    weak = replace(toy_trial(), attack=sparring.attack("apgd:steps=20,eps=1.2/255"))
    (found,) = CHECKS["PL"].run(weak)
    assert "reaches 6 of 6 planted targets" in found.message
    assert not found.ok


class Partial(nn.Module):
    """Half of its pixels go through numpy: no gradient, and right where there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.net = linear_net()
        self.mask = (torch.arange(64).reshape(8, 8) + torch.arange(8)[:, None]) % 2
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        apart = torch.from_numpy(x.detach().numpy().copy())
        return self.net(torch.where(self.mask.bool(), x, apart))


class Levels(nn.Module):
    """An honest network on pixels of 16 levels: its loss moves in steps, which no gradient explains."""

    def __init__(self) -> None:
        super().__init__()
        self.net = linear_net()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x + ((x * 15).round() / 15 - x).detach())


@pytest.mark.parametrize(("net", "ok"), [(Partial(), False), (Levels(), True), (linear_net(), True)])
def test_a_gradient_for_part_of_an_image_is_no_gradient(net, ok):
    """S1 stepped along the gradient alone: 87.5 % were trusted where 58 % stand."""
    found = CHECKS["S1"].run(toy_trial(model=net))
    assert found[0].ok == ok, found[0].message
    assert ok or "is not in the gradient" in found[0].message


class Shared(nn.Module):
    """The mean of two networks; one of them sees the image through numpy, in ``share`` of the answer."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.shown, self.hidden, self.share = linear_net(), linear_net(seed=1), share
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        apart = torch.from_numpy((x.detach().numpy() * 15).round() / 15)
        return (1 - self.share) * self.shown(x) + self.share * self.hidden(apart)


@pytest.mark.parametrize(
    ("net", "ok"), [(Shared(0.6), False), (Shared(0.4), False), (Partial(), False), (linear_net(), True)]
)
def test_what_a_hidden_half_does_is_missing_from_the_gradient(net, ok):
    """Its shown half has true and useful slopes: S1 passed, and 31 % were trusted where 22 % stand."""
    (found,) = CHECKS["S3"].run(toy_trial(model=net))
    assert found.ok == ok, found.message
    assert ok or "part of the network is hidden" in found.message


def test_lines_leave_out_stages_with_a_declared_backward():
    """Rounding to two levels is no line, and nobody said that the gradient that stands in for it is one."""
    stage = FunctionStage(lambda x, noise: (x > 0.5).to(x.dtype), backward="identity")
    (found,) = CHECKS["S3"].run(toy_trial((stage,)))
    assert found.ok


def test_lines_ask_survivors_alone():
    assert not CHECKS["S3"].run(replace(toy_trial(model=Shared(0.5)), survivors=torch.zeros(24, dtype=torch.bool)))


class Holes(nn.Module):
    """No number wherever a pixel is far from the image: nothing can be said of lines that end there."""

    def __init__(self) -> None:
        super().__init__()
        self.net = linear_net()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        near = (x[:, None] - X).abs().flatten(2).amax(2).amin(1) < 0.02
        return torch.where(near[:, None], self.net(x), torch.nan)


def test_lines_that_end_in_no_number_are_missing_not_fine():
    (found,) = CHECKS["S3"].run(toy_trial(model=Holes()))
    assert not found.ok


class Plateau(nn.Module):
    """Saturated near the images, a linear classifier beyond: an attack that begins at an image has no gradient, one that begins half way has."""

    def __init__(self) -> None:
        super().__init__()
        self.net = linear_net()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        apart = (x[:, None] - X).abs().flatten(2).mean(2).amin(1)[:, None]
        flat = nn.functional.one_hot(self.net(x).argmax(1), 4).to(x.dtype)
        return torch.where(apart < 0.25 * 12 / 255, flat, self.net(x))


def _beyond(x: Tensor, y: Tensor) -> Tensor:
    """Where the linear classifier errs, 12/255 away."""
    return sparring.attack("apgd:eps=12/255,steps=20").run(linear_net(), x, y).x


@pytest.mark.parametrize(("net", "ok"), [(Plateau(), True), (Outside(), False)])
def test_half_way_tells_a_bad_start_from_a_blind_gradient(net, ok):
    (found,) = CHECKS["S4"].run(toy_trial(model=net, missed=_beyond))
    assert found.ok == ok, found.message
    assert ("they begin at the wrong place" if ok else "they are blind there") in found.message


def test_half_way_says_nothing_where_gradients_missed_nothing():
    assert not CHECKS["S4"].run(toy_trial())


@pytest.mark.parametrize(("loudness", "least", "most"), [(0.0, 1, 1), (0.8, 2, 4), (1e4, 8, 8)])
def test_draws_are_as_few_as_agree(loudness, least, most):
    """A gradient whose noise is ``loudness`` times its length: two averages of m draws have the cosine 1 / (1 + loudness^2 / m)."""

    class Shaken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: Tensor, shake: Tensor) -> Tensor:
            ctx.save_for_backward(shake)
            return x.clone()

        @staticmethod
        def backward(ctx, *grad_outputs: Tensor):
            (shake,), grad = ctx.saved_tensors, grad_outputs[0]
            long = grad.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
            return grad + loudness * long * shake, None

    def forward(x: Tensor, noise: Noise) -> Tensor:
        shake = noise.normal("shake", x.shape[1:]).to(x.dtype)
        return Shaken.apply(x, shake / shake.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1))

    # the smallest m with 1 / (1 + loudness^2 / m) >= .8 is 4 loudness^2, and the views have 8
    asked = draws_that_agree(toy_trial((FunctionStage(forward, random=True),)))
    assert least <= asked <= most


class Filtered(nn.Module):
    """A filter of 3x3 pixels in front of a linear classifier: an honest gradient, and none where pixels are alike."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.net, self.kind = linear_net(), kind
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "maximum":
            return self.net(nn.functional.max_pool2d(x, 3, 1, 1))
        if self.kind == "minimum":
            return self.net(-nn.functional.max_pool2d(-x, 3, 1, 1))
        around = nn.functional.unfold(nn.functional.pad(x, [1] * 4, mode="reflect"), 3)
        return self.net(around.reshape(len(x), 3, 9, 8, 8).median(2).values)


@pytest.mark.parametrize("kind", ["maximum", "median", "minimum"])
def test_flat_images_behind_a_filter_are_no_missing_gradient(kind):
    """Half of each image is black, as a digit's ground is: there a median of equal pixels has no gradient, and S1 called it masked."""
    net, flat = Filtered(kind), X.clone()
    flat[:, :, :4] = 0.0
    trial = replace(toy_trial(model=net), x=flat, points=flat, y=net(flat).argmax(1).detach())
    (found,) = CHECKS["S1"].run(trial)
    assert found.ok, found.message


def test_a_vote_of_fixed_draws_is_judged_at_the_draw_that_is_attacked():
    """A vote over five frozen draws is another function than the one draw that the attack saw: it read as masked."""

    def shaken(x: Tensor, noise: Noise) -> Tensor:
        return x + 0.3 * noise.normal("gauss", x.shape[1:]).to(x.dtype)

    trial = toy_trial((FunctionStage(shaken, random=True),))
    voted = replace(trial.deployed, readout=Readout("vote", 5))
    left = torch.zeros(len(trial.x), dtype=torch.bool)
    (found,) = CHECKS["X13"].run(replace(trial, deployed=voted, survivors=left, eps=0.02))
    assert found.ok, found.message


class Ripple(nn.Module):
    """True gradients of a ripple that is much steeper than what it rides on: two means of them agree on nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.net = linear_net()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x + 0.02 * torch.sin(1e4 * x))


def test_lines_of_gradients_that_agree_on_nothing_are_missing():
    (found,) = CHECKS["S3"].run(toy_trial(model=Ripple()))
    assert not found.ok
    assert found.value == 1


class Quiet(nn.Module):
    """mnist_cnn with logits so small that cross-entropy sees all classes as one: the same labels, margins in the same order."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.net, self.scale = sparring.load_model("mnist_cnn"), scale
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) * self.scale


def test_a_loss_that_the_scale_of_the_logits_blinds_is_not_trusted():
    """The user names PGD on cross-entropy and no other attack; what it left is attacked once more by a loss without a scale."""
    loud, quiet = (
        sparring.evaluate(Quiet(scale), "mnist5k", [], ["oblivious"], ["pgd:eps=0.1"], limit=24)
        for scale in (1.0, 1e-3)
    )
    assert "X2" in fired(quiet.findings)
    (verdict,) = quiet.verdicts
    assert verdict.word == "ATTACK_NOT_TRUSTED"
    assert verdict.robust_accuracy <= loud.verdicts[0].robust_accuracy + 0.05, "what was found counts"


def test_the_quick_tiers_own_attacks_are_not_tried_once_more():
    tier = sparring.evaluate(linear_net(), (X, Y), [], ["adaptive"], eps=[0.005], tier="quick")
    assert "X2" not in {f.check for f in tier.findings}
    named = sparring.evaluate(linear_net(), (X, Y), [], ["adaptive"], ["apgd:eps=0.005,steps=20"], tier="quick")
    assert [f.ok for f in named.findings if f.check == "X2"] == [True]


def test_attacks_on_a_number_of_pixels_are_tried_once_more_too():
    """No projection, no cross-entropy: what follows has to know l0."""
    result = sparring.evaluate(linear_net(scale=0.2), (X, Y), [], ["adaptive"], ["jsma:eps=3"])
    assert {"PL", "X5"} <= {f.check for f in result.findings}
    assert result.closed[0].robust_accuracy < 1 or [f.ok for f in result.findings if f.check == "X2"]


@pytest.mark.parametrize(
    ("threat", "attack", "says"),
    [
        ("score", "square:steps=9,eps=0.1", {"X2"}),
        ("score", "square:steps=4999,eps=0.1", set()),
        ("score:queries=10", "square:steps=9,eps=0.1", set()),
        ("score", "square:steps=999,p=0.001,eps=0.1", {"X2"}),
        ("score", "square:steps=10,restarts=100,eps=0.1", {"X2"}),
        ("score", "spsa:steps=10,eps=0.1", {"X2"}),
        ("score:queries=400", "square:steps=399,eps=0.1", set()),
        ("score", "single_pixel:steps=1000,eps=30", {"X2"}),
        ("score", "one_pixel:pixels=20,eps=20,population=100,steps=9", {"X2"}),
        ("score", "sparse_rs:steps=999,eps=3", set()),
        ("decision:queries=300", "hopskipjump:norm=l2,queries=900,eps=0.5", set()),
        ("decision", "hopskipjump:norm=linf,queries=1000,samples=900,eps=0.15", {"X2"}),
        ("decision:queries=300", "rays:queries=300,eps=0.1", set()),
        ("decision", "salt_pepper:norm=l0,eps=12,steps=1000,restarts=3", {"X2"}),
        ("score", "salt_pepper:norm=l1,eps=30,steps=1000,restarts=3", {"X2"}),
    ],
)
def test_who_may_ask_more_and_did_not_is_not_trusted(threat, attack, says):
    """A number under a threat that allows so many queries is about an attacker who asks them, as well as is known."""
    result = sparring.evaluate("mnist_cnn", "mnist5k", [], [threat], [attack], limit=12)
    assert fired(result.findings) & {"R6", "R15", "X2"} == says
    assert {v.word for v in result.verdicts} == {"ATTACK_NOT_TRUSTED" if says else "NOT_BROKEN_YET"}


@pytest.mark.parametrize(
    ("threat", "attack"),
    [
        ("score", "square:steps=999,eps=0.15"),
        ("decision:answers=1", "hopskipjump:norm=linf,queries=1000,samples=900,eps=0.15"),
    ],
)
def test_behind_noise_a_search_that_its_luckiest_answer_leads_is_not_trusted(threat, attack):
    """A fit over all answers, one draw each, takes more."""
    result = sparring.evaluate("mnist_cnn", "mnist5k", ["gauss:std=0.2"], [threat], [attack], limit=16, baseline="")
    number = next(c for c in result.closed if c.defense == "gauss:std=0.2")
    named = next(c for c in result.cells if c.defense == "gauss:std=0.2")
    assert number.robust_accuracy < named.robust_accuracy - 0.05
    assert result.word_on(number) == "ATTACK_NOT_TRUSTED"


class Coarse(torch.nn.Module):
    """Scores of 0 and 10: every step of a search by scores is hidden, the label's change is not."""

    def __init__(self) -> None:
        super().__init__()
        self.net = sparring.load_model("mnist_cnn")
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        scores = self.net(x)
        return 10 * torch.nn.functional.one_hot(scores.argmax(1), scores.shape[1]).to(x.dtype)


def test_scores_as_coarse_as_labels_are_searched_by_labels_too():
    """Square left 74 % of 50 images "trusted" where RayS leaves 8."""
    result = sparring.evaluate(Coarse(), "mnist5k", [], ["score"], ["square:steps=999,eps=0.2"], limit=16)
    (number,), named = result.closed, result.cells[0]
    assert number.robust_accuracy <= named.robust_accuracy - 0.3
    assert result.word_on(number) in ("ATTACK_NOT_TRUSTED", "BROKEN")


def test_where_no_search_is_known_nothing_is_trusted():
    result = sparring.evaluate(
        "mnist_cnn", "mnist5k", ["gauss:std=0.1"], ["score"], ["sparse_rs:steps=999,eps=2"], limit=8
    )
    said = [f for f in result.findings if f.check == "R16" and f.defense == "gauss:std=0.1" and not f.ok]
    assert {v.word for v in result.verdicts if v.defense == "gauss:std=0.1"} == {"ATTACK_NOT_TRUSTED"}
    assert "nothing is known to search well" in said[0].message


def test_the_quick_tier_asks_what_score_allows():
    result = sparring.evaluate("mnist_cnn", "mnist5k", [], ["score"], eps=[0.1], limit=8)
    assert "R15" not in fired(result.findings)
    assert "square:steps=999,eps=0.1" in {str(c.attack) for c in result.cells}


@pytest.mark.parametrize("attack", ["pgd:norm=linf,eps=0.01", "pgd:norm=l2,eps=0.1", "pgd:norm=l1,eps=1", "jsma:eps=3"])
def test_planted_goals_are_searched_in_every_norm(attack):
    from sparring.checks.active.pl_planted import _search

    chosen = sparring.attack(attack)
    search = _search(chosen)
    assert (search.norm, search.budget) == (chosen.norm, chosen.budget)
    assert search.method.needs <= Access.SCORES
