"""Learned front-ends: published sizes, the cage, the parity of shifts, and surrogates against hand-made Jacobians."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch
from torch import nn

import sparring
from sparring.core.errors import SparringError
from sparring.core.geometry import Ball
from sparring.core.noise import Noise, image_keys
from sparring.core.victim import Access
from sparring.defenses.base import Defended
from sparring.defenses.learned import build_network, shift
from sparring.defenses.surrogates import Blocks, Idle, Mixed, PerClass, Residual, Smoothed, Through, unit
from sparring.models.ace import AceNet
from sparring.models.unet import DUNET, Caged, CagedUNet, SegNet
from sparring.models.weights import save_weights
from sparring.threats import threat


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_published_parameter_counts():
    """FACTS 4.1 and 2.1, by arithmetic from the authors' code."""
    assert parameters(DUNET()) == 11_033_984
    assert parameters(DUNET(lateral=False)) == 9_670_016
    full = SegNet()
    assert parameters(full) == 29_480_259
    assert parameters(full.encoder) == 14_723_136


def test_an_untrained_last_layer_of_zeros_makes_dunet_the_identity():
    net = DUNET(width=0.1, levels=4).eval()
    nn.init.zeros_(net.final.weight)
    x = torch.rand(2, 3, 13, 10)
    assert torch.equal(net(x), x)


def test_soft_switches_become_the_hard_ones_as_the_temperature_falls():
    torch.manual_seed(0)
    net, x = SegNet(stages=((6, 6), (8, 8))).eval(), torch.rand(2, 3, 8, 8)
    gap = [float((net(x, temperature=t) - net(x)).detach().abs().max()) for t in (1.0, 0.1, 1e-5)]
    assert gap[0] > gap[1] > gap[2]
    assert gap[2] < 1e-4


@pytest.mark.parametrize("make", [Caged, partial(CagedUNet, widths=(8, 12, 16))], ids=["two-layer", "unet"])
def test_the_cage_lets_only_even_rows_and_columns_through(make):
    torch.manual_seed(0)  # by chance a pixel may lie behind dead units
    net = make()
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(3)).requires_grad_(True)
    (grad,) = torch.autograd.grad(net.eval()(x).square().sum(), x)
    seen = grad.abs().sum((0, 1))
    assert (seen[::2, ::2] > 0).all()
    seen[::2, ::2] = 0
    assert seen.abs().sum() == 0


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("side", ["left", "right", "up", "down"])
def test_an_odd_shift_reads_other_pixels_and_an_even_one_the_same(size, side):
    """ACE table 7 is this parity: sizes 1, 3, 5 work, 2 and 4 do not."""
    net, x = Caged().eval(), torch.rand(1, 3, 16, 16, requires_grad=True)
    (grad,) = torch.autograd.grad(net(shift(x, size, side)).square().sum(), x)
    seen = grad.abs().sum((0, 1)) > 0
    bait = torch.zeros(16, 16, dtype=torch.bool)
    bait[::2, ::2] = True
    assert bool((seen & bait).any()) == (size % 2 == 0)
    assert bool((seen & ~bait).any()) == (size % 2 == 1)


