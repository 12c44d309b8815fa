"""Our attacks as those of other libraries: the points are our own attack's for the same seed, in the types and the box of the library."""

import numpy as np
import pytest
import torch

import sparring
from sparring.checks.controls import images, linear_net
from sparring.core.errors import SparringError
from sparring.core.geometry import distance

pytestmark = pytest.mark.filterwarnings("ignore")
PGD = "pgd:eps=0.05,steps=5"


@pytest.fixture(scope="module")
def case():
    net = linear_net(scale=0.05)
    x = images(8)
    return net, x, net(x).argmax(1).detach()


@pytest.fixture
def foolbox():
    return pytest.importorskip("foolbox", reason="extra peers is not installed")


@pytest.fixture
def classifier():
    return pytest.importorskip("art.estimators.classification", reason="extra peers is not installed").PyTorchClassifier


def test_foolbox_answers_for_one_epsilon(foolbox, case):
    net, x, y = case
    attack = sparring.as_foolbox("pgd:steps=5", seed=3)
    raw, clipped, fooled = attack(foolbox.PyTorchModel(net, (0, 1), device="cpu"), x, y, epsilons=0.05)
    ours = sparring.attack(PGD).run(net, x, y, seed=3)
    assert torch.equal(clipped, ours.x)
    assert torch.equal(raw, ours.x)
    assert torch.equal(fooled, ours.success)
    assert isinstance(attack, foolbox.Attack)
    assert attack.distance is foolbox.distances.linf
    assert not torch.equal(
        sparring.as_foolbox("pgd:steps=5", seed=4)(
            foolbox.PyTorchModel(net, (0, 1), device="cpu"), x, y, epsilons=0.05
        )[1],
        clipped,
    )


@pytest.mark.parametrize(("ours", "theirs"), [("pgd:steps=5", "LinfPGD"), ("ddn:steps=10", "DDNAttack")])
def test_foolbox_answers_in_its_own_types(foolbox, case, ours, theirs):
    """Lists of points for several epsilons, whatever kind of attack and tensor: type by type what foolbox returns."""
    eagerpy = pytest.importorskip("eagerpy")
    net, x, y = case
    model, criterion = foolbox.PyTorchModel(net, (0, 1), device="cpu"), foolbox.Misclassification(y)
    for inputs in (x, eagerpy.astensor(x)):
        mine = sparring.as_foolbox(ours)(model, inputs, criterion, epsilons=[0.02, 0.3])
        foolboxes = getattr(foolbox.attacks, theirs)(steps=5)(model, inputs, criterion, epsilons=[0.02, 0.3])
        assert kinds(mine) == kinds(foolboxes)


def kinds(answer):
    """Type, shape and dtype of all parts of what a foolbox attack returns."""
    if isinstance(answer, list | tuple):
        return type(answer), [kinds(part) for part in answer]
    return type(answer), tuple(answer.shape), str(answer.dtype)


def test_foolbox_clips_a_nearest_point_to_every_ball(foolbox, case):
    net, x, y = case
    model = foolbox.PyTorchModel(net, (0, 1), device="cpu")
    near = sparring.attack("ddn:steps=20").run(net, x, y)
    raw, clipped, fooled = sparring.as_foolbox("ddn:steps=20")(model, x, y, epsilons=[0.0, None])
    assert torch.equal(raw[0], near.x)
    assert torch.equal(clipped[0], x)
    assert torch.equal(clipped[1], near.x)
    assert not fooled[0].any()
    assert torch.equal(fooled[1], near.success)


def test_foolbox_bounds_are_the_models_own(foolbox, case):
    """A model of pixels in [-1,3]: its points are in that box, its epsilons in those units."""
    net, x, y = case
    shifted = torch.nn.Sequential(Scaled(), net).eval()
    model = foolbox.PyTorchModel(shifted, (-1, 3), device="cpu")
    _, clipped, fooled = sparring.as_foolbox("pgd:steps=5")(model, 4 * x - 1, y, epsilons=0.2)
    ours = sparring.attack(PGD).run(net, x, y)
    assert torch.allclose(clipped, 4 * ours.x - 1, atol=1e-5)
    assert torch.equal(fooled, ours.success)


class Scaled(torch.nn.Module):
    def forward(self, x):
        return (x + 1) / 4


