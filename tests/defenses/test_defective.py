"""Defective networks and their baselines: published shapes and counts, the mask laws, what each attacker sees."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import sparring
from sparring.core.errors import SparringError
from sparring.core.noise import Noise, image_keys
from sparring.core.prepare import prepare
from sparring.core.victim import Access, Victim
from sparring.defenses.base import Defended, defense
from sparring.models.attach import attach, output_shapes, select
from sparring.models.classifier import Classifier
from sparring.models.coded import BandLimited, Quantizer, Thermometer, low_pass
from sparring.models.defective import draw_mask, masks
from sparring.models.load import load_model
from sparring.models.regularized import DropBlock, GhostLayer, NoiseLayer, NoisyNetwork, ghosted
from sparring.models.weights import save_weights
from sparring.subject import Subject
from sparring.threats import Options, threat
from sparring.training.classifier import Classification, Hardening, train_classifier
from sparring.training.loop import LoopConfig

# parameters of the CIFAR family the authors' code is taken from, and how many tensors they mask (FACTS 1.2, 1.3)
ARCHITECTURES = {
    "resnet18": (11_173_962, 10, (64, 32, 32), (128, 16, 16)),
    "resnet50": (23_520_842, 8, (64, 32, 32), (128, 16, 16)),
    "densenet121": (6_956_298, 20, (64, 32, 32), (512, 16, 16)),
    "senet18": (11_260_354, 8, (64, 32, 32), (128, 16, 16)),
    "vgg19": (20_040_522, 4, (64, 32, 32), (128, 16, 16)),
    "wrn32x4": (7_400_026, 11, (16, 32, 32), (64, 32, 32)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_have_the_published_parameters_and_masks(name):
    parameters, count, first, last = ARCHITECTURES[name]
    made = load_model(f"defective:model={name},keep=0.3")
    assert sum(p.numel() for p in load_model(name).parameters()) == parameters
    assert sum(p.numel() for p in made.parameters()) == parameters, "masks are buffers"
    shapes = [tuple(m.shape[1:]) for m in masks(made.network).values()]
    assert (len(shapes), shapes[0], shapes[-1]) == (count, first, last)
    for mask in masks(made.network).values():
        assert int(mask.sum()) == mask.numel() - int(0.7 * mask.numel()), "the code's exact count"
    x = torch.rand(2, 3, 32, 32)
    assert made(x).shape == (2, 10)
    assert not torch.equal(made(x), load_model(name)(x))


def test_fresh_masks_change_with_every_batch_and_then_follow_the_seed(tmp_path):
    """A network trained for any mask wears the mask it is asked for (PROTOCOL 4.2, D2), each with the law's count."""
    made = load_model("defective:model=resnet10,keep=0.3,fresh=true,mask_seed=1").train()
    torch.manual_seed(0)
    x, worn = torch.rand(2, 3, 32, 32), []
    stem: Any = made.network.bn1
    stem[1].register_forward_hook(lambda m, i, out: worn.append(out.detach() != 0))
    for _ in range(2):
        made(x)
    assert not torch.equal(*worn)
    assert all(int(w.flatten(1).any(0).sum()) <= w[0].numel() - int(0.7 * w[0].numel()) for w in worn)
    file = tmp_path / "fresh.safetensors"
    save_weights(made.network, file, {})
    one, two = (
        load_model(f"defective:model=resnet10,keep=0.3,fresh=true,mask_seed={s},weights={file}") for s in (1, 2)
    )
    kept = load_model(f"defective:model=resnet10,keep=0.3,mask_seed=2,weights={file}")
    assert all(torch.equal(a, b) for a, b in zip(masks(one).values(), masks(kept).values(), strict=True))
    drawn = load_model("defective:model=resnet10,keep=0.3,mask_seed=2")
    assert all(torch.equal(a, b) for a, b in zip(masks(two).values(), masks(drawn).values(), strict=True))
    assert torch.equal(one(x), one(x)), "nothing is drawn once it is trained"
    assert not torch.equal(one(x), two(x))


def test_the_other_positions_of_resnet18():
    """FACTS 1.2: Top has stage 3 (4 convolutions, shortcut 256x8x8) and stage 4; both are all 20."""
    counts = {p: masks(load_model(f"defective:model=resnet18,position={p}").network) for p in ("bottom", "top", "both")}
    assert [len(m) for m in counts.values()] == [10, 10, 20]
    assert {tuple(m.shape[1:]) for m in counts["top"].values()} == {(256, 8, 8), (512, 4, 4)}
    narrow: Any = load_model("resnet18:bottom=0.1").network
    assert [m.conv1.out_channels for m in (narrow.layer1[0], narrow.layer2[0], narrow.layer3[0])] == [7, 13, 256]
    wide = masks(load_model("defective:model=resnet18:bottom=2,keep=0.5").network)
    assert {m.shape[1] for m in wide.values()} == {64, 128, 256}


