"""The whole way: exact and null controls, the Law, resume after kill -9, closure, and what a run folder holds."""

from __future__ import annotations

import json
import random
import shutil
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

import sparring
from sparring.attacks.attack import attack
from sparring.checks.controls import CLASSES, LinearControl, coin_system, images, linear_layer, linear_net
from sparring.core.errors import SparringError
from sparring.core.noise import Noise, image_keys
from sparring.core.victim import Access
from sparring.defenses.base import Defended
from sparring.evaluation.judge import Judge
from sparring.evaluation.plan.followup import SEARCHES
from sparring.evaluation.plan.partition import Partition
from sparring.evaluation.plan.tiers import TIERS, default_attacks
from sparring.evaluation.records.files import read_run
from sparring.evaluation.records.provenance import made_by
from sparring.evaluation.records.rows import read_rows
from sparring.evaluation.results.table import RowTable
from tests.fresh import fresh


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("eps", [0.0, 2 / 255, 6 / 255, 20 / 255])
def test_b3_linear_robust_accuracy_is_the_closed_form_exactly(classes, eps):
    """PROTOCOL B3: per coordinate and rival class, with the box."""
    model = linear_net(classes, scale=0.05)
    x = images(60)
    with torch.no_grad():
        y = model(x).argmax(1)
    y[::7] = (y[::7] + 1) % classes  # some wrong when clean
    layer = linear_layer(model)
    truth = LinearControl(layer.weight.detach(), layer.bias.detach()).robust(x, y, eps)
    attacks = [
        f"pgd:eps={eps},loss=margin,steps=30,step_size=0.2",
        f"apgd:eps={eps},steps=30,loss=dlr,targets=9",
        f"apgd:eps={eps},loss=margin,steps=30",
    ]
    attacks += ["fgsm:eps=1/255"] * (eps == 0)  # a ball without room stands at the beginning of a curve only
    result = sparring.evaluate(model, (x, y), threats=["adaptive"], attacks=attacks)
    closed = next(c for c in result.closed if c.defense == "none" and c.eps == pytest.approx(eps))
    assert closed.robust_accuracy == pytest.approx(float(truth.double().mean()), abs=1e-12)
    assert closed.n == 60


def test_b3_linear_with_gaussian_noise_is_phi_of_the_margin():
    """p = Phi(margin / (sigma |w|)) for two classes: the judge's draws must agree within 3 standard errors."""
    from scipy.stats import norm

    model, x = linear_net(2, scale=0.02), images(50)
    weight = (linear_layer(model).weight[1] - linear_layer(model).weight[0]).detach()
    with torch.no_grad():
        z = model(x)
    y, sigma = z.argmax(1), 0.5
    p = torch.from_numpy(norm.cdf((z[:, 0] - z[:, 1]).abs().numpy() / (sigma * float(weight.norm()))))
    system = sparring.defense(f"gauss:std={sigma}").install(Defended(model)).system()
    judge = Judge(draws=400)
    share = judge.score(system, x, y, image_keys([str(i) for i in range(50)])).k / 400
    error = (p * (1 - p) / 400).sqrt().clamp_min(0.003)
    assert ((share - p).abs() / error).max() < 4
    assert abs(float((share - p).mean())) < 3 * float((p * (1 - p)).mean().sqrt()) / (400 * 50) ** 0.5


def test_bug_14_selecting_and_judging_on_the_same_draws_would_be_wrong():
    """The estimators of PROTOCOL 2.4: any-iterate counting gives 0.005 and best-of-10 on one draw 0.2; the judge gives 0.8."""
    defended, x, y = coin_system(0.8, 400)
    keys, system = image_keys([str(i) for i in range(400)]), defended.system()
    judge = Judge(10, 20)
    candidates = [judge.score(system, x, y, keys) for _ in range(10)]
    assert all(torch.equal(c.k, candidates[0].k) for c in candidates), "common random numbers across candidates"
    right = torch.stack([system.scores(x, Noise.of(j, "x", keys)).argmax(1) == y for j in range(100)])
    assert right.all(0).double().mean() < 0.02
    assert right[:10].all(0).double().mean() < 0.2
    assert candidates[0].k.double().mean() / 20 == pytest.approx(0.8, abs=0.02)


