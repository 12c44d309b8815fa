"""The page as data and as text: what its parts hold, how large it is, what several runs look like."""

from __future__ import annotations

import base64
import io
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import sparring
from sparring.checks.controls import images, linear_net
from sparring.evaluation.records.files import read_run
from sparring.evaluation.results.load import whole_rows
from sparring.report.content import Card, Evaluated, Strip, Table, sections_of
from sparring.report.curves import eps_curves
from sparring.report.figures import data_uri
from sparring.report.names import ClassNames
from sparring.report.page import write_report
from sparring.report.runs import side_by_side
from sparring.report.samples import chosen
from sparring.verdict.images import image_rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out, net, x = tmp_path_factory.mktemp("page") / "run", linear_net(scale=0.2), images(12)
    y = net(x).argmax(1).detach()
    attacks = ["pgd:eps=1/255,steps=2", "pgd:eps=8/255,steps=2"]
    sparring.evaluate(net, (x, y), ["cd:bits=3"], ["oblivious", "adaptive"], attacks, out=out)
    return out


@pytest.fixture(scope="module")
def run(folder) -> Evaluated:
    return Evaluated(str(folder), read_run(folder), sparring.load_evaluation(folder))


def section(run: Evaluated, title: str):
    return next(s for s in sections_of(run) if s.title == title)


def test_a_card_holds_the_verdict_and_no_more(run):
    cards = [item for item in section(run, "Verdict").items if isinstance(item, Card)]
    for card, v in zip(cards, run.evaluation.verdicts, strict=True):
        assert card.number == (v.robust_accuracy, v.lower, v.upper)
        assert card.parts == (v.trusted, v.suspect)
        assert (card.line, card.sentence, card.next) == (v.line, v.sentence, v.next)
        assert [(r[0].text, r[1].text == "yes") for r in card.evidence.rows] == [(e.name, e.ok) for e in v.evidence]


def test_a_verdict_without_a_number_has_none_on_its_card(run):
    nan = float("nan")
    invalid = replace(run.evaluation.verdicts[0], robust_accuracy=nan, lower=nan, upper=nan, trusted=nan, suspect=nan)
    card = section(replace(run, evaluation=replace(run.evaluation, verdicts=(invalid,))), "Verdict").json()["items"][0]
    assert card["number"] is None
    assert card["parts"] is None
    json.dumps(card, allow_nan=False)


def test_every_image_has_a_line_and_doubted_and_broken_ones_come_first(run, folder):
    (table,) = [item for item in section(run, "Image by image").items if isinstance(item, Table)]
    lines = image_rows(folder)
    assert len(table.rows) == len(lines)
    outcome = table.columns.index("outcome")
    said = [row[outcome].text for row in table.rows]
    assert said.count("suspect") == sum(line["suspect"] for line in lines)
    assert said.count("not broken") == sum(line["right"] == 1 and not line["suspect"] for line in lines)
    order = ["suspect", "broken", "broken in some draws", "wrong without attack", "not broken"]
    assert [order.index(text) for text in said] == sorted(order.index(text) for text in said)
    assert len(set(said)) > 1


def test_links_of_images_lead_to_their_pictures(run):
    items = section(run, "Image by image").items
    anchors = [sample.anchor for item in items if isinstance(item, Strip) for sample in item.images]
    links = {row[0].link for item in items if isinstance(item, Table) for row in item.rows if row[0].link}
    assert links
    assert links <= {f"#{anchor}" for anchor in anchors}
    assert len(set(anchors)) == len(anchors)


def test_a_suspect_image_stands_first_among_the_pictures(run):
    verdict = next(v for v in run.evaluation.verdicts if v.defense == "cd:bits=3")
    last = sorted(i for item in section(run, "Image by image").items if isinstance(item, Strip) for i in _ids(item))[-1]
    doubted = replace(verdict, suspects={last: ("X2",)})
    again = section(replace(run, evaluation=replace(run.evaluation, verdicts=(doubted,))), "Image by image")
    strip = next(i for i in again.items if isinstance(i, Strip) and i.title == f"{verdict.defense} · {verdict.threat}")
    assert _ids(strip)[0] == last
    assert "suspect: X2" in strip.images[0].shots[1].caption