def test_both_ends_keep_shares_of_their_own():
    """Table 5's "0.7-Bottom, 0.3-Top": the bottom's masks are those of 0.7 at both ends, the top's keep 0.3 by the code's count."""
    both = masks(load_model("defective:model=resnet10,position=both,keep=0.7,keep_top=0.3").network)
    alike = masks(load_model("defective:model=resnet10,position=both,keep=0.7").network)
    assert len(both) == len(alike) == 12
    for name, mask in both.items():
        if name.startswith(("bn1", "layer1", "layer2")):
            assert torch.equal(mask, alike[name])
        else:
            assert int(mask.sum()) == mask.numel() - int(0.7 * mask.numel())
    for spec in ("defective:model=resnet10,keep_top=0.3", "defective:model=resnet10,position=both,at=bn1,keep_top=0.3"):
        with pytest.raises(SparringError, match="keep_top is the top layers' share"):
            load_model(spec)


@given(keep=st.floats(0.05, 1), seed=st.integers(0, 5), shape=st.tuples(*[st.integers(1, 9)] * 3))
@settings(max_examples=60, deadline=None)
def test_mask_laws(keep, seed, shape):
    size = math.prod(shape)
    exact = draw_mask(shape, keep, seed, 0, "exact", False, False)
    assert exact.shape == (1, *shape)
    assert set(exact.unique().tolist()) <= {0.0, 1.0}
    assert int(exact.sum()) == size - int((1 - keep) * size)
    assert torch.equal(exact, draw_mask(shape, keep, seed, 0, "exact", False, False)), "the seed decides"
    shared = draw_mask(shape, keep, seed, 1, "exact", True, False)
    assert torch.equal(shared, shared[:, :1].expand_as(shared)), "one mask for all channels"
    channels = draw_mask(shape, keep, seed, 1, "exact", False, True)
    assert torch.equal(channels, channels[:, :, :1, :1].expand_as(channels)), "whole channels"


def test_bernoulli_masks_have_the_binomial_spread():
    kept = torch.stack([draw_mask((8, 8, 8), 0.3, s, 0, "bernoulli", False, False).sum() for s in range(400)])
    assert abs(float(kept.mean()) - 153.6) < 4 * math.sqrt(512 * 0.21 / 400)
    assert 0.8 < float(kept.std()) / math.sqrt(512 * 0.21) < 1.2
    layers = [draw_mask((8, 8, 8), 0.5, 0, n, "exact", False, False) for n in (0, 1)]
    assert not torch.equal(*layers), "another mask in each layer"


def test_masks_before_and_after_relu_agree_but_not_around_a_sum():
    """ReLU(M z) = M ReLU(z) for M >= 0, so code and paper agree in a plain layer; a residual block's output is masked only by
    the paper's rule.
    """
    vgg = [load_model(f"defective:model=vgg19,keep=0.3,place={p}") for p in ("branch", "activation")]
    x = torch.rand(2, 3, 32, 32)
    assert torch.allclose(vgg[0](x), vgg[1](x), atol=1e-6)
    paper: Any = load_model("defective:model=resnet10,keep=0.3,place=activation").network
    block = paper.layer1[0]
    out = block(torch.rand(1, 16, 32, 32))
    assert bool((out[block[1].mask == 0] == 0).all()), "the block's own output is defective"
    code: Any = load_model("defective:model=resnet10,keep=0.3").network
    code = code.layer1[0]
    assert float((code(torch.rand(1, 16, 32, 32)) > 0).float().mean()) > 0.3, "only its branch is"


def mine() -> nn.Module:
    """A user's own network, found by python:module:factory."""
    body = [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(8, 10)).eval()


