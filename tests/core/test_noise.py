"""Philox: known answers, moments, and independence of batch composition."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sparring.core.noise import Noise, image_keys, philox, philox_on_cpu, signs


def _word(value: int) -> torch.Tensor:
    return torch.tensor([[value]])


def _stacked(counter: tuple[torch.Tensor, ...], key: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return torch.stack(philox(counter, key), -1)


@pytest.mark.parametrize("rounds", [_stacked, philox_on_cpu])
def test_known_answers_of_random123(rounds):
    """The three published vectors of philox4x32-10 (Random123, kat_vectors)."""
    full = 0xFFFFFFFF
    cases = [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((full,) * 4, (full,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ]
    for counter, key, answer in cases:
        c0, c1, c2, c3 = (_word(c) for c in counter)
        words = rounds((c0, c1, c2, c3), (_word(key[0]), _word(key[1])))
        assert tuple(int(w) & full for w in words.flatten()) == answer


@pytest.mark.parametrize("tile", [7, 1000, 1300, 1 << 14])
def test_words_broadcast_and_numpys_are_torchs(monkeypatch, tile):
    """As the noise of four images asks: their steps and keys, one name, many elements; in tiles of any size."""
    monkeypatch.setattr("sparring.core.noise.TILE", tile)
    rows, count = (_words(4, 1) for _ in range(4)), torch.arange(1000)[None]
    step, draw, k0, k1 = rows
    counter, key = (count, step, draw, _words(1, 1)), (k0, k1)
    whole = [torch.cat([w.expand(4, 1000)]) for w in (*counter, *key)]
    answer = _stacked((whole[0], whole[1], whole[2], whole[3]), (whole[4], whole[5]))
    assert torch.equal(_stacked(counter, key), answer)
    assert torch.equal(philox_on_cpu(counter, key).long() & 0xFFFFFFFF, answer)


def _words(*shape: int) -> torch.Tensor:
    return torch.randint(0, 2**32, shape)


def _noise(count: int, seed: int = 0) -> Noise:
    return Noise.of(seed, "test", image_keys([str(i) for i in range(count)]))


def test_distributions():
    noise = _noise(4)
    samples = {
        "uniform": (noise.uniform("u", (50_000,)), stats.uniform()),
        "normal": (noise.normal("n", (50_000,)), stats.norm()),
        "laplace": (noise.laplace("l", (50_000,)), stats.laplace()),
    }
    for name, (values, law) in samples.items():
        for row in values:
            assert stats.kstest(row.numpy(), law.cdf).pvalue > 1e-4, name
        rows = torch.corrcoef(values)
        assert (rows - torch.eye(4)).abs().max() < 0.03, f"{name}: rows of different images are correlated"


def test_integers_cover_their_range_evenly():
    values = _noise(1).integers("i", 7, (70_000,))[0]
    counts = torch.bincount(values, minlength=7)
    assert len(counts) == 7
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8, unique=True), st.integers(0, 5))
def test_an_images_noise_does_not_depend_on_its_batch_mates(images: list[int], step: int):
    ids = [str(i) for i in images]
    together = Noise.of(1, "defense", image_keys(ids)).on(torch.full((len(ids),), step)).normal("x", (3, 5, 7))
    for row, name in zip(together, ids, strict=True):
        alone = Noise.of(1, "defense", image_keys([name])).on(torch.tensor([step])).normal("x", (3, 5, 7))[0]
        assert torch.equal(row, alone)


def test_streams_differ_by_seed_role_restart_step_draw_and_tag():
    keys = image_keys(["a"])
    base = Noise.of(0, "judge", keys)
    variants = [
        base,
        Noise.of(1, "judge", keys),
        Noise.of(0, "select", keys),
        Noise.of(0, "judge", keys, 1),
        base.on(torch.tensor([1])),
        base.repeat(2).at(torch.tensor([1])),
        base.repeat(1, 3),
        base.child("stage0"),
        Noise.of(0, "judge", image_keys(["b"])),
    ]
    draws = [v.bits("x", 64) for v in variants] + [base.bits("y", 64)]
    for i, a in enumerate(draws):
        for b in draws[i + 1 :]:
            assert not torch.equal(a, b)


def test_nested_draws_do_not_collide():
    """A vote of 3 inside EOT of 4 has twelve different draws."""
    nested = _noise(1).repeat(4, first=1).repeat(3)
    assert len(nested.draw.unique()) == 12


def test_global_generators_are_neither_read_nor_moved():
    before = torch.get_rng_state()
    first = _noise(2).normal("x", (10,))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    assert torch.equal(first, _noise(2).normal("x", (10,)))


def test_signs_are_fair_independent_and_row_wise():
    noise = Noise.of(3, "probe", image_keys([str(i) for i in range(4)]))
    like = torch.zeros(4, 3, 16, 16)
    found = signs(noise, 40, like)
    assert found.shape == (4, 40, 3, 16, 16)
    assert set(found.unique().tolist()) == {-1.0, 1.0}
    flat = found.flatten(2)
    assert flat.mean(2).abs().max() < 5 / 768**0.5
    similarity = torch.einsum("bkd,bjd->bkj", flat, flat) / 768 - torch.eye(40)
    assert similarity.abs().max() < 6 / 768**0.5, "directions are independent, also across words"
    assert torch.equal(signs(noise.at(torch.tensor([2])), 40, like[:1])[0], found[2])