def settings(tmp_path: Path, **changes):
    fixed = {
        "threats": ["oblivious", "adaptive"],
        "attacks": ["pgd:eps=4/255,steps=6", "ddn:steps=10"],
        "draws": 2,
        "out": tmp_path / "run",
        "block": 8,
    }
    return {**fixed, **changes}


def rows_of(folder: Path):
    """The rows in a canonical order, what is not known (nan, which equals nothing) as text."""
    rows = read_rows(folder).sort_by(
        [(c, "ascending") for c in ("defense", "threat", "attack", "view", "draw", "image")]
    )
    for i, name in enumerate(rows.column_names):
        if np.issubdtype(rows[name].to_numpy().dtype, np.floating) and np.isnan(rows[name].to_numpy()).any():
            rows = rows.set_column(i, name, pa.array([str(v) for v in rows[name].to_pylist()]))
    return rows


@pytest.fixture
def toy():
    return toy_of()


def toy_of():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, CLASSES)).eval()
    x = images(20)
    with torch.no_grad():
        y = model(x).argmax(1)
    return model, (x, y)


DEFENSES = ["cd:bits=3", "gauss:std=0.05"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, brief):
    """The folder of the toy's finished run, to read; who writes copies it."""
    folder = tmp_path_factory.mktemp("finished")
    model, data = toy_of()
    sparring.evaluate(model, data, DEFENSES, **settings(folder))
    return folder / "run"


