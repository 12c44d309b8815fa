"""Attacks of other libraries in our seats: they see the seat's source, our judge counts, and ours is not weaker."""

import numpy as np
import pytest
import torch

import sparring
from sparring.attacks.libraries import LIBRARIES, Library
from sparring.checks.controls import images, linear_net
from sparring.core.errors import SparringError
from sparring.core.geometry import distance
from sparring.core.victim import Victim

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def case(resnet20, cifar):
    pytest.importorskip("foolbox", reason="extra peers is not installed")
    return resnet20, cifar.x[:16], cifar.y[:16]


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [
        "torchattacks.PGD:eps=4/255,alpha=1/255,steps=10",
        "foolbox.LinfPGD:eps=4/255,rel_stepsize=0.25,steps=10",
        "foolbox.L2DeepFoolAttack:norm=l2",
    ],
)
def test_a_foreign_attack_is_judged_in_an_oblivious_seat(case, spec):
    pytest.importorskip(spec.partition(".")[0], reason="extra peers is not installed")
    model, x, y = case
    result = sparring.evaluate(model, (x, y), ["cd:values=16"], ["oblivious"], [spec])
    bare, defended = (next(c for c in result.cells if c.defense == d) for d in ("none", "cd:values=16"))
    assert bare.robust_accuracy <= 0.1
    assert bare.source_fooled >= 0.9
    # a fixed budget fools the defended network too, the nearest point does not
    assert (defended.robust_accuracy >= 0.5) == ("DeepFool" in spec)
    assert bare.attack == str(sparring.attack(spec))
    assert bare.forwards_per_image > 5


@pytest.mark.slow
def test_it_sees_the_defense_where_the_seat_shows_it(case):
    """Adaptive: gradients through the color-depth stage's declared backward, so that it falls as the bare one does."""
    model, x, y = case
    spec = "foolbox.LinfPGD:eps=4/255,rel_stepsize=0.25,steps=10"
    cell = next(
        c
        for c in sparring.evaluate(model, (x, y), ["cd:values=16"], ["white-identity"], [spec]).cells
        if c.defense != "none"
    )
    assert cell.robust_accuracy <= 0.1


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("foolbox.LinfPGDD:eps=0.1", "LinfPGD"),
        ("foolbox.LinfPGD:eps=0.1,stepz=3", "steps"),
        ("foolbox.LinfPGD:norm=l7", "norm=l7"),
        ("foolbox.LinfPGD:eps=much", "eps=much"),
    ],
)
def test_bad_specs_are_refused_in_one_line(spec, says):
    pytest.importorskip("foolbox", reason="extra peers is not installed")
    with pytest.raises(SparringError, match=says):
        sparring.attack(spec)


def test_what_a_foreign_attack_cannot_keep_is_refused(case):
    model, x, y = case
    with pytest.raises(SparringError, match="mask="):
        sparring.attack("foolbox.LinfPGD:eps=4/255").run(model, x, y, mask=torch.ones(16, 1, 32, 32))


def drawn():
    """A number that NumPy's global generator would draw next."""
    state = np.random.get_state()
    number = np.random.random()
    np.random.set_state(state)
    return number


@pytest.mark.parametrize(
    "spec",
    [
        "foolbox.LinfPGD:eps=0.1,steps=10",
        "torchattacks.APGD:norm=l2,eps=1,steps=10",
        "art.ProjectedGradientDescent:eps=0.1,eps_step=0.025,max_iter=10",
        "art.ProjectedGradientDescent:norm=l2,eps=1,eps_step=0.25,max_iter=10",
        "adv_lib.pgd_linf:eps=0.1,steps=10",
        "adv_lib.apgd:norm=l1,eps=5,n_iter=10",
        "adv_lib.ddn:steps=20",
    ],
)
def test_points_of_every_library_lie_in_the_ball_that_was_asked_for(spec):
    """Its eps and its norm are those of the spec, the same seed gives the same points, and the global generators stay as they were."""
    pytest.importorskip(spec.partition(".")[0], reason="the library is not installed")
    x, net = images(8), linear_net(scale=0.05)
    y, attack, torchs, numpys = net(x).argmax(1), sparring.attack(spec), torch.get_rng_state(), drawn()
    outcome = attack.run(net, x, y)
    assert torch.equal(torch.get_rng_state(), torchs)
    assert drawn() == numpys
    assert torch.equal(attack.run(net, x, y).x, outcome.x)
    assert outcome.success.float().mean() >= 0.5
    assert bool((distance(outcome.x - x, attack.norm) <= attack.budget * 1.0001).all())
    assert not outcome.stopped.any(), "none was outside"
    assert sparring.attack(str(attack)) == attack


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("foolbox.LinfPGD:eps=0.1,alpha=0.01", "calls it abs_stepsize"),
        ("torchattacks.PGD:eps=0.1,eps_step=0.01", "calls it alpha"),
        ("art.ProjectedGradientDescent:eps=0.1,alpha=0.01", "calls it eps_step"),
        ("adv_lib.pgd_linf:eps=0.1,rel_stepsize=0.1", "calls it relative_step_size"),
        ("art.DeepFool:alpha=0.01", r"docs/migration\.md"),
        ("art.ProjectedGradientDescent:eps=0.1,targeted=true", "targeted"),
        ("adv_lib.ddn:targeted=true", "targeted"),
        ("foolbox.L2PGD:norm=linf,eps=0.1", "an attack in l2"),
        ("torchattacks.PGD:norm=l2,eps=0.5", "an attack in linf"),
        ("adv_lib.fmn:steps=3", "which norm"),
        ("adv_lib.nope", "no attack 'nope'"),
    ],
)
def test_fields_are_named_as_the_library_names_them(spec, says):
    """A targeted attack would aim at the true label, and one in another norm would miss its ball: both look robust."""
    pytest.importorskip(spec.partition(".")[0], reason="the library is not installed")
    with pytest.raises(SparringError, match=says):
        sparring.attack(spec)


