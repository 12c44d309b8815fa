"""The analyses of the channels paper's stability section, against closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import sparring
from sparring.analysis.changes import likeliest, spectrum
from sparring.analysis.curvature import top_eigenvalues
from sparring.analysis.norms import gradient_norms
from sparring.analysis.panel import per_image
from sparring.attacks.attack import attack
from sparring.core.errors import SparringError
from sparring.defenses.base import Defended
from sparring.models.load import load_model
from sparring.subject import Subject
from sparring.testing.networks import conv_classifier, pictures


def test_the_top_eigenvalues_are_those_of_a_quadratic():
    spectrum_of = torch.linspace(-3, 5, 48)
    basis = torch.linalg.qr(torch.randn(48, 48, generator=torch.Generator().manual_seed(0)))[0]
    hessian = basis @ spectrum_of.diag() @ basis.T
    x = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(1))
    top = top_eigenvalues(lambda u: 0.5 * u.flatten() @ hessian @ u.flatten(), x, 3)
    assert np.allclose(top, sorted(spectrum_of.tolist())[::-1][:3], atol=1e-3)
    assert np.allclose(top_eigenvalues(lambda u: u.sum(), x, 2), 0), "a plane is not curved"


def test_the_hessian_of_softmax_is_the_covariance():
    """Cross-entropy of a linear net W x: its Hessian is W^T (diag p - p p^T) W."""
    torch.manual_seed(0)
    weight = torch.randn(4, 12)
    x = torch.rand(3, 2, 2)
    p = (weight @ x.flatten()).softmax(0)
    want = torch.linalg.eigvalsh(weight.T @ (p.diag() - p[:, None] * p) @ weight).max()
    label = torch.tensor([1])
    top = top_eigenvalues(lambda u: nn.functional.cross_entropy((weight @ u.flatten())[None], label), x, 1)
    assert np.isclose(top[0], float(want), rtol=1e-3)


def test_gradient_norms_are_those_of_a_linear_net():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    x, y = torch.rand(70, 3, 2, 2), torch.arange(70) % 4
    p = net(x).softmax(1)
    want = ((p - nn.functional.one_hot(y, 4)) @ net[1].weight).norm(dim=1)
    assert torch.allclose(gradient_norms(net, x, y), want, atol=1e-5)


def test_the_law_of_a_change_is_found():
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(20000, generator=generator, dtype=torch.float64) - 0.5
    normal = torch.randn(20000, generator=generator, dtype=torch.float64)
    signs = torch.randint(0, 2, (20000,), generator=generator) * 2 - 1
    laplace = -torch.log1p(-torch.rand(20000, generator=generator, dtype=torch.float64)) * signs
    assert [likeliest(v) for v in (uniform, normal, laplace)] == ["uniform", "normal", "laplace"]
    assert likeliest(torch.zeros(9)) == "none"


def test_the_spectrum_of_a_wave_stands_at_its_frequency():
    wave = torch.cos(2 * torch.pi * 3 * torch.arange(16) / 16)
    values = spectrum(wave.expand(1, 1, 16, 16))
    assert values.argsort(descending=True).shape
    peaks = (values > values.max() / 2).nonzero().tolist()
    assert peaks == [[8, 5], [8, 11]]


def test_what_noise_gives_back_and_what_not():
    """Shares add up to one; far points have their label back under no small noise."""
    panel = sparring.analyze("window", conv_classifier(), pictures(16), attack="fgsm:eps=8/255", draws=3)
    for stretch in ("1", "2", "4", "8"):
        about = panel.data[stretch]
        assert isinstance(about, dict)
        for share in about["shares"] if about["n"] else ():
            assert abs(sum(share) - 1) < 1e-6


def test_numbers_of_the_same_images_say_so():
    """A recipe compares numbers of the same images as pairs, and those of other images not."""
    assert per_image(["a", "b"], [1, 2])["images"] == per_image(["a", "b"], [3, 4])["images"]
    assert per_image(["a", "b"], [1, 2])["images"] != per_image(["b", "a"], [1, 2])["images"]
    with pytest.raises(ValueError, match="2 values of 1 images"):
        per_image(["a"], [1, 2])


def test_norms_apart_are_those_of_all():
    """Who is recovered and who is not are all, image by image."""
    panel = sparring.analyze("norms", conv_classifier(), pictures(16), attack="fgsm:eps=8/255", defense="gauss:std=0.1")
    told = panel.json()["data"]
    apart = told["apart"]["clean image, original class"]
    assert sorted(apart["all"]["values"]) == sorted(apart["recovered"]["values"] + apart["not recovered"]["values"])
    assert len(apart["all"]["values"]) == told["n"] > 0


def test_the_window_of_an_image_is_its_own():
    """The number of strengths that give back its label, whatever images are looked at beside it."""
    panels = [
        sparring.analyze("window", conv_classifier(), pictures(n), attack="fgsm:eps=8/255", draws=3) for n in (16, 9)
    ]
    many, few = (panel.json()["data"]["1"]["window"]["values"] for panel in panels)
    assert few
    assert many[: len(few)] == few
    assert all(0 <= value <= 7 for value in many)


def test_changes_of_attacked_images_are_measured_from_the_clean_ones():
    """The points before any defense, and behind one that does nothing to speak of, are where the attack put them."""
    network, images = conv_classifier(), pictures()
    panel = sparring.analyze(
        "changes", network, images, attack="fgsm:eps=0.1", defense=("cd:bits=8", "gauss:eps=0.000001"), spectrum="image"
    )
    points = attack("fgsm:eps=0.1").run(network, images.x, images.y, ids=list(images.ids), stop="never").x
    far = (points - images.x).double().flatten(1).norm(dim=1)
    for name in ("adversarial", "gauss:eps=0.000001"):
        assert panel.json()["data"][name]["l2"]["values"] == pytest.approx(far.tolist(), rel=1e-3)
    right = (network(points).argmax(1) == images.y).double()
    assert panel.json()["data"]["adversarial"]["right"]["values"] == right.tolist()
    assert panel.json()["data"]["cd:bits=8"]["reach"] <= 0.1 + 1 / 255


def test_the_mean_absolute_change_is_that_of_each_image_over_all_attacks():
    """FGSM moves each value by eps unless it stops at 0 or 1; of two attacks an image counts with their mean, and nothing is changed by none."""
    network, images = conv_classifier(), pictures(70)
    both = ("fgsm:eps=0.1", "fgsm:eps=0.02")
    panel = sparring.analyze("changes", network, images, attack=both, defense="none", limit=70).json()["data"]
    points = [attack(a).run(network, images.x, images.y, ids=list(images.ids), stop="never").x for a in both]
    each = torch.stack([(p - images.x).abs().flatten(1).mean(1) for p in points]).mean(0)
    assert panel["none"]["l1"]["values"] == pytest.approx(each.tolist(), rel=1e-5)
    assert panel["none"]["l1"] == panel["adversarial"]["l1"]
    assert max(panel["none"]["l1"]["values"]) <= 0.06 + 1e-6
    clean = sparring.analyze("changes", network, images, defense="none").json()["data"]
    assert set(clean["none"]["l1"]["values"]) == {0.0}


def test_points_of_another_model_and_of_who_knows_the_defense():
    network, images, fgsm, cd = conv_classifier(), pictures(), "fgsm:eps=0.1", "cd:bits=1"

    def l1(name: str, **options: Any) -> list[float]:
        panel = sparring.analyze("changes", network, images, attack=fgsm, defense=cd, **options).json()
        assert ("sources" in panel["provenance"]) == ("source" in options)
        return panel["data"][name]["l1"]["values"]

    def moved(victim: Any, then: Any = lambda x: x) -> list[float]:
        points = attack(fgsm).run(victim, images.x, images.y, ids=list(images.ids), stop="never").x
        return (then(points) - images.x).abs().flatten(1).mean(1).tolist()

    other, knows = "ace_toy:weights=random", Subject.of(network, images, [cd]).systems[cd]
    assert l1("adversarial", source=other) == pytest.approx(moved(load_model(other)), rel=1e-4)
    assert l1("adversarial", source=other) != pytest.approx(l1("adversarial"), rel=1e-4)
    assert l1(cd, victim="defended") == pytest.approx(moved(knows.system(), torch.round), rel=1e-4)
    assert l1(cd, victim="defended") != pytest.approx(l1(cd), rel=1e-4)
    with pytest.raises(SparringError, match="give one of them"):
        l1(cd, victim="defended", source=other)
    with pytest.raises(SparringError, match="give attack"):
        sparring.analyze("changes", network, images, defense=cd, victim="defended")


def test_changes_ask_no_network(monkeypatch):
    """Without an attack only the defenses are asked: a look for gradients that stop costs more than all the rest."""
    monkeypatch.setattr(Defended, "mended", lambda *_: pytest.fail("gradients were looked for"))
    panel = sparring.analyze("changes", conv_classifier(), pictures(), defense="cd:bits=4")
    assert "right" not in panel.json()["data"]["cd:bits=4"]