def test_any_network_can_be_masked():
    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)
            self.linear = nn.Linear(4, 10)

        def forward(self, x):
            return self.linear(self.c(self.b(self.a(x))).mean((2, 3)))

    net: Any = Mine().eval()
    shapes = output_shapes(net, 3, 32)
    assert shapes == {"a": (4, 16, 16), "b": (4, 8, 8), "c": (4, 4, 4)}
    attach(net, select(net, ["[ab]"]), lambda n, s: nn.Hardtanh(0, n + 0.5), shapes)
    assert (net.a[1].max_val, net.b[1].max_val) == (0.5, 1.5)
    with pytest.raises(SparringError, match="no module matches 'layer9'"):
        select(net, ["layer9"])
    own = load_model("defective:model=python:tests.defenses.test_defective:mine,keep=0.5,size=32")
    assert [tuple(m.shape[1:]) for m in masks(own.network).values()] == [(8, 16, 16)]
    timm = load_model("defective:model=timm:resnet18,keep=0.5,size=32")
    assert {m.shape[-1] for m in masks(timm.network).values()} == {16, 8}, "the finer half of its resolutions"
    named = load_model("defective:model=timm:resnet18,keep=0.5,size=32,at=act1;layer1.*.act2")
    assert len(masks(named.network)) == 3


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("defective:model=resnet18,keep=0", "keep=0"),
        ("defective:model=resnet18,shared=true,channels=true", "exclude"),
        ("defective:model=resnet18,at=nope", "no module matches"),
        ("defective:model=resnet18,at=linear", "no feature map"),
        ("defective:model=resnet19", "unknown model 'resnet19'"),
        ("thermometer:model=resnet10,levels=1", "levels=1"),
        ("band_limited:model=resnet10,rate=1", "rate=1"),
        ("dropblock:model=resnet10,keep=0", "keep=0"),
        ("ensemble:members=a.safetensors", "at least two"),
    ],
)
def test_bad_specs_are_one_line(spec, message):
    with pytest.raises(SparringError, match=message):
        load_model(spec)


def test_preparing_keeps_the_masks_and_the_logits():
    made = load_model("defective:model=resnet10,keep=0.3")
    x = torch.rand(4, 3, 32, 32)
    quick = prepare(made, x)
    assert quick.folded == 12
    assert torch.allclose(quick.model(x), made(x), atol=1e-5)
    assert len(masks(quick.model)) == 6, "a twin threat finds them"


def test_dropblock_drops_whole_blocks_at_its_rate_and_only_in_training():
    """Algorithm 1: about 1 - keep of the units go, in squares; the mean is kept by numel/sum."""
    layer = DropBlock(0.9, 3)
    x = torch.ones(64, 8, 12, 12)
    assert layer.eval()(x) is x
    torch.manual_seed(0)
    out = layer.train()(x)
    dropped = out == 0
    assert 0.07 < float(dropped.float().mean()) < 0.11
    assert abs(float(out.mean()) - 1) < 1e-4
    square = F.avg_pool2d(dropped.float(), 3, 1) == 1  # windows that are gone entirely
    covered = F.max_pool2d(F.pad(square.float(), (2, 2, 2, 2)), 3, 1) == 1
    assert torch.equal(covered, dropped), "every dropped unit belongs to a dropped square"


def test_low_pass_is_a_projection_and_the_convolution_theorem_holds():
    x = torch.rand(2, 3, 10, 9)
    once = low_pass(x, 0.5)
    assert torch.allclose(low_pass(once, 0.5), once, atol=1e-5)
    assert torch.allclose(once.mean((2, 3)), x.mean((2, 3)), atol=1e-5)
    assert torch.allclose(low_pass(x, 0.0), x, atol=1e-5)
    conv = nn.Conv2d(3, 4, 3, padding=1)
    plain = conv(x)
    assert torch.allclose(BandLimited(conv, 0.0)(x), plain, atol=1e-5), "rate 0 is the convolution"
    # with periodic borders, cutting the input's spectrum is cutting the output's
    weight = torch.rand(1, 1, 3, 3)
    wrap = lambda t: F.conv2d(F.pad(t, (1, 1, 1, 1), mode="circular"), weight)  # noqa: E731
    image = torch.rand(1, 1, 8, 8)
    assert torch.allclose(wrap(low_pass(image, 0.7)), low_pass(wrap(image), 0.7), atol=1e-5)


def test_thermometer_codes_and_their_ramp():
    """Buckman et al.: the first m units of level m are on. A pixel at .30 of 10 levels lies above 0, .1 and .2."""
    x = torch.tensor([0.0, 0.05, 0.3, 0.31, 1.0]).reshape(1, 1, 1, 5)
    units = Thermometer(10)(Quantizer(10)(x))[0, :, 0].round(decimals=4)
    assert units.sum(0).tolist() == [0, 1, 3, 4, 10]
    assert torch.equal(units, units.sort(0, descending=True).values)
    level = torch.tensor([[[[4 / 16]]]], requires_grad=True)
    weight = torch.arange(16.0).reshape(1, 16, 1, 1)
    (grad,) = torch.autograd.grad((Thermometer(16)(level) * weight).sum(), level)
    assert float(grad) == 16 * (3 + 4) / 2, "the mean of taking unit 3 away and lighting unit 4"