def test_who_lacks_a_library_is_told_its_name(monkeypatch):
    monkeypatch.setattr("sparring.attacks.libraries.find_spec", lambda name: None)
    with pytest.raises(SparringError, match="pip install --no-deps adv-lib"):
        sparring.attack("adv_lib.ddn")


class Faulty(Library):
    """A library whose one attack returns whatever ``answer`` makes of the images and of points that fool."""

    name = "faulty"
    module = "builtins"

    def __init__(self, answer):
        self.answer = answer

    def attack(self, name):
        return lambda model, eps=None: None

    def norm(self, name):
        return "linf"

    def call(self, name, question):
        x = question.x.clone().requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(question.network(x), question.y)
        return self.answer(question.x, torch.autograd.grad(loss, x)[0].sign())


def judged_with(monkeypatch, answer, *more, spec="faulty.attack:eps=0.02"):
    monkeypatch.setitem(LIBRARIES, "faulty", Faulty(answer))
    x, net = images(8), linear_net(scale=0.05)
    return sparring.evaluate(net, (x, net(x).argmax(1)), [], ["adaptive"], [spec, *more])


@pytest.mark.parametrize(
    "answer",
    [
        lambda x, g: (x + 0.3 * g).clamp(0, 1),
        lambda x, g: x - 0.02 * g + 2,
        lambda x, g: x * float("nan"),
        lambda x, g: torch.where(torch.arange(8)[: len(x), None, None, None] == 0, float("inf"), x + 0.02 * g),
        lambda x, g: (x + 0.3 * g).clamp(0, 1).double().numpy(),
    ],
    ids=["outside the ball", "outside the box", "nan", "one is infinite", "doubles"],
)
def test_points_that_are_none_are_never_robust_in_silence(monkeypatch, answer):
    result = judged_with(monkeypatch, answer)
    (said,) = [f for f in result.findings if f.check == "R7"]
    assert not said.ok
    assert "not finite or outside" in said.message
    assert [v.word for v in result.verdicts] == ["ATTACK_NOT_TRUSTED"]
    beside = judged_with(monkeypatch, answer, "pgd:eps=0.02,steps=20")
    assert [f.severity for f in beside.findings if f.check == "R7" and not f.ok] == ["WARN"]


