"""Ours beside foolbox on real images: not weaker at the same budget, not longer perturbations."""

import numpy as np
import pytest
import torch

import sparring
from sparring.models.prepare import prepare

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def case(resnet20, cifar):
    foolbox = pytest.importorskip("foolbox", reason="extra peers is not installed")
    model = prepare(resnet20, cifar.x[:4]).model
    with torch.no_grad():
        right = model(cifar.x).argmax(1) == cifar.y
    x, y = cifar.x[right][:40], cifar.y[right][:40]
    return foolbox, foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu"), model, x, y


def test_pgd_is_not_weaker(case):
    foolbox, peer, model, x, y = case
    attack = foolbox.attacks.LinfPGD(steps=20, rel_stepsize=0.1, random_start=True)
    _, _, theirs = attack(peer, x, y, epsilons=1 / 255)
    ours = sparring.attack("pgd:eps=1/255,steps=20").run(model, x, y)
    lost = int((theirs & ~ours.success).sum()) - int((~theirs & ours.success).sum())
    assert lost <= 2


def test_ddn_is_not_longer(case):
    foolbox, peer, model, x, y = case
    _, clipped, theirs = foolbox.attacks.DDNAttack(steps=50, init_epsilon=1.0)(peer, x, y, epsilons=None)
    ours = sparring.attack("ddn:steps=50").run(model, x, y)
    assert ours.success.all()
    assert theirs.all()
    assert ours.distance.median() <= 1.01 * (clipped - x).flatten(1).norm(dim=1).median()


def test_cw_is_not_longer(case):
    foolbox, peer, model, x, y = case
    x, y = x[:12], y[:12]
    attack = foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=5, steps=60, stepsize=0.01, initial_const=0.1)
    _, clipped, theirs = attack(peer, x, y, epsilons=None)
    ours = sparring.attack("cw:steps=60,searches=5,c=0.1,lr=0.01").run(model, x, y)
    assert ours.success.all()
    assert theirs.all()
    ratio = np.median((ours.distance / (clipped - x).flatten(1).norm(dim=1)).numpy())
    assert ratio <= 1.03