def trained_pair(tmp_path, model: str, **options) -> str:
    """Two steps of training: enough for a file and its card."""
    x = torch.rand(40, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    images = sparring.ImageSet.of(x, torch.arange(40) % 10)
    out = tmp_path / "net.safetensors"
    train_classifier(images, LoopConfig(epochs=1, batch=20), out, model=model, **options)
    return str(out)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "model", "options"),
    [
        ("defective", "defective:model=resnet10,keep=0.5,mask_seed=3", {}),
        ("spatial-dropout", "spatial_dropout:model=resnet10", {}),
        ("dropblock", "dropblock:model=resnet10", {}),
        ("band-limited", "band_limited:model=resnet10,rate=0.5", {}),
        ("thermometer", "thermometer:model=resnet10", {}),
        ("rse", "noisy:model=resnet10", {}),
        ("label-smoothing", "resnet10", {"smoothing": 0.1}),
        ("adversarial-training", "resnet10", {"hardening": Hardening("fgsm:eps=2/255")}),
    ],
)
def test_every_retrained_defense_replaces_the_classifier(name, model, options, tmp_path):
    weights = trained_pair(tmp_path, model, **options)
    x, y = torch.rand(4, 3, 32, 32), torch.arange(4)
    made = Subject.of("resnet10:weights=random", (x, y), [f"{name}:weights={weights}"])
    system, plain = made.systems[f"{name}:weights={weights}"], made.systems["none"]
    noise = Noise.of(0, "test", image_keys(made.images.ids))
    alone = load_model(f"trained:{weights}")
    logits = system.system().logits(x, noise, 1)[:, 0]
    if name == "rse":
        assert system.random
        assert not torch.allclose(logits, alone(x), atol=1e-3), "deployed with noise"
        assert torch.allclose(system.network(x), alone(x), atol=1e-5), "and is the trained network without"
    else:
        assert not system.random
        assert torch.allclose(logits, alone(x), atol=1e-4)
    bare = system.drop()
    assert bare.network is plain.network, "the oblivious attacker sees the evaluated classifier"
    for variant in system.variants():
        victim = Victim((variant.system,), Access.GRADIENT)
        grad = victim.gradient(x, lambda z, r: -z.gather(1, y[r, None])[:, 0], noise).grad
        assert (grad.abs().flatten(1).sum(1) > 0).all()
    wrong = "dropblock" if name == "defective" else "defective"
    with pytest.raises(SparringError, match="not trained this way"):
        defense(f"{wrong}:weights={weights}").install(plain)


def test_a_trained_file_moves_with_its_card(tmp_path):
    weights = trained_pair(tmp_path, "defective:model=resnet10,keep=0.5")
    other = tmp_path / "elsewhere"
    other.mkdir()
    for suffix in ("safetensors", "json"):
        (tmp_path / f"net.{suffix}").rename(other / f"net.{suffix}")
    made = load_model(f"trained:{other / 'net.safetensors'}")
    assert masks(made.network)
    card = other / "net.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "model": 3}))
    with pytest.raises(SparringError, match="names no model"):
        load_model(f"trained:{other / 'net.safetensors'}")
    assert weights.endswith("net.safetensors")


def test_an_ensemble_averages_logits(tmp_path):
    files = []
    for number in range(2):
        (folder := tmp_path / str(number)).mkdir()
        files.append(trained_pair(folder, f"defective:model=resnet10,keep=0.5,mask_seed={number}"))
    x = torch.rand(2, 3, 32, 32)
    mean = (load_model(f"trained:{files[0]}")(x) + load_model(f"trained:{files[1]}")(x)) / 2
    assert torch.allclose(load_model(f"ensemble:members={';'.join(files)}")(x), mean, atol=1e-6)


def test_noise_inside_a_network_follows_the_images_keys():
    """No batch-mates, no global generator: the same image draws the same noise alone."""
    net = load_model("noisy:model=resnet10")
    assert sum(isinstance(m, NoiseLayer) for m in net.network.modules()) == 12
    system = Defended(NoisyNetwork(net).eval(), noisy=True).system()
    x, keys = torch.rand(3, 3, 32, 32), image_keys(["a", "b", "c"])
    noise = Noise.of(0, "test", keys)
    together = system.logits(x, noise, 2)
    assert together.shape == (3, 2, 10)
    assert not torch.equal(together[:, 0], together[:, 1]), "each draw its own"
    alone = system.logits(x[1:2], noise.at(torch.tensor([1])), 2)
    assert torch.allclose(alone, together[1:2], atol=1e-5)
    torch.manual_seed(5)
    assert torch.equal(system.logits(x, noise, 2), together)