@pytest.fixture
def copied(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.mark.slow
def test_the_law_holds_for_evaluations(brief, toy, tmp_path):
    model, (x, y) = toy
    data = x[:12], y[:12]  # a whole block and a torn one
    results = [sparring.evaluate(model, data, DEFENSES, **settings(tmp_path / str(s), slots=s)) for s in (3, 200)]
    few, many = (rows_of(tmp_path / str(s) / "run") for s in (3, 200))
    for column in ("image", "k", "correct", "label", "first_hit", "forwards"):
        assert many[column].equals(few[column]), column
    assert np.allclose(many["l2"].to_numpy(), few["l2"].to_numpy(), atol=1e-5)
    assert [c.robust_accuracy for c in results[0].cells] == [c.robust_accuracy for c in results[1].cells]


@pytest.mark.slow
def test_resume_finishes_what_is_missing_and_changes_nothing(brief, toy, copied, tmp_path):
    (model, data), folder = toy, copied
    before = rows_of(folder)
    files = sorted(folder.glob("rows/*/*.parquet"))
    kept = files[0].stat().st_mtime_ns
    for file in files[1::2]:
        file.unlink()
    for file in sorted(folder.glob("points/*/*.safetensors"))[::3]:
        file.unlink()
    sparring.evaluate(model, data, DEFENSES, **settings(tmp_path))
    assert rows_of(folder).equals(before)
    assert files[0].stat().st_mtime_ns == kept, "what was there is not written again"


@pytest.mark.slow
def test_an_interrupted_run_counts_only_images_that_every_cell_has(brief, toy, tmp_path, capsys):
    """Images without attack rows used to count as robust: 15.0 % was printed where 0.0 % is true."""
    from sparring.cli.output import print_evaluation
    from sparring.report.page import write_report

    model, (x, y) = toy
    changes = settings(tmp_path, attacks=["pgd:eps=64/255,steps=20"], threats=["adaptive", "bait"])
    whole = sparring.evaluate(model, (x, y), DEFENSES, **changes)
    assert whole.headlines
    assert not whole.missing
    folder = tmp_path / "run"
    second = Partition.of(sparring.load_data((x, y)), 8).id(slice(8, 16))
    attacked = {
        str(f.parent)
        for f in folder.glob("rows/*/*.parquet")
        if "adaptive" in set(pq.read_table(f)["threat"].to_pylist())
    }
    for cell in attacked:
        (Path(cell) / f"{second}.parquet").unlink()
    torn = sparring.load_evaluation(folder)
    assert {c.n for c in torn.cells} == {c.n for c in torn.closed} == {12}, "20 images in blocks of 8, the second torn"
    assert torn.headlines == []
    assert "12 of 20 images" in torn.missing
    per_image = {(c.defense, c.threat): c.robust_accuracy for c in whole.cells}
    assert all(c.robust_accuracy <= per_image[(c.defense, c.threat)] * 20 / 12 + 1e-9 for c in torn.cells)
    print_evaluation(torn, as_json=False)
    write_report([folder], tmp_path / "page.html")
    assert "12 of 20 images" in capsys.readouterr().out
    assert "Incomplete." in (tmp_path / "page.html").read_text()
    for cell in attacked:
        for file in Path(cell).glob("*.parquet"):
            file.unlink()
    nothing = sparring.load_evaluation(folder)
    assert (nothing.cells, nothing.closed, nothing.headlines) == ([], [], [])
    assert "0 of 20 images" in nothing.missing


SCRIPT = """
import json, os, signal, sys, traceback
import torch
from torch import nn
import sparring.conduct.asked
import sparring.conduct.evaluation
from sparring.checks.controls import images
from sparring.evaluation.plan.followup import SEARCHES
from sparring.evaluation.plan.tiers import JUDGES
from sparring.evaluation.records.finding import Finding
torch.set_num_threads(1)
# checks touch no disk, and take a second of every process: one that mistrusts all there is stands for them
sparring.conduct.evaluation.run_checks = lambda *_, **__: []
sparring.conduct.asked.run_active_checks = lambda *_, **__: [Finding("S1", "", False, "FAIL", "A", 0.0, 0.4, "", "none", "adaptive")]
SEARCHES["quick"] = ("square:steps=3", "spsa:steps=1,samples=2", "random_search:steps=1")
JUDGES["quick"] = (1, 2)
out, moments = sys.argv[1], json.loads(sys.argv[2])

def evaluate():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 4)).eval()
    x = images(12)
    y = model(x).argmax(1).detach()
    defenses, threats, attacks = ["cd:bits=3", "gauss:std=0.05"], ["oblivious", "adaptive"], ["pgd:eps=1/255,steps=2", "ddn:steps=2"]
    sparring.evaluate(model, (x, y), defenses, threats, attacks, draws=2, out=out, block=4)

def die(event, word, number):
    left = [number]
    def hook(name, args):
        if name != event or word not in str(args[0]).partition(out)[2]:
            return
        left[0] -= 1
        if left[0] == 0:
            if event == "os.rename" and number % 2:  # killed while it wrote: half of the file is there
                os.truncate(args[0], os.path.getsize(args[0]) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

def child(moment):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if moment:
                die(*moment)
            evaluate()
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

print(json.dumps([child(moment) for moment in moments]))
"""

Moment = tuple[str, str, int]
# (change on disk, part of the file's or folder's name, how many of them): a process dies on the brink of that change
MOMENTS: list[Moment] = [
    ("os.mkdir", "rows", 1),
    ("os.rename", "rows", 1),
    ("os.rename", "points", 1),
    ("os.mkdir", "points", 3),
    ("os.rename", "run.json", 1),
    ("os.rename", "rows", 6),
    ("os.rename", "points", 8),
    ("os.mkdir", "rows", 9),
    ("os.rename", "rows", 15),
    ("os.rename", "pictures", 3),
    ("os.rename", "run.json", 2),
]


def ends_of(folder: Path, *moments: Moment | None) -> list[int]:
    """How processes end that evaluate into the folder one after the other and are killed at these moments, or never.

    What a resumed run finds is what is on the disk, so the moments are changes of the disk, counted and not timed: no machine
    is too slow or too fast for them. One interpreter forks all processes, which are otherwise strangers.
    """
    done = fresh("-c", SCRIPT, folder, json.dumps(moments))
    print(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_kill_9_at_any_moment_then_the_same_command(tmp_path):
    """Killed again and again at different moments, it ends with the rows of an uninterrupted run."""
    assert ends_of(tmp_path / "whole", None) == [0]
    assert ends_of(tmp_path / "torn", *MOMENTS) == [-signal.SIGKILL] * len(MOMENTS)
    assert list(tmp_path.glob("torn/**/.*.partial")), "what was being written when it died"
    assert ends_of(tmp_path / "torn", None) == [0]
    assert not list(tmp_path.glob("torn/**/.*.partial"))
    assert rows_of(tmp_path / "torn").equals(rows_of(tmp_path / "whole"))
    assert read_run(tmp_path / "torn")["complete"] is True


def random_moments(count: int) -> list[Moment]:
    """Changes and openings of files anywhere in the folder, few apart, so that a process gets on by a file or two."""
    draw = random.Random(20)
    events = [("os.rename", "/"), ("os.rename", "/"), ("os.mkdir", "/"), ("open", ".partial"), ("open", "/")]
    return [(*event, draw.randint(1, 4)) for event in draw.choices(events, k=count)]


@pytest.mark.slow
def test_kill_9_at_50_random_moments(tmp_path):
    """Whatever a process does with its folder when it dies, the last one ends with the rows of an uninterrupted run."""
    assert ends_of(tmp_path / "whole", None) == [0]
    moments = [*random_moments(49), ("os.remove", "lock", 1)]  # the last dies while it lets go of the folder
    ends = ends_of(tmp_path / "torn", *moments, None)
    assert ends == [-signal.SIGKILL] * 50 + [0], "none was so late that there was nothing left to do"
    assert rows_of(tmp_path / "torn").equals(rows_of(tmp_path / "whole"))
    there = [{f.relative_to(tmp_path / n) for f in (tmp_path / n).rglob("*")} for n in ("torn", "whole")]
    assert there[0] == there[1]


@pytest.mark.slow
def test_kill_9_before_there_is_a_run_json(tmp_path):
    """A folder with nothing but the unfinished run.json in it was taken for somebody else's."""
    first: list[Moment] = [("os.rename", "run.json", 1), ("os.rename", "rows", 1)]
    assert ends_of(tmp_path / "torn", *first) == [-signal.SIGKILL, -signal.SIGKILL]


@pytest.mark.slow
def test_another_configuration_is_refused_and_nothing_is_touched(brief, toy, copied, tmp_path):
    model, data = toy
    record = (copied / "run.json").read_bytes()
    with pytest.raises(SparringError, match="differs in attacks"):
        sparring.evaluate(model, data, DEFENSES, **settings(tmp_path, attacks=["fgsm:eps=4/255"]))
    with pytest.raises(SparringError, match="differs in seed"):
        sparring.evaluate(model, data, DEFENSES, **settings(tmp_path, seed=1))
    with pytest.raises(SparringError, match="differs in data; its data was images passed as an object with limit none"):
        sparring.evaluate(model, data, DEFENSES, **settings(tmp_path, limit=3))
    assert (copied / "run.json").read_bytes() == record
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(SparringError, match="not empty"):
        sparring.evaluate(model, data, **settings(tmp_path, out=tmp_path / "mine"))


def test_an_upgrade_in_between_never_resumes_in_silence(brief, toy, tmp_path, monkeypatch, capsys):
    """Rows of old code were printed under the new version's name."""
    from sparring.cli.output import print_evaluation

    model, data = toy
    changes = settings(tmp_path, threats=["oblivious"], attacks=["fgsm:eps=4/255"])
    assert sparring.evaluate(model, data, **changes).made_by == ""
    block = next((tmp_path / "run").glob("rows/*/*.parquet"))
    before = json.loads(pq.read_schema(block).metadata[b"made_by"])
    for module in ("conduct.planned", "evaluation.records.provenance"):
        monkeypatch.setattr(f"sparring.{module}.code_hash", lambda: "of an upgrade")
    with pytest.raises(SparringError, match="made by other code than this"):
        sparring.evaluate(model, data, **changes)
    again = sparring.load_evaluation(tmp_path / "run")
    assert (
        f"other code than this (sparring {sparring.__version__}, the same version with edited source)" in again.made_by
    )
    record = read_run(tmp_path / "run")
    record["environment"]["sparring"] = "0.0.9"
    assert made_by(record).endswith(f"(sparring 0.0.9; this is {sparring.__version__})")
    print_evaluation(again, as_json=False)
    assert "other code" in capsys.readouterr().out
    assert json.loads(pq.read_schema(block).metadata[b"made_by"]) == before
    assert len(before["code"]) == 64
    assert before["sparring"] == sparring.__version__


@pytest.mark.slow
def test_run_folder_holds_provenance_and_typed_rows(finished):
    record = read_run(finished)
    assert record["identity"]["attacks"] == ["pgd:steps=6,eps=4/255", "ddn:steps=10"]
    assert len(record["identity"]["weights"]) == 64
    assert record["attacks_resolved"]["ddn:steps=10"]["gamma"] == 0.05, "arguments as resolved, with defaults"
    assert (
        record["environment"]["packages"]["torch"] == torch.__version__.split("+")[0]
        or record["environment"]["packages"]["torch"]
    )
    assert record["surrogates"]["cd:bits=3"][0]["why"]
    schema = pq.read_schema(next(finished.glob("rows/*/*.parquet")))
    assert schema.field("linf").type == "double"
    assert schema.field("correct").type == "bool"
    assert not list(finished.rglob("*.partial"))


@pytest.mark.slow
def test_closed_numbers_dominate_own_ones_and_budgets(brief, toy, tmp_path):
    model, (x, y) = toy
    data = x[:12], y[:12]
    attacks = ["pgd:eps=1/255,steps=4", "pgd:eps=4/255,steps=4", "pgd:eps=16/255,steps=4", "ddn:steps=10"]
    result = sparring.evaluate(model, data, DEFENSES, **settings(tmp_path, attacks=attacks))
    closed = {(c.defense, c.threat, c.eps): c for c in result.closed if c.norm == "linf"}
    for c in result.cells:
        if c.norm == "linf":
            deterministic = not c.random
            assert closed[(c.defense, c.threat, c.eps)].robust_accuracy <= c.robust_accuracy + (
                1e-12 if deterministic else 0.1
            )
    for defense in ("none", "cd:bits=3"):
        for threat in ("oblivious", "adaptive"):
            curve = [closed[(defense, threat, e)].robust_accuracy for e in (1 / 255, 4 / 255, 16 / 255)]
            assert curve == sorted(curve, reverse=True), "monotone in the budget by construction"
        for e in (1 / 255, 4 / 255, 16 / 255):
            assert closed[(defense, "adaptive", e)].robust_accuracy <= closed[(defense, "oblivious", e)].robust_accuracy
    rows = RowTable(read_rows(tmp_path / "run"))
    assert rows["feasible"].all()


def test_every_image_counts_and_wrong_when_clean_is_not_robust(toy, tmp_path):
    model, (x, y) = toy
    y = y.clone()
    y[:5] = (y[:5] + 1) % CLASSES
    result = sparring.evaluate(model, (x, y), **settings(tmp_path, attacks=["pgd:eps=1e-7,steps=2"]))
    for c in result.cells:
        assert c.n == 20
        assert c.clean_accuracy == c.robust_accuracy == 0.75


def test_bf16_gradients_never_decide(toy, tmp_path):
    """Half precision proposes, float32 verifies: nothing is claimed that the judge does not confirm."""
    model, data = toy
    result = sparring.evaluate(
        model, data, **settings(tmp_path, threats=["adaptive"], attacks=["pgd:eps=4/255,steps=6"], amp=True)
    )
    rows = RowTable(read_rows(tmp_path / "run"))
    attacked = rows.where(threat="adaptive")
    assert not (rows["source_fooled"][attacked] & rows["correct"][attacked]).any()
    assert result.cells[0].robust_accuracy < 1


def test_dry_run_costs_nothing_and_says_what_it_would(toy, tmp_path):
    model, data = toy
    result = sparring.evaluate(model, data, DEFENSES, **settings(tmp_path, dry_run=True))
    assert not (tmp_path / "run").exists()
    assert result.plan is not None
    assert result.plan.seconds > 0
    cost = result.plan.cost_per_image
    # one oblivious source for three defenses: (6+1) + (10+1) forwards of it are counted once
    oblivious = {r for c in result.plan.cells if c.threat == "oblivious" for r in c.runs}
    assert len(oblivious) == 2
    assert cost["forwards"] > cost["backwards"] > 0


@pytest.mark.parametrize("tier", TIERS)
def test_a_tier_has_every_kind_of_attack_and_its_budget(tier):
    """Evidence E11: a gradient-free attack in every tier, a label-only one as soon as someone may ask no more."""
    needs = [attack(text).method.needs for text in default_attacks(tier, ["adaptive"])]
    assert {Access.SCORES, Access.GRADIENT} <= set(needs)
    assert (Access.LABEL in needs) == (tier != "quick")
    assert Access.NONE in [attack(t).method.needs for t in default_attacks(tier, ["noise"])]
    for answers in ("decision:queries=30", "score"):
        assert Access.LABEL in [attack(t).method.needs for t in default_attacks(tier, [answers])]
    assert set(default_attacks(tier, ["transfer"])) - set(default_attacks(tier, ["adaptive"])), "what transfers"


FULL = dict(SEARCHES)


@pytest.mark.parametrize("tier", TIERS)
def test_a_tiers_searches_ask_scores_alone(tier):
    """What follows where a gradient cannot be believed, before the tests' session cut it short."""
    assert {text.partition(":")[0] for text in FULL[tier]} == {"square", "spsa", "random_search"}
    assert {attack(text).method.needs for text in FULL[tier]} == {Access.SCORES}


@pytest.mark.slow
def test_the_default_attacks_reach_every_threat(brief, toy, tmp_path):
    """Naming a threat and no attack runs something in it, also where labels are all that is granted."""
    model, (x, y) = toy
    data = x[:6], y[:6]
    threats = ["noise", "adaptive", "score:queries=40", "decision:queries=60"]
    result = sparring.evaluate(model, data, **settings(tmp_path, threats=threats, attacks=()))
    assert {c.threat for c in result.cells} == set(threats)
    labels = next(c for c in result.cells if c.threat == "decision:queries=60")
    assert labels.forwards_per_image <= 60


def test_transfer_between_different_models(toy, tmp_path):
    model, data = toy
    torch.manual_seed(5)
    other = nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES)).eval()
    for mode in ("logits", "probs", "loss"):
        changes = settings(tmp_path / mode, threats=[f"transfer:mode={mode}"], attacks=["mifgsm:eps=8/255"])
        result = sparring.evaluate(model, data, sources=[other, linear_net()], **changes)
        assert result.cells[0].threat == f"transfer:mode={mode}"
        assert result.cells[0].source_fooled > 0


def test_json_is_what_the_issue_of_record_promises(finished):
    result = json.loads(json.dumps(sparring.load_evaluation(finished).json()))
    assert set(result) == {"verdicts", "cells", "closed", "checks", "prepared", "missing", "damaged", "made_by"}
    wanted = [
        "defense",
        "threat",
        "attack",
        "norm",
        "eps",
        "n",
        "clean_accuracy",
        "robust_accuracy",
        "ci_low",
        "ci_high",
        "robust_accuracy_8bit",
    ]
    wanted += ["forwards_per_image", "backwards_per_image"]
    assert all(set(wanted) <= set(c) for c in result["cells"])
    assert any(c["eps"] == "inf" for c in result["cells"])