def test_a_shift_is_zeros_and_the_rest_of_the_image():
    x = torch.arange(12.0).reshape(1, 1, 3, 4) + 1
    assert shift(x, 1, "left")[0, 0].tolist() == [[0, 1, 2, 3], [0, 5, 6, 7], [0, 9, 10, 11]]
    assert shift(x, 2, "down")[0, 0].tolist() == [[9, 10, 11, 12], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert shift(x, 9, "up").abs().sum() == 0


class Linear(nn.Module):
    """u -> A u with a known matrix."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.matrix = torch.randn(size, size, generator=torch.Generator().manual_seed(0))

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        return (u.flatten(1) @ self.matrix.T).reshape(u.shape)


def test_surrogates_of_a_linear_stage_are_the_closed_forms():
    torch.manual_seed(0)
    stage, u, v = Linear(16), torch.rand(3, 1, 4, 4), torch.randn(3, 1, 4, 4)
    exact = (v.flatten(1) @ stage.matrix).reshape(v.shape)
    assert torch.allclose(Residual(stage).pull(u, v), exact - v, atol=1e-5)
    assert torch.allclose(Smoothed(stage).pull(u, v), exact, atol=1e-5)
    assert torch.allclose(Mixed(stage, 0.3).pull(u, v), 0.3 * unit(exact) + 0.7 * unit(v), atol=1e-5)
    d = stage(u) - u
    work = ((d.sign().flatten(1) / 16) @ (stage.matrix - torch.eye(16))).reshape(v.shape)
    assert torch.allclose(Idle(stage, 3.0).pull(u, v), exact - 3 * work, atol=1e-5)
    per = PerClass(stage).pull(u, v)
    for row in range(2):
        for column in range(2):
            assert torch.allclose(per[..., row::2, column::2].flatten(1).norm(dim=1), torch.ones(3), atol=1e-5)


def test_block_points_are_constant_on_blocks_and_inside_the_ball():
    clean, ball = torch.full((2, 1, 5, 6), 0.5), Ball("linf", torch.tensor([0.1, 0.2]))
    point = Blocks().emit(clean + 0.4 * torch.randn(2, 1, 5, 6), clean, ball)
    assert torch.equal(point[..., 0:4:2, 0::2], point[..., 1:4:2, 1::2])
    assert ((point - clean).abs().flatten(1).amax(1) <= ball.eps + 1e-6).all()


def test_the_range_reparametrisation_pulls_gradients_back_through_the_stage():
    stage, v, g = Linear(16), torch.rand(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    clean, ball = torch.rand(2, 1, 4, 4), Ball("linf", torch.tensor([0.05, 0.05]))
    assert torch.allclose(
        Through(stage).pullback(g, v, clean, ball), (g.flatten(1) @ stage.matrix).reshape(g.shape), atol=1e-5
    )
    assert ((Through(stage).emit(v, clean, ball) - clean).abs() <= 0.05 + 1e-6).all()


def ace_system(lam: float = 100.0) -> Defended:
    torch.manual_seed(0)
    classifier = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 5))
    return Defended(AceNet(classifier, lam).eval().requires_grad_(False))


def test_finite_randomness_is_enumerated_not_sampled():
    """PROTOCOL 1.2: the adaptive gradient is the exact mean over the four directions, the same at every step."""
    system = sparring.defense("shift:side=random").install(ace_system())
    view = threat("adaptive:draws=3").seat(system).views[0]
    assert view.victim.draws == 4
    x, keys = torch.rand(2, 3, 12, 12), image_keys(["a", "b"])
    noise = Noise.of(0, "attack", keys)
    z = view.victim.logits(x, noise)
    assert torch.equal(z, view.victim.logits(x, noise.on(torch.tensor([5, 5]))))
    each = [system.network(shift(x, 1, side)).softmax(1) for side in ("left", "right", "up", "down")]
    assert torch.allclose(z.exp(), torch.stack(each).mean(0), atol=1e-5)
    judged = [system.system().scores(x, noise.on(torch.tensor([k, k]))) for k in range(12)]
    assert any(not torch.equal(j, judged[0]) for j in judged), "the judge draws"


def test_with_another_random_stage_whole_rounds_of_the_finite_one_are_drawn():
    system = sparring.defense("shift:side=random+gauss:std=0.1").install(ace_system())
    assert threat("adaptive:draws=6").seat(system).views[0].victim.draws == 8


def test_oblivious_can_ignore_one_stage_alone():
    system = sparring.defense("shift+cd:values=8").install(ace_system())
    seat = threat("oblivious:drop=shift").seat(system)
    assert [p.name for p in seat.views[0].victim.systems[0].parts] == ["cd"]
    assert [p.name for p in seat.judge.parts] == ["shift", "cd"]
    with pytest.raises(SparringError, match="no stage 'shfit'"):
        threat("oblivious:drop=shfit").seat(system)


def test_a_bait_without_its_shift_is_beaten_and_with_it_beats_only_the_ignorant():
    """ACE in small: at large lambda the oblivious point dies with the shift, the enumerated one does not."""
    system = sparring.defense("shift:side=random").install(ace_system())
    x = torch.rand(24, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    noise = Noise.of(0, "t", image_keys([str(i) for i in range(24)]))
    y = system.drop().system().scores(x, noise).argmax(1)
    steady = (
        torch.stack([system.network(shift(x, 1, s)).argmax(1) for s in ("left", "right", "up", "down")]) == y
    ).all(0)
    x, y = x[steady], y[steady]
    assert len(x) >= 8
    fooled = {}
    for name in ("oblivious", "adaptive"):
        victim = threat(name).seat(system).views[0].victim
        found = sparring.attack("pgd:eps=8/255,steps=30").run(victim, x, y, stop="never")
        wrong = torch.stack(
            [system.network(shift(found.x, 1, s)).argmax(1) != y for s in ("left", "right", "up", "down")]
        )
        fooled[name] = float(wrong.double().mean())
    assert fooled["adaptive"] >= fooled["oblivious"]


def test_weights_say_which_network_they_fill(tmp_path):
    config = {"kind": "dunet", "width": 0.1, "levels": 4}
    path = tmp_path / "d.safetensors"
    save_weights(build_network(config), path, {"network": config})
    one = sparring.defense(f"hgd:weights={path}").install(ace_system()).system()
    assert one.parts[0].name == "hgd"
    with pytest.raises(SparringError, match="holds a dunet, not a segnet"):
        sparring.defense(f"s2snet:weights={path}").install(ace_system())
    with pytest.raises(SparringError, match="does not exist"):
        sparring.defense("hgd:weights=none.safetensors").install(ace_system())
    net = build_network(config)
    nn.init.zeros_(net.final.weight)  # type: ignore[union-attr]
    save_weights(net, path, {"network": config})
    two = sparring.defense(f"hgd:weights={path}").install(ace_system()).system()
    assert one.id != two.id, "other weights at the same path are another system: no stale cache"
    path.with_suffix(".json").write_text(json.dumps({}))
    with pytest.raises(SparringError, match="unknown kind"):
        sparring.defense(f"hgd:weights={path}").install(ace_system())


def test_white_identity_of_hgd_sees_the_classifier_at_the_denoised_point():
    system = sparring.defense("hgd:weights=random").install(ace_system())
    x, y = torch.rand(2, 3, 12, 12), torch.tensor([0, 1])
    noise = Noise.of(0, "t", image_keys(["a", "b"]))
    victim = threat("white-identity").seat(system).views[0].victim
    assert victim.access is Access.GRADIENT
    grad = victim.gradient(x, lambda z, r: -z.gather(1, y[r, None])[:, 0], noise).grad
    u = system.stages[0](x, noise).detach().requires_grad_(True)
    (expected,) = torch.autograd.grad(-system.network(u).gather(1, y[:, None]).sum(), u)
    assert torch.allclose(grad, expected, atol=1e-6)


def test_the_five_wirings_of_hgds_appendix_c(tmp_path):
    """Each wiring's logits are its formula; who is oblivious sees the models without denoisers."""
    config = {"kind": "dunet", "width": 0.1, "levels": 3}
    for n in (1, 2):
        net = build_network(config)
        nn.init.normal_(net.final.weight, 0, 0.5 * n)  # type: ignore[union-attr]
        save_weights(net, tmp_path / f"d{n}.safetensors", {"network": config})
    d1, d2 = f"{tmp_path}/d1.safetensors", f"{tmp_path}/d2.safetensors"
    a, b = "cifar_resnet20:weights=random", "ace_resnet:depth=8,lam=0,weights=random"
    first, second = (
        sparring.defense(f"hgd:weights={d}").install(ace_system()).stages[0].get_submodule("network") for d in (d1, d2)
    )
    f, g = sparring.load_model(a), sparring.load_model(b)
    both = lambda u: (f(u) + g(u)) / 2  # noqa: E731
    file = tmp_path / "wiring.toml"
    wirings = {
        "A&B": (((), (a, b), "mean"), lambda x: both(x)),
        "1>A&B": (((d1,), (a, b), "each"), lambda x: both(first(x))),
        "(1>A&B)&(2>A&B)": (((d1, d2), (a, b), "each"), lambda x: (both(first(x)) + both(second(x))) / 2),
        "1&2>A&B": (((d1, d2), (a, b), "mean"), lambda x: both((first(x) + second(x)) / 2)),
        "(1>A)&(2>B)": (((d1, d2), (a, b), "own"), lambda x: (f(first(x)) + g(second(x))) / 2),
    }
    x, noise = torch.rand(2, 3, 32, 32), Noise.of(0, "t", image_keys(["a", "b"]))
    for name, ((denoiser, models, wiring), formula) in wirings.items():
        file.unlink(missing_ok=True)
        images = sparring.ImageSet.of(torch.rand(2, 3, 32, 32), [0, 1])
        sparring.train("hgd-ensemble", data=images, out=file, denoiser=denoiser, target=models, wiring=wiring)
        with pytest.raises(SparringError, match="exists; delete it"):
            sparring.train("hgd-ensemble", data=images, out=file, denoiser=denoiser, target=models, wiring=wiring)
        system = sparring.defense(f"hgd-ensemble:file={file}").install(Defended(f))
        with torch.no_grad():
            assert torch.allclose(system.system().scores(x, noise), formula(x), atol=1e-5), name
            assert torch.allclose(system.drop().system().scores(x, noise), both(x), atol=1e-5), name
    file.write_text("[[member]]\nmodel = 3\n")
    with pytest.raises(SparringError, match=r"a \[\[member\]\] has models"):
        sparring.defense(f"hgd-ensemble:file={file}").install(Defended(f))
