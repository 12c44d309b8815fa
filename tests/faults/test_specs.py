"""Whatever is typed: the right number, or one line that names the field, the fault and the fix."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import sparring
from sparring.checks.controls import images, linear_net
from sparring.core.errors import SparringError
from sparring.evaluation.plan.spec import EvaluationSpec
from tests.faults.commands import ATTACKED, EVALUATE, IMAGES, MODEL, furnish, refused, say

Words = tuple[str, ...]
OPTIONS: dict[Words, str] = {
    ("--draws", "0"): "draws must be at least 1",
    ("--draws", "-1"): "draws must be at least 1",
    ("--draws", "70000"): "at most 65536",
    ("--draws", "2.5"): "draws=2.5 is not valid",
    ("--draws", "1_0"): "write a plain number",
    ("--draws", "many"): "write a plain number",
    ("--draws", ""): "write a plain number",
    ("--limit", "0"): "limit must be at least 1",
    ("--limit", "-3"): "limit must be at least 1",
    ("--limit", "1e400"): "limit=1e400 is not a finite number",
    ("--limit", "nan"): "limit=nan is not a finite number",
    ("--limit", "１２"): "write a plain number",
    ("--limit", "0x10"): "write a plain number",
    ("--limit", "2,5"): "decimal point",
    ("--seed", "-1"): "seed must be at least 0",
    ("--seed", "1e30"): "at most 4611686018427387904",
    ("--seed", "none"): "seed=none is not valid",
    ("--slots", "0"): "slots must be at least 1",
    ("--slots", "-64"): "slots must be at least 1",
    ("--slots", "lots"): "write a plain number",
    ("--expect-clean", "1.5"): "expect_clean must be in [0,1]",
    ("--expect-clean", "-0.1"): "expect_clean must be in [0,1]",
    ("--expect-clean", "80%"): "write a plain number",
    ("--expect-clean", "nan"): "is not a finite number",
    ("--tier", ""): "is not one of quick, standard, thorough",
    ("--tier", "brisk"): "is not one of quick, standard, thorough",
    ("--device", "gpu"): "device 'gpu' is not there",
    ("--device", ""): "device '' is not there",
    ("--out", ""): "'--out': an empty path",
    ("--baseline", ""): "--baseline: nothing stands in ''",
    ("--html", " "): "'--html': an empty path",
    ("--html", "data.npz"): "data.npz is no .html file",
    ("--html", "/dev/null"): "/dev/null is no .html file",
    ("--save-config", ""): "'--save-config': an empty path",
}
BUDGETS: dict[Words, str] = {
    ("--eps", "-1"): "eps=-1 is out of range",
    ("--eps", "0"): "eps must be in (0,1e9]",
    ("--eps", "0,1"): "a decimal is written with a point: 0.1",
    ("--eps", "nan"): "is not a finite number",
    ("--eps", "inf"): "is not a finite number",
    ("--eps", "1e400"): "is not a finite number",
    ("--eps", "8/0"): "a fraction over 0",
    ("--eps", "8/255/2"): "write a plain number",
    ("--eps", "8 / 255"): "write a plain number",
    ("--eps", "−8/255"): "write - (ASCII)",
    ("--eps", "８/255"): "write a plain number",
    ("--eps", "1/255,,2/255"): "--eps: empty part",
    ("--eps", "1/255,"): "--eps: empty part",
    ("--eps", ""): "--eps: nothing stands in ''",
    ("--eps", "8"): "did you mean 8/255?",
    ("--eps", "0.6"): "--large-eps",
    ("--eps", "8", "--large-eps"): "larger than the whole box",
}
ATTACKS: dict[str, str] = {
    "": "--attack: nothing stands in ''",
    " ": "--attack: nothing stands in ' '",
    ",": "--attack: empty part",
    "fgsm,": "--attack: empty part",
    ",fgsm": "--attack: empty part",
    "fgsm,,pgd": "--attack: empty part",
    "pgd:": "nothing stands in",
    "pgd:eps=": "'eps=' in 'pgd:eps=' has no value",
    "pgd:=8/255": "has no field name",
    "pgd:eps=8/255,eps=4/255": "field 'eps' given twice",
    ":eps=1": "empty name",
    "pgdd": "did you mean pgd",
    "PGD": "did you mean pgd",
    "pgd:eps=0,1": "a decimal is written with a point",
    "pgd:step=4": "did you mean steps",
    "pgd:eps=8": "did you mean 8/255?",
    "pgd:eps=-8/255": "eps must be in [0,1e9]",
    "pgd:eps=0": "eps=0 is a ball without room",
    "pgd:eps=1e-400": "too small",
    "pgd:eps=8/0": "a fraction over 0",
    "pgd:eps=0x8": "write a plain number",
    "pgd:eps=8_0/255": "write a plain number",
    "pgd:eps=8/255 4": "write a plain number",
    "pgd:norm=l2,eps=14": "larger than the whole box",
    "pgd:norm=l1,eps=193": "larger than the whole box",
    "fmn:norm=l0,eps=65": "larger than the whole box",
    "fmn:norm=l0,eps=0.5": "write eps=1 or more",
    "pgd:steps=0": "steps must be at least 1",
    "pgd:steps=2.5": "steps=2.5 is not valid",
    "pgd:steps=none": "steps=none is not valid",
    "pgd:steps=true": "write a plain number",
    "pgd:restarts=0": "restarts must be at least 1",
    "pgd:targets=-1": "targets must be at least 0",
    "pgd:target=-1": "target must be at least 0",
    "pgd:targets=2,target=1": "exclude each other",
    "pgd:norm=l7": "linf | l2",
    "pgd:loss=hinge": "ce | margin | dlr",
    "pgd:start=maybe": "start=maybe is not valid",
    "jsma:theta=0": "not 0",
    "mifgsm:kernel=4": "must be odd",
    "adaifgsm:levels=1-x": "lengths joined by -",
    "adaifgsm:levels=１-2": "lengths joined by -",
    "local_search:width=2,pixels=3": "at least pixels=3",
    "noise:std=1e30": "std must be in [0,1]",
    "[/b]": "unknown attack '[/b]'",
    "pgd\x1b[31m": r"unknown attack 'pgd\x1b[31m'",
    "pgd:eps=1\n2": "write a plain number",
}
DEFENSES: dict[str, str] = {
    "": "--defense: nothing stands in ''",
    ",": "--defense: empty part",
    "cd:bits=4,": "--defense: empty part",
    "fc:rate=0.5+": "empty part",
    "+fc:rate=0.5": "empty part",
    "fc:rate=0.5++cd:bits=4": "empty part",
    "fc": "'rate' is required",
    "fc:rate=1": "rate must be in [0,1)",
    "fc:rate=-0.1": "rate must be in [0,1)",
    "cd:bits=0": "bits must be at least 1",
    "cd:bits=17": "bits must be at least 1 and at most 16",
    "cd:values=1": "values must be at least 2",
    "cd": "values= or bits=",
    "gauss:std=1e30": "std must be in [0,1]",
    "gauss:std=-0.1": "std must be in [0,1]",
    "gauss:eps=3": "eps must be in [0,2]",
    "gauss:std=0.1,clip=perhaps": "clip=perhaps is not valid",
    "gauss:std=0.1+vote:samples=0": "samples must be at least 1",
    "vote:samples=4+gauss:std=0.1": "comes once and last",
    "shift:size=0": "size must be at least 1",
    "none+cd:bits=4": "none is the undefended model, no stage",
    "shift:side=top": "side=top must be one of",
    "[/b]": "unknown defense '[/b]'",
}
THREATS: dict[str, str] = {
    "": "--threat: nothing stands in ''",
    "adaptive,": "--threat: empty part",
    "adaptive:draws=0": "draws must be at least 1",
    "adaptive:draws=-1": "draws must be at least 1",
    "fixed-w:w=-1": "w must be at least 0",
    "fixed-w:w=70000": "below 65536",
    "known-w:draws=0": "draws must be at least 1",
    "noise:draws=0": "draws must be at least 1",
    "score:queries=0": "queries must be at least 1",
    "score:answers=0": "answers must be at least 1",
    "decision:queries=1e400": "is not a finite number",
    "transfer:ghost=0": "ghost must be in (0,1]",
    "transfer:source=-1": "source must be at least 0",
    "transfer:mode=best": "mode=best is not valid",
    "adaptiv": "did you mean adaptive",
}
OTHERS: dict[Words, str] = {
    (): "",
    (*EVALUATE, "--attack", "ddn", "--eps", "8/255"): "eps=8/255 is used by no attack: ddn looks for the nearest error",
    (*ATTACKED, "--eps", "8/255"): "fgsm has its own, 4/255",
    ("nonsense",): "No such command 'nonsense'",
    ("--nonsense",): "No such option: --nonsense",
    ("evaluate", "--nonsense"): "No such option: --nonsense",
    ("evaluate",): "no model is given",
    ("evaluate", "", "--data", "data.npz"): "model is an empty text",
    ("evaluate", MODEL): "no images are given",
    ("evaluate", MODEL, "--data", ""): "data is an empty text",
    ("evaluate", MODEL, "--data"): "requires an argument",
    ("evaluate", MODEL, "--data", "a.npz", "--data", "data.npz"): "--data is given more than once",
    ("evaluate", MODEL, "--seed", "0", "--data", "data.npz", "--seed=1"): "--seed is given more than once",
    ("train", "classifier", "--data", "a.npz", "--data", "data.npz"): "--data is given more than once",
    ("report", "nowhere", "--html", "a.html", "--html", "b.html"): "--html is given more than once",
    ("evaluate", MODEL, "extra", "--data", "data.npz"): "unexpected extra argument",
    (*ATTACKED, "--source", ""): "--source: nothing stands in ''",
    (*ATTACKED, "--config", "none.toml"): "cannot be read",
    ("list", "nonsense"): "unknown kind 'nonsense'",
    ("list", "attacks", "more"): "unexpected extra argument",
    ("report", "nowhere"): "nowhere",
    ("report", ""): "an empty path",
    ("--plugin", "", "list", "attacks"): "--plugin: an empty path",
    ("doctor", MODEL, "--data", "data.npz:limit=2"): "fields of a path follow a comma; write data.npz,limit=2",
    (*IMAGES, "--attack", "fgsm", "--limit", "2", "--data", "data.npz"): "--data is given more than once",
    ("doctor", MODEL, "--data", "data.npz,limit=4", "--limit", "2"): "limit=4 is in the text, and limit is 2 beside it",
    ("report", "nowhere", "--metric", ""): "--metric: nothing stands in ''",
    (*IMAGES, "--attack", "fgsm", "--slots", "0"): "slots must be at least 1",
    (*IMAGES, "--attack", "fgsm", "--limit", "0"): "limit must be at least 1",
    (*IMAGES, "--attack", "fgsm", "--seed", "-1"): "seed must be at least 0",
    (*IMAGES, "--attack", "fgsm:eps=8"): "did you mean 8/255?",
    (*IMAGES, "--attack", "fgsm:eps=8", "--large-eps"): "larger than the whole box",
    (*IMAGES, "--attack", ""): "empty name",
    (*IMAGES, "--attack", "fgsm:eps=0"): "eps=0 is a ball without room",
    (*IMAGES, "--attack", "fgsm", "--defense", ""): "empty defense",
    (*IMAGES, "--attack", "fgsm", "--defense", "cd:bits=0"): "bits must be at least 1",
    ("doctor", MODEL, "--data", "data.npz", "--limit", "0"): "limit must be at least 1",
    ("doctor", MODEL, "--data", "data.npz", "--expect-clean", "2"): "expect_clean must be in [0,1]",
    ("doctor", MODEL, "--data", "data.npz", "--attack", "pgd:eps=8"): "did you mean 8/255?",
    ("doctor", MODEL, "--data", "data.npz", "--defense", "gauss:std=2"): "std must be in [0,1]",
    ("demo", "--seed", "-1"): "seed must be at least 0",
    ("train",): "",
    ("train", "nonsense"): "unknown training task",
    ("train", "classifier"): "Missing option '--data'",
}
TRAIN = ("train", "classifier", "--data", "data.npz", "--out", "w.safetensors")
TRAINING: dict[Words, str] = {
    ("--lr", "nan"): "lr=nan is not a finite number",
    ("--lr", "0"): "lr must be in (0,10]",
    ("--lr", "-0.1"): "lr must be in (0,10]",
    ("--epochs", "0"): "epochs must be at least 1",
    ("--epochs", "1_0"): "write a plain number",
    ("--batch", "-1"): "batch must be at least 1",
    ("--ema", "1"): "ema must be in [0,1)",
    ("--smoothing", "-0.1"): "smoothing must be in [0,1)",
    ("--smoothing", "1"): "smoothing must be in [0,1)",
    ("--seed", "-1"): "seed must be at least 0",
    ("--limit", "0"): "limit must be at least 1",
    ("--precision", "fp8"): "precision=fp8 is not valid",
    ("--scale", "huge"): "scale=huge is not one of",
    ("--nonsense", "1"): "No such option: --nonsense",
    ("--model", "cifar_resnet20"): "images are 8x8",
    ("--model", "resnet10:width=0"): "width must be at least 1",
    ("--model", "defective:model=resnet10,keep=0"): "keep must be in (0,1]",
    ("--model", "defective:model=resnet10"): "images are 8x8",
}
LABELS = ("analyze", "labels", MODEL, "--data", "data.npz")
ANALYSES: dict[Words, str] = {
    ("analyze", "nonsense"): "unknown analysis 'nonsense'",
    (*LABELS, "--reach", "-1"): "reach must be in (0,1e9]",
    (*LABELS, "--reach", "nan"): "is not a finite number",
    (*LABELS, "--image", "-1"): "image must be at least 0",
    (*LABELS, "--points", "0"): "points must be at least 1",
    (*LABELS, "--points", "many"): "write a plain number",
    (*LABELS, "--seed", "-1"): "seed must be at least 0",
    (*LABELS, "--limit", "0"): "limit must be at least 1",
    (*LABELS, "--limit", "x"): "write a plain number",
    ("analyze", "patches", MODEL, "--data", "data.npz", "--sides", ""): "--sides: nothing stands in ''",
    ("analyze", "patches", MODEL, "--data", "data.npz", "--sides", "2,,4"): "--sides: empty part",
    ("analyze", "patches", MODEL, "--data", "data.npz", "--sides", "0"): "sides must be at least 1",
    ("analyze", "patches", MODEL, "--data", "data.npz", "--confidence", "2"): "confidence must be in [0,1]",
    ("analyze", "overlap", MODEL, "--channels", "2"): "takes 1 | 3",
    ("analyze", "overlap", MODEL, "--size", "0"): "size must be at least 1",
    ("analyze", "overlap", MODEL, "--share", "0"): "share must be in (0,1]",
    ("analyze", "cues", MODEL, "--count", "0"): "count must be at least 1",
    ("analyze", "cues", MODEL, "--size", "8"): "size must be at least 16",
}
COMMANDS: dict[Words, str] = {
    **{(*ATTACKED, *words): says for words, says in OPTIONS.items()},
    **{(*EVALUATE, "--attack", "fgsm", *words): says for words, says in BUDGETS.items()},
    **{(*EVALUATE, "--attack", text): says for text, says in ATTACKS.items()},
    **{(*ATTACKED, "--defense", text): says for text, says in DEFENSES.items()},
    **{(*ATTACKED, "--threat", text): says for text, says in THREATS.items()},
    **{words: says for words, says in OTHERS.items() if says},
    **{(*TRAIN, *words): says for words, says in TRAINING.items()},
    **ANALYSES,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return furnish(tmp_path_factory.mktemp("faults"))


def test_there_are_many():
    assert len(COMMANDS) >= 120


@pytest.mark.parametrize(
    "words", COMMANDS, ids=lambda words: " ".join(words[4:] or words).encode("unicode_escape").decode()[:80]
)
def test_a_faulty_command_is_one_line(words: Words, place: Path):
    assert COMMANDS[words] in refused(place, *words)


@pytest.mark.parametrize("words", [(), ("train",), ("analyze",)])
def test_a_bare_command_prints_its_help(words: Words, place: Path):
    said = say(place, *words)
    assert "Usage:" in said.out + said.err


def rates(folder: Path, *words: str) -> list[tuple[object, ...]]:
    said = say(folder, *words, "--json")
    assert said.code == 0, said.err
    cells = json.loads(said.out)["cells"]
    return [(c["defense"], c["threat"], c["attack"], c["n"], c["robust_accuracy"]) for c in cells]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "same"),
    [
        (("--attack", "fgsm:eps=8/255", "--seed", "1e3"), ("--attack", "fgsm:eps=8/255", "--seed", "1000")),
        (("--attack", "fgsm:eps=.5"), ("--attack", "fgsm:eps=5e-1")),
        (("--attack", "fgsm", "--eps", "4/255", "--eps", "8/255"), ("--attack", "fgsm", "--eps", "4/255,8/255")),
        (("--attack", "fgsm:eps=4/255,fgsm:eps=4/255"), ("--attack", "fgsm:eps=4/255")),
        (("--attack", "fgsm", "--eps", "4/255,4/255"), ("--attack", "fgsm", "--eps", "4/255")),
        (("--attack", "fgsm:eps=4/255", "--threat", "adaptive"), ("--attack", "fgsm:eps=4/255")),
        (
            ("--attack", "square:eps=4/255,steps=5", "--threat", "score,score:queries=1000"),
            ("--attack", "square:eps=4/255,steps=5", "--threat", "score"),
        ),
        (
            ("--attack", "fgsm:eps=4/255", "--defense", "cd:bits=4,cd: bits=4", "--defense", "cd:bits=4"),
            ("--attack", "fgsm:eps=4/255", "--defense", "cd:bits=4"),
        ),
        (("--attack", "fgsm:eps=4/255", "--limit", "4"), ("--attack", "fgsm:eps=4/255", "--limit", "4.0")),
        (("--attack", "fgsm:eps=0.6", "--large-eps"), ("--attack", "fgsm:eps=153/255", "--large-eps")),
    ],
)
def test_a_right_command_in_another_spelling_gives_the_same_number(words: Words, same: Words, place: Path):
    assert rates(place, *EVALUATE, *words) == rates(place, *EVALUATE, *same)


def test_a_minimum_norm_attack_beside_one_that_takes_eps_is_said_to_ignore_it(place: Path):
    said = say(place, *EVALUATE, "--attack", "fgsm,ddn:steps=3", "--eps", "4/255", "--dry-run")
    assert "warning: eps=4/255 is not used by ddn" in said.err


def test_a_linf_habit_in_another_norm_is_one_finding(place: Path):
    for attack, usual in {
        "pgd:norm=l2,eps=8/255,steps=2": "eps=0.5",
        "apgd:norm=l1,eps=8/255,steps=2": "eps=12",
    }.items():
        findings = sparring.evaluate(linear_net(), data(), [], ["adaptive"], [attack]).findings
        (found,) = [f for f in findings if f.check == "P17"]
        assert not found.ok
        assert usual in found.message
    assert "is tiny" in say(place, *IMAGES, "--attack", "pgd:norm=l2,eps=8/255,steps=2").err


def test_copies_of_an_image_are_counted_in_one_finding():
    x = images(20)
    y = linear_net()(x).argmax(1).detach()

    def copied(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.cat([x, x[:count]]), torch.cat([y, 1 - y[:1].clamp(0, 1), y[1:count]])

    findings = sparring.evaluate(linear_net(), copied(2), threats=["adaptive"], attacks=["fgsm:eps=4/255"]).findings
    (found,) = [f for f in findings if f.check == "P18"]
    assert (found.ok, found.severity) == (False, "WARN")
    said = "2 of 22 images are copies of others (20 differ; numbers from 0: 20 of 0, 21 of 1), 1 of them under another label"
    assert said in found.message
    with pytest.raises(SparringError, match="P18 failed: 5 of 25 images are copies"):  # a small set that looks large
        sparring.evaluate(linear_net(), copied(5), threats=["adaptive"], attacks=["fgsm:eps=4/255"])


def data() -> tuple[torch.Tensor, torch.Tensor]:
    x = images(6)
    return x, linear_net()(x).argmax(1).detach()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"attacks": [""]}, "attacks holds an empty text"),
        ({"attacks": ""}, "nothing stands in ''"),
        ({"attacks": None}, "attacks=None is no list"),
        ({"attacks": "fgsm,"}, "empty part"),
        ({"attacks": [7]}, "7 is no spec text"),
        ({"defenses": [""]}, "defenses holds an empty text"),
        ({"defenses": [" "]}, "defenses holds an empty text"),
        ({"threats": ""}, "nothing stands in ''"),
        ({"threats": [None]}, "None in threats is no spec text"),
        ({"eps": -1}, "eps=-1 is out of range"),
        ({"eps": ["8/0"]}, "a fraction over 0"),
        ({"eps": 8}, "did you mean 8/255?"),
        ({"draws": 0}, "draws must be at least 1"),
        ({"draws": float("nan")}, "is not a finite number"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"limit": float("inf")}, "limit=inf is not a finite number"),
        ({"limit": True, "seed": 1.5}, "seed=1.5 is not valid"),
        ({"block": 0}, "block must be at least 1"),
        ({"slots": 0}, "slots must be at least 1"),
        ({"expect_clean": 80}, "expect_clean must be in [0,1]"),
        ({"amp": "perhaps"}, "amp=perhaps is not valid"),
    ],
)
def test_in_python_too(fields: dict[str, object], says: str):
    given: dict[str, object] = {"threats": ["adaptive"], "attacks": ["fgsm"], **fields}
    with pytest.raises(SparringError) as error:
        sparring.evaluate(linear_net(), data(), **given)  # type: ignore[arg-type]
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_one_text_or_number_where_several_may_stand():
    several = {"threats": "adaptive", "attacks": "pgd:steps=4,eps=0.1,fgsm", "eps": 0.1, "sources": "a,b"}
    spec = EvaluationSpec.of(model="m", data="d", defenses="cd:bits=4,fc:rate=0.5", **several)
    assert spec.defenses == ("cd:bits=4", "fc:rate=0.5")
    assert spec.threats == ("adaptive",)
    assert spec.attacks == ("pgd:steps=4,eps=0.1", "fgsm")
    assert spec.eps == (0.1,)
    assert spec.sources == ("a", "b")
    assert (
        EvaluationSpec.of(model="m", data="d", sources=torch.nn.Sequential(torch.nn.Flatten())).sources[0][0]
        is not None
    )
    assert EvaluationSpec.of(model="m", data="d", eps="1/255,2/255").eps == (1 / 255, 2 / 255)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('defenses = ""', "nothing stands in ''"),
        ('defenses = [""]', "defenses holds an empty text"),
        ('attacks = "fgsm,"', "empty part"),
        ("eps = -1", "eps=-1"),
        ("eps = [nan]", "is not a finite number"),
        ("draws = 0", "draws must be at least 1"),
        ("limit = 0", "limit must be at least 1"),
        ("limit = 1.5", "limit = 1.5"),
        ("expect_clean = 2.0", "expect_clean must be in [0,1]"),
        ("block = -1", "block must be at least 1"),
        ('large_eps = "yes"', "large_eps = 'yes'"),
        ("seed = -1", "seed must be at least 0"),
    ],
)
def test_in_a_file_too(line: str, says: str, tmp_path: Path):
    file = tmp_path / "run.toml"
    file.write_text(f'model = "m"\ndata = "d"\n{line}\n')
    with pytest.raises(SparringError) as error:
        EvaluationSpec.read(file)
    assert says in str(error.value)
    assert str(error.value).startswith(f"configuration {file}: ")


def test_two_defenses_of_one_name_are_not_taken_for_one():
    with pytest.raises(SparringError, match="two different defenses are called"):
        sparring.evaluate(linear_net(), data(), [_named(0.1), _named(0.2)], attacks=["fgsm"])


def _named(value: float):
    def blur(x: torch.Tensor) -> torch.Tensor:
        return x * (1 - value)

    return blur


def test_a_ball_beyond_the_box_is_refused_from_python_too():
    x, y = images(4), torch.zeros(4, dtype=torch.long)
    for text, says in {"pgd:eps=8": "did you mean 8/255", "pgd:norm=l2,eps=255": "at most l2 13.8"}.items():
        with pytest.raises(SparringError, match=says):
            sparring.attack(text).run(linear_net(), x, y)


def test_budgets_that_differ_in_the_seventh_digit_have_names_of_their_own():
    near, far = sparring.attack("pgd:eps=0.1234567"), sparring.attack("pgd:eps=0.1234568")
    assert str(near) != str(far)
    assert sparring.attack(str(far)).budget == 0.1234568


def test_a_budget_that_was_divided_by_255_twice_is_one_finding():
    twice = f"pgd:eps={8 / 255 / 255},steps=2"
    findings = sparring.evaluate(linear_net(), data(), [], ["adaptive"], [twice]).findings
    (found,) = [f for f in findings if f.check == "P17"]
    assert not found.ok
    assert "is tiny: it is not a tenth" in found.message


def test_draws_that_nothing_uses_are_said():
    x = images(4)
    net = linear_net()
    with pytest.warns(UserWarning, match="draws=5 is used by nothing here"):
        sparring.evaluate(net, (x, net(x).argmax(1)), attacks=["fgsm:eps=8/255"], draws=5)


def test_rows_of_another_run_leave_no_verdict_and_say_so_in_the_exit_code(tmp_path: Path):
    furnish(tmp_path)
    assert say(tmp_path, *ATTACKED, "--out", "run").code == 0
    file = next((tmp_path / "run").glob("rows/*/*.parquet"))
    (file.parent / "foreign.parquet").write_bytes(file.read_bytes())
    again = say(tmp_path, *ATTACKED, "--out", "run")
    assert again.code == 3
    assert "No verdict" in again.out