def test_points_beyond_the_ball_are_judged_at_its_edge(monkeypatch):
    """What fools at the nearest point of the ball counts: a library that overshoots does not make the model look better."""
    inside = judged_with(monkeypatch, lambda x, g: (x + 0.02 * g).clamp(0, 1))
    beyond = judged_with(monkeypatch, lambda x, g: x + 0.3 * g)
    assert beyond.cells[0].robust_accuracy == inside.cells[0].robust_accuracy < 1
    assert [f.ok for f in inside.findings if f.check == "R7"] == [True]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda x, g: (255 * x).byte(), "uint8"),
        (lambda x, g: x[:, :, :4], r"3, 4, 8\)"),
        (lambda x, g: [x], "list"),
        (lambda x, g: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(monkeypatch, answer, says):
    with pytest.raises(SparringError, match=f"faulty.attack.*{says}"):
        judged_with(monkeypatch, answer)


def test_what_another_library_cannot_search_in_is_left_to_the_other_surrogates():
    """Levels of a color depth are searched by ours alone: the run ended there, with all that stood beside it."""
    pytest.importorskip("foolbox")
    x = images(4)
    data = (x, linear_net(scale=0.2)(x).argmax(1).detach())
    attacks = ["foolbox.LinfPGD:eps=8/255,steps=3", "pgd:eps=8/255,steps=3"]
    result = sparring.evaluate(linear_net(scale=0.2), data, ["cd:bits=4"], ["adaptive"], attacks, no_follow_up=True)
    assert {c.attack.partition(":")[0] for c in result.cells if c.defense == "cd:bits=4"} == {"foolbox.LinfPGD", "pgd"}


def test_planted_targets_are_those_of_the_images_that_a_peer_is_given():
    """It was asked for the targets of other images, and the check said that it cannot see."""
    pytest.importorskip("foolbox")
    x = images(20)
    data = (x, linear_net(scale=0.2)(x).argmax(1).detach())
    attacks = ["foolbox.LinfPGD:eps=2/255,steps=40"]
    result = sparring.evaluate(linear_net(scale=0.2), data, (), ["adaptive"], attacks, no_follow_up=True)
    assert [f.ok for f in result.findings if f.check == "PL"] == [True]


def test_what_it_tried_outside_of_the_ball_is_no_point_that_it_returned(monkeypatch):
    """It is judged at the nearest point of the ball, and R7 has nothing to say."""

    class Hiding(Faulty):
        def call(self, name, question):
            question.network(question.x + 3)
            return question.x.clone()

    monkeypatch.setitem(LIBRARIES, "faulty", Hiding(None))
    x, net = images(8), linear_net(scale=0.05)
    outcome = sparring.attack("faulty.attack:eps=0.02").run(net, x, net(x).argmax(1))
    assert not outcome.stopped.any()
    assert torch.allclose(outcome.x, (x + 0.02).clamp(0, 1))


class TwoClasses(torch.nn.Module):
    """A linear network of two classes."""

    def __init__(self):
        super().__init__()
        self.network = linear_net(scale=0.05)
        self.eval()

    def forward(self, x):
        return self.network(x)[:, :2]


@pytest.mark.parametrize(
    "spec",
    [
        "foolbox.InversionAttack",
        "torchattacks.AutoAttack",
        "art.SquareAttack:max_iter=5",
        "art.AutoProjectedGradientDescent:max_iter=5,nb_random_init=1",
        "art.UniversalPerturbation:max_iter=1",
        "adv_lib.apgd:norm=linf,n_iter=10",
        "adv_lib.apgd_targeted:norm=linf,n_iter=10",
    ],
)
def test_a_peer_takes_two_classes_and_a_budget_of_zero(spec):
    """The checks ask both of every attack (P9, PL); each of these ended a run there."""
    pytest.importorskip(spec.partition(".")[0], reason="the library is not installed")
    x, net = images(4), TwoClasses()
    y = net(x).argmax(1)
    separator = "," if ":" in spec else ":"
    nothing = sparring.attack(f"{spec}{separator}eps=0").run(net, x, y)
    assert torch.equal(nothing.x, x)
    assert not nothing.success.any()
    sparring.attack(f"{spec}{separator}eps=0.001").run(net, x, y)


def test_of_two_classes_a_ratio_loss_still_finds_what_is_there():
    pytest.importorskip("adv_lib")
    x, net = images(8), TwoClasses()
    y = net(x).argmax(1)
    ratio, ours = (
        sparring.attack(s).run(net, x, y) for s in ("adv_lib.apgd:norm=linf,eps=0.1,n_iter=20", "apgd:eps=0.1,steps=20")
    )
    assert bool((ratio.success >= ours.success).all())
    assert ratio.success.any()


def test_a_peer_that_hands_the_image_back_is_judged_at_what_it_tried():
    """adv_lib does so where it fails: R6 and R11 said that it does not move."""
    pytest.importorskip("adv_lib")
    x, net = images(8), linear_net(scale=0.05)
    outcome = sparring.attack("adv_lib.pgd_linf:eps=0.002,steps=20").run(net, x, net(x).argmax(1))
    assert not outcome.success.all()
    assert bool((distance(outcome.x - x, "linf") >= 0.95 * 0.002).all())
    assert bool((distance(outcome.x - x, "linf") <= 0.002 * 1.0001).all())


@pytest.mark.parametrize("spec", ["art.DeepFool", "adv_lib.apgd:norm=linf,eps=0.01,n_iter=10"])
def test_of_a_part_of_the_images_each_is_known(spec, monkeypatch):
    """ART's DeepFool and APGD ask again only for those that are left: a network that knows whose image it is answered for another one."""
    pytest.importorskip(spec.partition(".")[0], reason="the library is not installed")
    x, net = images(6), linear_net(scale=0.05)
    shown = []
    graph = Victim.graph

    def watched(victim, images, noise):
        shown.append((images.detach().clone(), noise.image.clone()))
        return graph(victim, images, noise)

    monkeypatch.setattr(Victim, "graph", watched)
    sparring.attack(spec).run(net, x, net(x).argmax(1))
    keys = shown[1][1]
    assert len(keys) == len(x)
    for part, image in shown[1:]:
        nearest = torch.cdist(part.flatten(1), x.flatten(1)).argmin(1)
        assert torch.equal(image, keys[nearest])
