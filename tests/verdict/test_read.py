"""Verdicts as a user meets them: from ``evaluate``, from a finished folder, on the command line."""

from __future__ import annotations

import json

import pytest

import sparring
from sparring.checks.controls import images, linear_net
from sparring.core.errors import SparringError
from sparring.evaluation.records.claim import Claim
from sparring.evaluation.records.files import read_run
from sparring.report.content import Card, Evaluated, Text, sections_of
from sparring.report.sections.verdict import verdict
from tests.cli.test_cli import FACTORIES, place, run  # noqa: F401  (place is a fixture)

KEYS = ["defense", "threat", "norm", "eps", "verdict"]
CLAIM = "adaptive,linf 4/255 = 0.99"
BASE = ("evaluate", "python:judged:plain", "--data", "data.npz", "--attack", "pgd:eps=4/255,steps=3")


@pytest.fixture
def here(place):  # noqa: F811
    """The command line's folder, with the models in a module of our own: a process imports a name once."""
    (place / "judged.py").write_text(FACTORIES)
    return place


@pytest.fixture(scope="module")
def net_and_data():
    net, x = linear_net(scale=0.2), images(12)
    return net, (x, net(x).argmax(1).detach())


@pytest.fixture(scope="module")
def folder(net_and_data, tmp_path_factory):
    out, attacks = tmp_path_factory.mktemp("verdict") / "run", ["apgd:eps=1/255,steps=20", "apgd:eps=4/255,steps=20"]
    sparring.evaluate(*net_and_data, defenses=["cd:bits=3"], attacks=attacks, out=out)
    return out


@pytest.mark.slow
def test_one_verdict_a_defense_and_ball_defenses_first(folder):
    verdicts = sparring.load_evaluation(folder).verdicts
    assert [(v.defense, v.threat, v.eps) for v in verdicts] == [
        (d, "adaptive", e) for d in ("cd:bits=3", "none") for e in (1 / 255, 4 / 255)
    ]


