"""Numbers of an analysis: alone, as counts, or from one value an image, which are compared as pairs where the images are the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sparring.analysis.panel import per_image
from sparring.recipes.bounds import difference
from sparring.recipes.expand import Address
from sparring.recipes.numbers import Number, PerImage
from sparring.recipes.reading import Absent, Reader, quotient
from sparring.recipes.steps import Folders

IDS = [f"image{i}" for i in range(60)]
LOW = [float(i % 10) for i in range(60)]
DATA = {
    "low": per_image(IDS, LOW),
    "high": per_image(IDS, [x + 1 for x in LOW]),
    "elsewhere": per_image([*IDS[1:], "another"], [x + 1 for x in LOW]),
    "middle": per_image(IDS[:3], [1.0, 2.0, 9.0], "median"),
    "nobody": per_image([], []),
    "broken": {**per_image(IDS[:2], [1.0, 2.0]), "values": [1.0, None]},
    "alone": 0.5,
}


def number(tmp_path: Path, name: str) -> Number:
    (tmp_path / "panel.json").write_text(json.dumps({"data": DATA}))
    address = Address(("a",), "paper", 0, "panel", "none", "", (), "accuracy", (name,), False)
    return Reader(Folders(tmp_path, ""), "").number(address)


def test_values_by_image_are_joined_as_they_say(tmp_path):
    assert number(tmp_path, "low").value == pytest.approx(4.5)
    assert number(tmp_path, "low").n == 60
    assert number(tmp_path, "middle").value == 2.0
    assert number(tmp_path, "alone").n == 0


def test_numbers_of_the_same_images_are_pairs(tmp_path):
    """Each image is higher by one: as pairs the difference is sure, of other images it is not."""
    low, high, elsewhere = (number(tmp_path, name) for name in ("low", "high", "elsewhere"))
    pairs, others = difference([high], [low]), difference([elsewhere], [low])
    assert pairs.value == others.value == pytest.approx(1)
    assert pairs.low(0.95) > others.low(0.95) + 0.5


@pytest.mark.parametrize(("name", "why"), [("nobody", "no image is left"), ("broken", "no number for some image")])
def test_what_is_not_there_is_absent(tmp_path, name, why):
    with pytest.raises(Absent, match=why):
        number(tmp_path, name)


RIGHT, AFTER = [1.0] * 40 + [0.0] * 20, [1.0] * 30 + [0.0] * 30


def share(values: list[float], ids: list[str] = IDS) -> Number:
    top = np.array(values)
    column = PerImage(top, np.ones(len(top)), top > 0.5, "share", False)
    about = ("a",), "paper", 0, "", "", "".join(ids)
    return Number(*about, (column,), 100.0, 100 * top.mean())


def test_a_cell_may_be_one_minus_the_quotient_of_two():
    """1 - (30 of 60) / (40 of 60): a quarter; images are drawn for both together."""
    fallen = quotient(share(AFTER), share(RIGHT), True)
    assert fallen.value == pytest.approx(25)
    assert quotient(share(AFTER), share(RIGHT), False).value == pytest.approx(75)
    bounds = difference([fallen], [])
    assert 10 < bounds.low(0.95) < 25 < bounds.high(0.95) < 45
    assert Number.of(fallen.json()).value == pytest.approx(25)


@pytest.mark.parametrize(
    ("divisor", "why"),
    [
        (share(RIGHT, IDS[::-1]), "of different images"),
        (share([0.0] * 60), "its divisor is 0"),
        (quotient(share(AFTER), share(RIGHT), True), "only shares of all images"),
    ],
)
def test_a_quotient_of_what_does_not_fit_is_absent(divisor, why):
    with pytest.raises(Absent, match=why):
        quotient(share(AFTER), divisor, True)