def test_ghosts_keep_the_mean_and_touch_only_early_maps():
    layer = GhostLayer(0.25)
    layer.source = Noise.of(0, "test", image_keys([str(i) for i in range(50)]))
    layer.side = 32
    x = torch.ones(50, 4, 16, 16)
    out = layer(x)
    assert set(out.unique().tolist()) == {0.0, 4.0}
    assert abs(float(out.mean()) - 1) < 0.05
    assert torch.equal(layer(torch.ones(50, 4, 8, 8)), torch.ones(50, 4, 8, 8))
    net = prepare(load_model("resnet10"), torch.rand(2, 3, 32, 32)).model
    ghost = ghosted(net, 0.5)
    image = torch.rand(2, 3, 32, 32)
    assert torch.equal(ghost(image), net(image)), "without noise it is its source"
    noise = Noise.of(0, "test", image_keys(["a", "b"]))
    assert not torch.allclose(ghost(image, noise), net(image), atol=1e-3)


def test_a_ghost_transfer_averages_over_draws():
    target, source = Defended(load_model("resnet10"), id="a"), Defended(load_model("resnet10"), id="b")
    seat = threat("transfer:ghost=0.5,draws=3").seat(target, [source], Options())
    victim = seat.views[0].victim
    assert (victim.draws, victim.random) == (3, True)
    assert seat.views[0].id != threat("transfer").seat(target, [source], Options()).views[0].id
    with pytest.raises(SparringError, match=r"ghost must be in \(0,1\]"):
        threat("transfer:ghost=0").seat(target, [source], Options())


def test_twins_are_told_apart_by_their_masks():
    def system(mask: int, name: str) -> Defended:
        return Defended(load_model(f"defective:model=resnet10,keep=0.5,mask_seed={mask}"), id=name)

    target = system(0, "target")
    same = threat("twin").seat(target, [system(0, "a"), system(1, "b")], Options())
    other = threat("twin:phi=new").seat(target, [system(0, "a"), system(1, "b"), system(2, "c")], Options())
    assert (len(same.views[0].victim.systems), len(other.views[0].victim.systems)) == (1, 2)


def test_label_smoothing_is_the_cross_entropy_to_smoothed_labels():
    """(1-s) on the true class, s/(K-1) on each other: against torch's own soft-label loss."""
    x = torch.rand(6, 3, 32, 32)
    images = sparring.ImageSet.of(x, torch.arange(6))
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)).eval())
    task = Classification(images, classifier, {}, smoothing=0.2)
    found, _ = task.losses(classifier.network, torch.arange(6), 0, True)
    soft = torch.full((6, 10), 0.2 / 9)
    soft[torch.arange(6), images.y] = 0.8
    expected = F.cross_entropy(classifier(images.x), soft, reduction="none")
    assert torch.allclose(found, expected, atol=1e-5)
    plain, _ = task.losses(classifier.network, torch.arange(6), 0, False)
    assert torch.allclose(plain, F.cross_entropy(classifier(images.x), images.y, reduction="none"), atol=1e-6)


@pytest.mark.slow
def test_a_decision_attack_can_begin_at_transferred_points(tmp_path):
    """PROTOCOL 4.2, D6: with almost no queries left a warm start keeps what transfer found, a cold one has nothing."""
    x = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    target = load_model("resnet10:weights=random")
    y = target(x).argmax(1)
    close = load_model("resnet10:width=16,weights=random")
    for p in close.parameters():  # a near copy: what fools it fools the target
        p.data = p.data * (1 + 1e-4 * torch.randn(p.shape, generator=torch.Generator().manual_seed(2)))
    found = sparring.evaluate(
        target,
        (x, y),
        [],
        ["transfer", "decision:queries=12,warm=transfer", "decision:queries=12"],
        ["pgd:eps=0.2,steps=10", "hopskipjump:eps=0.2,norm=linf"],
        sources=[close],
        out=tmp_path / "run",
    )
    rate = {(c.threat, c.attack.split(":")[0]): c.json()["robust_accuracy"] for c in found.cells}
    warm, cold = (rate[t, "hopskipjump"] for t in ("decision:queries=12,warm=transfer", "decision:queries=12"))
    assert rate["transfer", "pgd"] <= warm <= cold
    assert warm < 1
    with pytest.raises(SparringError, match="no attack of the threat twin"):
        sparring.evaluate(target, (x, y), [], ["decision:warm=twin"], ["hopskipjump"], dry_run=True)