def test_foolbox_is_told_what_it_cannot_ask(foolbox, case):
    net, x, y = case
    model = foolbox.PyTorchModel(net, (0, 1), device="cpu")
    with pytest.raises(SparringError, match="target=CLASS"):
        sparring.as_foolbox(PGD)(model, x, foolbox.TargetedMisclassification(y), epsilons=0.1)
    with pytest.raises(SparringError, match="ndarray"):
        sparring.as_foolbox(PGD)(model, x.numpy(), y, epsilons=0.1)
    with pytest.raises(SparringError, match="no criterion of ours"):
        sparring.as_foolbox(PGD)(model, x, foolbox.Misclassification(y) & foolbox.Misclassification(y), epsilons=0.1)


def test_foolbox_repeats_are_restarts(foolbox):
    assert sparring.as_foolbox(PGD).repeat(3).ours.setting.restarts == 3


def test_torchattacks_points_are_ours(case):
    torchattacks = pytest.importorskip("torchattacks", reason="extra peers is not installed")
    net, x, y = case
    attack = sparring.as_torchattacks(net, PGD, seed=3)
    assert isinstance(attack, torchattacks.attack.Attack)
    ours, theirs = attack(x, y), torchattacks.PGD(net, eps=0.05, steps=5)(x, y)
    assert torch.equal(ours, sparring.attack(PGD).run(net, x, y, seed=3).x)
    assert (type(ours), ours.shape, ours.dtype, ours.requires_grad) == (
        type(theirs),
        theirs.shape,
        theirs.dtype,
        theirs.requires_grad,
    )
    both = torchattacks.MultiAttack([attack, torchattacks.PGD(net, eps=0.05, steps=2)])(x, y)
    assert both.shape == x.shape


def test_torchattacks_normalizes_for_us(case):
    """With ``set_normalization_used`` images come in normalized and go out so; eps stays in [0,1]."""
    pytest.importorskip("torchattacks", reason="extra peers is not installed")
    net, x, y = case
    attack = sparring.as_torchattacks(torch.nn.Sequential(Unnormalized(), net).eval(), PGD)
    attack.set_normalization_used(mean=[0.5] * 3, std=[0.2] * 3)
    points = attack((x - 0.5) / 0.2, y)
    assert torch.allclose(points * 0.2 + 0.5, sparring.attack(PGD).run(net, x, y).x, atol=1e-5)


class Unnormalized(torch.nn.Module):
    def forward(self, x):
        return x * 0.2 + 0.5


def test_art_points_are_ours(classifier, case):
    evasion = pytest.importorskip("art.attacks.evasion", reason="extra peers is not installed")
    net, x, y = case
    estimator = classifier(
        net, torch.nn.CrossEntropyLoss(), tuple(x.shape[1:]), 4, clip_values=(0, 1), device_type="cpu"
    )
    ours = sparring.attack(PGD).run(net, x, y, seed=3).x.numpy()
    theirs = evasion.ProjectedGradientDescent(estimator, eps=0.05, eps_step=0.01, max_iter=2, verbose=False).generate(
        x.numpy(), y.numpy()
    )
    for labels in (y.numpy(), np.eye(4)[y.numpy()], None):
        points = sparring.as_art(estimator, PGD, seed=3).generate(x.numpy(), labels)
        assert np.array_equal(points, ours)
        assert (type(points), points.shape, points.dtype) == (type(theirs), theirs.shape, theirs.dtype)
    assert np.array_equal(sparring.as_art(net, PGD, seed=3).generate(x.numpy(), y.numpy()), ours)


def test_art_units_are_the_estimators(classifier, case):
    net, x, y = case
    estimator = classifier(
        torch.nn.Sequential(Scaled(), net),
        torch.nn.CrossEntropyLoss(),
        tuple(x.shape[1:]),
        4,
        clip_values=(-1, 3),
        device_type="cpu",
    )
    points = sparring.as_art(estimator, "pgd:eps=0.2,steps=5").generate((4 * x - 1).numpy(), y.numpy())
    ours = sparring.attack(PGD).run(net, x, y).x
    assert np.allclose(points, (4 * ours - 1).numpy(), atol=1e-5)
    assert float(distance(torch.as_tensor(points) - (4 * x - 1), "linf").max()) <= 0.2 + 1e-5


def test_art_estimators_that_would_be_misread_are_refused(classifier, case):
    net, x, _ = case
    about = net, torch.nn.CrossEntropyLoss(), tuple(x.shape[1:]), 4
    with pytest.raises(SparringError, match="preprocesses"):
        sparring.as_art(classifier(*about, clip_values=(0, 1), preprocessing=(0.5, 0.2), device_type="cpu"), PGD)
    with pytest.raises(SparringError, match="clip_values"):
        sparring.as_art(classifier(*about, device_type="cpu"), PGD)
    with pytest.raises(SparringError, match="PyTorchClassifier"):
        sparring.as_art(torch.tensor(3), PGD)  # type: ignore[arg-type]