def test_pictures_are_of_what_speaks_against_a_number_wherever_it_stands(tmp_path):
    """Of a hundred images in blocks of ten, those that fell were once pictured only if they were among the first six."""
    net, x = linear_net(scale=0.2), images(40)
    y = net(x).argmax(1).detach()
    spec = {"data": (x, y), "defenses": ["cd:bits=3"], "threats": ["adaptive"], "attacks": ["pgd:eps=4/255,steps=3"]}
    result = sparring.evaluate(net, **spec, block=10, out=tmp_path / "run")
    record = read_run(tmp_path / "run")
    rows = whole_rows(tmp_path / "run", record)[0]
    pictured = chosen(Evaluated(str(tmp_path / "run"), record, result), rows)["cd:bits=3", "adaptive"]
    clean = {str(rows.at("image", int(at))) for at in np.flatnonzero(rows.clean("cd:bits=3") & (rows["k"] > 0))}
    attacked = rows.where(defense="cd:bits=3", threat="adaptive")
    fallen = {str(rows.at("image", int(at))) for at in np.flatnonzero(attacked & (rows["k"] == 0))} & clean
    assert 0 < len(fallen) < 40
    suspects = set().union(*(v.suspects for v in result.verdicts))
    assert {p.image for p in pictured} <= suspects | fallen
    given = sparring.load_data((x, y))
    for p in pictured:
        assert torch.equal(p.content["clean"][p.at], given.x[given.ids.index(p.image)])
        assert not torch.equal(p.content["adversarial"][p.at], p.content["clean"][p.at])


def _ids(strip: Strip) -> list[str]:
    return [sample.title.split(",")[0].removeprefix("image ") for sample in strip.images]


def test_pictures_are_exact_where_small_and_light_where_large():
    rng = np.random.default_rng(0)
    small, photo = (rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in (28, 224))
    kind, content = _decoded(data_uri(small))
    assert kind == "png"
    assert (content == small).all()
    gray = np.repeat(small[..., :1], 3, axis=2)
    assert (_decoded(data_uri(gray))[1] == gray).all()
    kind, content = _decoded(data_uri(photo))
    assert kind == "webp"
    assert content.shape == photo.shape, "at its own size"
    assert len(data_uri(photo)) < photo.size / 2


def _decoded(uri: str) -> tuple[str, np.ndarray]:
    kind, text = uri.removeprefix("data:image/").split(";base64,")
    return kind, np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))


def test_points_of_a_curve_say_their_values(run):
    ((norm, svg),) = eps_curves(run.evaluation.closed)
    said = [element.text or "" for element in ET.fromstring(svg).iter("title")]
    for r in run.evaluation.closed:
        share = f"{r.defense}, {r.threat}: at most {100 * r.robust_accuracy:.1f} % at eps {255 * r.eps:.4g}"
        assert any(text.startswith(share) and f"n={r.n}" in text for text in said), norm


def test_names_are_those_of_the_data_and_imagenets_where_1000_classes_have_none():
    given = ClassNames.of({"class_names": ["cat", ""], "classes": 2})
    assert [given.of_label(label) for label in (0, 1, 7, -1)] == ["cat", "1", "7", "no answer"]
    assert not given.guessed
    pytest.importorskip("timm")
    known = ClassNames.of({"class_names": ["my fish"], "classes": 1000})
    assert known.guessed
    assert [known.of_label(label) for label in (0, 2)] == ["my fish", "great white shark"]
    assert len(set(known.given)) == 1000, "two classes never have one name"


def test_several_runs_stand_in_one_table_and_one_without_a_verdict_says_so(run, folder, tmp_path):
    broken_off = replace(run, evaluation=replace(run.evaluation, verdicts=(), missing="interrupted"))
    table = next(item for item in side_by_side([run, broken_off]) if isinstance(item, Table))
    assert [row[6].text for row in table.rows] == [
        *(v.word.replace("_", " ") for v in run.evaluation.verdicts),
        "none: incomplete",
    ]
    assert all(len(row) == len(table.columns) for row in table.rows)
    page = write_report([folder, folder], tmp_path / "page.html").read_text()
    assert page.index("The verdicts of the runs") < page.index('<article class="card')
    assert len(re.findall(r'<h2 id="[^"]*">Run ', page)) == 2


def test_all_links_within_a_page_lead_somewhere(folder, tmp_path):
    page = write_report([folder], tmp_path / "page.html").read_text()
    names = re.findall(r'\bid="([^"]+)"', page)
    assert len(set(names)) == len(names)
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(names)