def test_a_finished_folder_is_judged_anew_without_a_run(folder):
    before = {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    plain = sparring.load_evaluation(folder)
    anew = sparring.load_evaluation(folder, "none", ["oblivious,linf 4/255 = 1", "adaptive,linf 4/255 = 1"])
    assert {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()} == before
    # few pixels change their level in so small a ball: PL says that nothing moves
    assert {v.word for v in plain.verdicts if v.defense == "cd:bits=3"} <= {"NOT_BROKEN_YET", "ATTACK_NOT_TRUSTED"}
    of = {(v.threat, v.eps): v for v in anew.verdicts if v.defense == "cd:bits=3"}
    assert of["adaptive", 4 / 255].word == "REFUTED"
    assert of["oblivious", 4 / 255], "a claim about a weaker threat has a verdict of its own"
    assert anew.cells == plain.cells
    assert all(v.word != "REFUTED" for v in anew.verdicts if v.defense == "none"), "the claim is the defense's"


@pytest.mark.slow
def test_baseline_and_claims_are_no_part_of_what_a_run_is(net_and_data, folder):
    asked = {"baseline": "none", "claims": ["adaptive,linf 1/255 = 0.5"]}
    attacks = ["apgd:eps=1/255,steps=20", "apgd:eps=4/255,steps=20"]
    identity = read_run(folder)["identity"]
    result = sparring.evaluate(*net_and_data, defenses=["cd:bits=3"], attacks=attacks, out=folder, **asked)
    assert read_run(folder)["identity"] == identity
    assert result.verdicts == sparring.load_evaluation(folder).verdicts, "the folder remembers what was asked"
    assert result.json()["verdicts"][0]["evidence"]
    sparring.evaluate(*net_and_data, defenses=["cd:bits=3"], attacks=attacks, out=folder)


def test_two_claims_about_one_number_are_refused(folder):
    with pytest.raises(SparringError, match="are about the same number; give one"):
        sparring.load_evaluation(folder, None, ["adaptive,linf 4/255 = 0.5", "adaptive,linf 4/255 = 0.9"])


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"baseline": "cd:bits=4"}, "baseline 'cd:bits=4' is not evaluated"),
        (
            {"claims": "adaptive,linf 3/255 = 0.5"},
            "is about no number of this evaluation; there are adaptive,linf 1/255",
        ),
        ({"claims": "adaptive linf"}, "is not understood; write THREAT,NORM EPS = SHARE"),
        ({"claims": "adaptive,linf 2/255 = 45"}, "value=45 is out of range"),
        ({"claims": "adaptive,linf x = 0.4"}, "eps=x is not valid"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_and_after_a_run(net_and_data, folder, asked, says):
    with pytest.raises(SparringError, match=says):
        sparring.evaluate(*net_and_data, attacks=["apgd:eps=1/255,steps=20"], **asked)
    with pytest.raises(SparringError, match=says):
        sparring.load_evaluation(folder, asked.get("baseline"), [c] if (c := asked.get("claims")) else None)


def test_claims_are_texts():
    claim = Claim.of(" adaptive:draws=8 , linf 8/255=0.45 ")
    assert str(claim) == "adaptive:draws=8,linf 8/255 = 0.45"
    assert Claim.of(str(claim)) == claim


def test_an_incomplete_run_has_no_verdict_and_says_so(net_and_data, tmp_path):
    result = sparring.evaluate(*net_and_data, threats=["adaptive"], attacks=["fgsm:eps=2/255"], out=tmp_path / "run")
    assert result.verdicts
    next((tmp_path / "run").glob("rows/*/*.parquet")).write_bytes(b"")
    torn = sparring.load_evaluation(tmp_path / "run")
    assert torn.verdicts == ()
    first = verdict(Evaluated("run", read_run(tmp_path / "run"), torn))
    assert first is not None
    assert first.items == (Text("No verdict: the run is incomplete.", "alarm"),)


def test_every_closed_number_says_which_checks_undermine_it(folder):
    said = sparring.load_evaluation(folder)
    for number in said.json()["closed"]:
        about = [f for f in said.findings if f.about(*(number[k] for k in ("defense", "threat", "norm", "eps")))]
        assert set(number["undermined"]) == {f.check for f in about if not f.ok and f.severity in ("FAIL", "FATAL")}


@pytest.mark.slow
def test_table_page_and_json_begin_with_the_same_verdict(here):
    words = (*BASE, "--defense", "cd:bits=3", "--threat", "adaptive", "--baseline", "none", "--claim", CLAIM)
    text = run(here, *words, "--out", "run", "--html", "page.html").stdout.splitlines()
    said = json.loads(run(here, *words, "--out", "run", "--json").stdout)
    assert next(iter(said)) == "verdicts"
    first = said["verdicts"][0]
    assert list(first)[: len(KEYS)] == KEYS
    assert text[0].startswith(f"{first['verdict'].replace('_', ' ')}: cd:bits=3 under adaptive, linf 4/255: robust")
    assert "points" in text[0]
    assert any(line.startswith(("  yes ", "  no ")) for line in text)
    assert f"next: {first['next']}" in text
    page = (here / "page.html").read_text()
    assert text[0][:60] in page
    assert page.index(text[0][:60]) < page.index("An attack can only prove an upper bound")
    assert json.loads(run(here, "report", "run", "--json").stdout) == said
    other = json.loads(run(here, "report", "run", "--json", "--claim", "adaptive,linf 4/255 = 0").stdout)
    assert other["verdicts"][0] != first
    assert other["cells"] == said["cells"]


@pytest.mark.slow
def test_the_next_command_can_be_pasted(here):
    import shlex

    words = (*BASE, "--defense", "cd:bits=3", "--threat", "adaptive", "--claim", CLAIM, "--json")
    for said in json.loads(run(here, *words).stdout)["verdicts"]:
        command = shlex.split(said["next"])
        assert command[0] == "sparring"
        run(here, *command[1:], *(() if "doctor" in command else ("--dry-run",)))


def test_what_is_invalid_says_so_as_json_beside_its_line(here):
    words = ("evaluate", "python:judged:probabilities", "--data", "data.npz", "--threat", "adaptive", "--attack")
    done = run(here, *words, "fgsm:eps=4/255", "--expect-clean", "0.1", "--json", code=2)
    said = json.loads(done.stdout)
    verdict = said["verdicts"][0]
    assert verdict["verdict"] == "INVALID"
    assert verdict["robust_accuracy"] is None
    assert f"INVALID: check {verdict['reasons'][0]} failed: " in done.stderr
    assert any(f["check"] == verdict["reasons"][0] and not f["ok"] for f in said["checks"])
    assert verdict["next"].startswith("sparring doctor python:judged:probabilities --data data.npz")
    assert run(here, *words, "fgsm:eps=4/255", "--expect-clean", "0.1", code=2).stdout == ""


def test_evidence_is_a_table_on_the_page(folder):
    first = sections_of(Evaluated(str(folder), read_run(folder), sparring.load_evaluation(folder)))[0]
    cards = [item for item in first.items if isinstance(item, Card)]
    assert len(cards) == 4
    assert {row[1].text for card in cards for row in card.evidence.rows} == {"yes", "no"}
