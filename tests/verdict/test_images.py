"""A line per image, with the checks that doubt it."""

from __future__ import annotations

import csv

from typer.testing import CliRunner

import sparring
from sparring.checks.controls import images, linear_net
from sparring.cli.app import app
from sparring.testing.networks import labels
from sparring.verdict.images import image_rows


def test_every_image_of_a_number_has_its_worst_point_and_the_reasons_against_it(tmp_path):
    model, x = linear_net(scale=0.1), images(20)
    run = tmp_path / "run"
    # one step is little: what it leaves is doubted
    result = sparring.evaluate(model, (x, labels(model, x)), threats=["adaptive"], attacks=["fgsm:eps=2/255"], out=run)
    (verdict,), (closed,) = result.verdicts, result.closed
    lines = image_rows(run)
    assert len(lines) == 20
    assert sum(line["right"] for line in lines) / 20 == closed.robust_accuracy
    assert 0 < closed.robust_accuracy < 1
    for line in lines:
        assert line["suspect"] == (line["image"] in verdict.suspects) == bool(line["reasons"])
        assert line["reasons"] == " ".join(verdict.suspects.get(line["image"], ()))
        assert line["right"] == 1 or (line["label"] != line["y"] and line["by_attack"] == "fgsm:eps=2/255")
    assert any(line["suspect"] for line in lines)
    done = CliRunner().invoke(app, ["report", str(run), "--images", str(tmp_path / "images.csv")])
    assert done.exit_code == 0
    with (tmp_path / "images.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [w["image"] for w in written] == [line["image"] for line in lines]
    assert [w["reasons"] for w in written] == [line["reasons"] for line in lines]
    for more in (["--metric", "accuracy"], [str(run)]):
        refused = CliRunner().invoke(app, ["report", str(run), *more, "--images", str(tmp_path / "more.csv")])
        assert refused.exit_code != 0
        assert not (tmp_path / "more.csv").exists()
    next(run.glob("rows/*/*.parquet")).unlink()  # as if interrupted
    refused = CliRunner().invoke(app, ["report", str(run), "--images", str(tmp_path / "more.csv")])
    assert refused.exit_code != 0
    assert not (tmp_path / "more.csv").exists()
