"""An attack that is kept to some of the pixels by its own text."""

from __future__ import annotations

import pytest
import torch

import sparring
from sparring.attacks.attack import attack
from sparring.checks.controls import context
from sparring.core.errors import SparringError
from sparring.core.registry import CHECKS
from sparring.models.load import load_model
from sparring.models.overlap import bait_pixels, gradient_overlap, top_pixels
from sparring.testing.networks import conv_classifier, pictures


def test_the_text_is_the_mask():
    """The same points as with the mask given by hand, and the same text back."""
    network, images = conv_classifier(), pictures()
    named = attack("pgd:eps=0.1,steps=3,mask=bait")
    assert attack(str(named)) == named
    assert str(named) == "pgd:steps=3,eps=0.1,mask=bait"
    by_name = named.run(network, images.x, images.y, stop="never").x
    mask = bait_pixels(32, 32).float().expand(len(images.x), 1, -1, -1)
    by_hand = attack("pgd:eps=0.1,steps=3").run(network, images.x, images.y, stop="never", mask=mask).x
    assert torch.equal(by_name, by_hand)
    assert float(((by_name - images.x) * (1 - mask)).abs().max()) == 0
    others = attack("pgd:eps=0.1,steps=3,mask=bait:off=true").run(network, images.x, images.y, stop="never").x
    assert float(((others - images.x) * mask).abs().max()) == 0
    assert float((others - images.x).abs().max()) > 0.09


@pytest.mark.parametrize("text", ["fgsm:norm=l2,eps=0.5", "bim:norm=l1,eps=3,steps=1,step_size=1"])
def test_no_part_of_a_step_is_spent_on_pixels_that_may_not_change(text):
    """A step along the whole gradient would leave most of the ball unused: robust accuracy would be too high."""
    network, images = conv_classifier(), pictures()
    outcome = attack(f"{text},mask=bait").run(network, images.x.clamp(0.3, 0.7), images.y, stop="never")
    assert outcome.distance.tolist() == pytest.approx([attack(text).budget] * len(images.y), rel=1e-3)


def test_the_most_tied_pixels_are_those_of_the_overlap():
    network, images = conv_classifier(), pictures()
    tied = top_pixels(gradient_overlap(load_model("ace_toy:weights=random"), 3, 32), 0.3)
    moved = attack("pgd:eps=0.1,steps=3,mask=overlap:model=ace_toy;share=0.3").run(
        network, images.x, images.y, stop="never"
    )
    where = (moved.x != images.x).any(1)
    assert bool((where <= tied).all())
    assert 0.25 < float(tied.float().mean()) <= 0.3
    assert bool(where.any(0)[tied].all())


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("mask=bite", "unknown pixel mask 'bite'; did you mean bait"),
        ("mask=overlap:model=resnet0", "unknown model 'resnet0'"),
        ("mask=overlap", "field 'model' is required"),
        ("mask=overlap:model=ace_toy;share=2", "share=2 is out of range"),
    ],
)
def test_a_rule_that_is_none_is_one_line(text, line):
    with pytest.raises(SparringError, match=line):
        attack(f"pgd:eps=0.1,{text}")


def test_images_that_the_rule_does_not_fit_are_refused():
    small = torch.rand(2, 3, 8, 8)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4)).eval()
    with pytest.raises(SparringError, match="ace_toy does not take images of 3x8x8"):
        attack("fgsm:eps=0.1,mask=overlap:model=ace_toy").run(net, small, torch.zeros(2, dtype=torch.int64))


def test_masked_attacks_alone_are_no_measure():
    """They break fewer images than who may change every pixel: P16 says so, and not where another attack may."""
    masked, free = attack("pgd:eps=0.1,steps=2,mask=bait"), attack("pgd:eps=0.1,steps=2")
    assert not CHECKS["P16"].run(context(attacks=[masked]))[0].ok
    assert CHECKS["P16"].run(context(attacks=[masked, free]))[0].ok


def test_an_evaluation_of_a_masked_attack_is_not_trusted(tmp_path):
    network, images = conv_classifier(), pictures()
    result = sparring.evaluate(
        network, (images.x, images.y), attacks=["pgd:eps=0.02,steps=3,mask=bait"], out=tmp_path / "run"
    )
    assert any(f.check == "P16" and not f.ok for f in result.findings)


def test_one_pixel_proposes_only_pixels_that_may_change():
    """Of 900 pixels two may change, and either flips the label: of four proposals none would lie there by chance."""

    class Bright(torch.nn.Module):
        def forward(self, x):
            there = x[:, 0, 3, 5] + x[:, 0, 20, 7]
            return torch.stack([0.1 + 0 * there, there, 0 * there, 0 * there], 1)

    mask = torch.zeros(3, 1, 30, 30)
    mask[:, 0, 3, 5] = mask[:, 0, 20, 7] = 1
    outcome = attack("one_pixel:steps=1,population=4").run(
        Bright().eval(), torch.zeros(3, 1, 30, 30), torch.zeros(3, dtype=torch.long), mask=mask
    )
    assert bool(outcome.success.all())
    assert bool((outcome.x[:, 0] * (1 - mask[:, 0]) == 0).all())
