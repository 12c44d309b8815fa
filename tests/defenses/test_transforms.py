"""Deflection and resize-and-pad against what they say they do."""

from __future__ import annotations

import pytest
import torch

import sparring
from sparring.core.noise import Noise, image_keys
from sparring.defenses.base import Defended
from sparring.defenses.transforms import DeflectStage, ResizePadStage


def noise(count: int, seed: int = 0) -> Noise:
    return Noise.of(seed, "test", image_keys([str(i) for i in range(count)]))


def test_a_deflected_pixel_is_a_copy_of_one_nearby():
    x = torch.arange(20 * 20.0).reshape(1, 1, 20, 20).repeat(6, 3, 1, 1)
    out = DeflectStage(40, 3)(x, noise(6))
    moved = (out != x)[:, 0]
    assert 20 <= int(moved.flatten(1).sum(1).min()) <= 40
    assert torch.equal(out[:, 0], out[:, 2]), "all channels of a pixel together"
    row, column = (out[:, 0] // 20), (out[:, 0] % 20)
    assert int((row - torch.arange(20.0)[:, None]).abs().max()) <= 3
    assert int((column - torch.arange(20.0)).abs().max()) <= 3


def test_scale_one_is_the_identity_and_smaller_ones_leave_a_zero_frame():
    x = torch.rand(5, 3, 12, 10) + 0.1
    assert torch.allclose(ResizePadStage(1.0)(x, noise(5)), x, atol=1e-5)
    flat = torch.ones(200, 1, 12, 12)
    out = ResizePadStage(0.75)(flat, noise(200))
    area = out.flatten(1).sum(1).sqrt()
    assert torch.allclose(area, area.round(), atol=1e-4), "a resized constant image is a square of ones"
    assert sorted({int(a) for a in area.round()}) == [9, 10, 11, 12]
    corner = out[:, 0].argmax(1).argmax(1)
    assert len(corner.unique()) > 2


def test_resizing_halves_a_ramp():
    x = torch.arange(8.0).reshape(1, 1, 1, 8).expand(1, 1, 8, 8).contiguous()
    for seed in range(20):
        out = ResizePadStage(0.5)(x, noise(1, seed))[0, 0]
        row = out[out.abs().sum(1) > 0][0]
        seen = row[row > 0]
        if len(seen) == 4:
            assert seen.tolist() == pytest.approx([0.5, 2.5, 4.5, 6.5], abs=1e-5)
            return
    pytest.fail("no draw of half size in 20")


def test_region_based_classification_is_a_vote_over_uniform_noise():
    system = sparring.defense("uniform:eps=0.02+vote:samples=9").install(Defended(torch.nn.Flatten()))
    assert system.readout.samples == 9
    assert system.readout.rule == "vote"


def test_sign_noise_has_two_values_of_equal_chance():
    stage = sparring.defense("sign:std=0.1").install(Defended(torch.nn.Flatten())).stages[0]
    moved = stage(torch.full((10, 3, 8, 8), 0.5), noise(10)) - 0.5
    assert torch.allclose(moved.abs(), torch.full_like(moved, 0.1), atol=1e-6)
    assert abs(float((moved > 0).double().mean()) - 0.5) < 0.05
