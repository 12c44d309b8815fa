"""Attacks of other libraries in our seats: they see the seat's source, our judge counts, and ours is not weaker."""

import pytest
import torch

import sparring
from sparring.core.errors import SparringError

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
