"""The command line as a user runs it: JSON that machines can read, one line and exit code 2 for every mistake."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import sparring
from sparring.cli import yield_cores
from tests.faults.commands import say

FACTORIES = """
import torch
from torch import nn

def plain():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).eval()

def trained_mode():
    return plain().train()

def probabilities():
    return nn.Sequential(plain(), nn.Softmax(1)).eval()

def batchnorm_training():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 4)).eval().train()

class Detached(nn.Module):
    def forward(self, x):
        return plain()(x.detach())

def detached():
    return Detached().eval()

def not_a_model():
    return 7
"""


def run(folder: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """The command line, in this process (a fresh one costs seconds for importing torch)."""
    said = say(folder, *words)
    assert said.code == code, f"exit code {said.code}\n{said.out}\n{said.err}"
    return subprocess.CompletedProcess(words, said.code, said.out, said.err)


def test_sources_may_be_joined_by_commas(place):
    (place / "mine.py").write_text(
        FACTORIES + "\n\ndef other():\n    net = plain()\n    net[1].bias.data += 1\n    return net\n"
    )
    words = ("evaluate", MODEL, "--data", "data.npz", "--threat", "transfer", "--attack", "fgsm:eps=0.1", "--json")
    found = run(place, *words, "--sources", "python:mine:other,python:mine:other")
    assert json.loads(found.stdout)["cells"]
    with pytest.raises(AssertionError, match="source=1, but there are 1 sources"):
        run(place, *words[:5], "transfer:source=1", *words[6:], "--sources", "python:mine:other")


@pytest.mark.slow
def test_the_installed_command_itself(tmp_path):
    command = Path(sys.executable).with_name("sparring")
    done = subprocess.run([command, "list", "attack"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: unknown kind 'attack'; did you mean attacks")


def test_the_version_and_the_package_as_a_program(tmp_path):
    done = subprocess.run([sys.executable, "-m", "sparring", "--version"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"sparring {sparring.__version__}\n", "")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a model factory, an npz file and an image folder, whose labels are those that the model gives."""
    (tmp_path / "mine.py").write_text(FACTORIES)
    made: dict[str, Any] = {}
    exec(FACTORIES, made)
    model, aim = made["plain"](), torch.arange(400) % 4
    pool = torch.randint(16, 240, (400, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    pool += 16 * model[1].weight.detach().sign().reshape(4, 3, 8, 8)[aim].int()
    with torch.no_grad():
        right = model(pool / 255).argmax(1) == aim
    x = np.stack([pool[right & (aim == i % 4)][i // 4].numpy() for i in range(12)]).astype(np.uint8)
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(12) % 4)
    for i, image in enumerate(x):
        file = tmp_path / "photos" / "abcd"[i % 4] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(file)
    return tmp_path


MODEL = "python:mine:plain"
BASE = ("evaluate", MODEL, "--data", "data.npz", "--attack", "pgd:eps=4/255,steps=3")


@pytest.mark.slow
def test_evaluate_json_is_alone_on_stdout(place):
    done = run(
        place,
        *BASE,
        "--defense",
        "cd:bits=3",
        "--threat",
        "oblivious,adaptive",
        "--json",
        "--out",
        "run",
        "--html",
        "page.html",
        "--slots",
        "5",
        "--seed",
        "3",
    )
    result = json.loads(done.stdout)
    assert {(c["defense"], c["threat"]) for c in result["cells"]} == {
        (d, t) for d in ("none", "cd:bits=3") for t in ("oblivious", "adaptive")
    }
    assert all(c["n"] == 12 for c in result["cells"])
    page = (place / "page.html").read_text()
    assert "robust accuracy under T = {adaptive" in page
    outside = re.findall(r"(?:src|href)=\"(?!data:|#)[^\"]+\"", page)
    assert not outside, "the page opens offline"
    again = run(place, "report", "run", "--json")
    assert json.loads(again.stdout) == result


def test_evaluate_prints_tables_with_n_interval_and_threat(place):
    text = run(place, *BASE, "--threat", "adaptive").stdout
    for word in ("95 % interval", "robust at most", "adaptive", "linf 4/255", "n=12", "Tier quick"):
        assert word in text


def test_limit_and_eps_grid_and_dry_run(place):
    done = run(
        place,
        "evaluate",
        MODEL,
        "--data",
        "data.npz",
        "--attack",
        "fgsm",
        "--eps",
        "1/255,8/255",
        "--limit",
        "5",
        "--json",
    )
    cells = json.loads(done.stdout)["cells"]
    assert {c["eps"] for c in cells} == {1 / 255, 8 / 255}
    assert {c["n"] for c in cells} == {5}
    plan = json.loads(run(place, *BASE, "--dry-run", "--json").stdout)
    assert plan["seconds"] > 0
    assert plan["cost_per_image"]["backwards"] == 6
    assert "Estimated at most" in run(place, *BASE, "--dry-run").stdout


def test_lists_are_split_at_commas_or_repeated_alike(place):
    """``--defense a:x=1,b`` is two defenses, as with attacks, threats and sources."""
    one, two = "cd:values=3,clip=false", "gauss:std=0.03"
    plans = [
        json.loads(run(place, *BASE, *given, "--dry-run", "--json").stdout)
        for given in (("--defense", f"{one},{two}"), ("--defense", one, "--defense", two))
    ]
    assert plans[0]["cells"] == plans[1]["cells"]
    assert {c["defense"] for c in plans[0]["cells"]} == {"none", one, two}
    budgets = [
        {
            c["attack"]
            for c in json.loads(run(place, *BASE[:4], "--attack", "fgsm", *given, "--dry-run", "--json").stdout)[
                "cells"
            ]
        }
        for given in (("--eps", "1/255,2/255"), ("--eps", "1/255", "--eps", "2/255"))
    ]
    assert budgets[0] == budgets[1] == {"fgsm:eps=1/255", "fgsm:eps=2/255"}


def test_an_attack_that_runs_to_its_end_goes_to_the_edge_of_its_ball(place):
    """At the first point that fools it is nearer: pictures of eps 32/255 and of 64/255 could be the same."""
    words = ("attack", MODEL, "--data", "data.npz", "--attack", "bim:eps=64/255,steps=40,step_size=0.1", "--json")
    first, whole = (
        json.loads(run(place, *words, "--out", out, *more).stdout)["images"]
        for out, more in (("first", ()), ("whole", ("--to-end",)))
    )
    assert all(image["linf"] == pytest.approx(64 / 255, abs=1e-4) for image in whole)
    assert min(image["linf"] for image in first) < 32 / 255


def test_attack_saves_losslessly_and_rescores(place):
    summary = json.loads(
        run(
            place,
            "attack",
            MODEL,
            "--data",
            "data.npz",
            "--attack",
            "pgd:eps=16/255,steps=10",
            "--out",
            "adv",
            "--json",
        ).stdout
    )
    assert summary["n"] == 12
    assert len(list((place / "adv").glob("*.png"))) == 12
    first = summary["images"][0]
    image = (
        torch.from_numpy(np.asarray(Image.open(place / "adv" / first["file"])).transpose(2, 0, 1).copy()).float() / 255
    )
    clean = torch.from_numpy(np.load(place / "data.npz")["x"][0]).float() / 255
    assert (image - clean).abs().max() <= 16 / 255 + 1e-6
    sys.path.insert(0, str(place))
    import mine  # type: ignore[import-not-found]

    assert int(mine.plain()(image[None]).argmax()) == first["png_label"]
    assert summary == json.loads((place / "adv" / "table.json").read_text())
    assert summary["png_accuracy"] <= summary["accuracy"] + 1 / 12
    assert "jpeg is refused" in run(place, "attack", "--help").stdout
    error = run(
        place,
        "attack",
        MODEL,
        "--data",
        "data.npz",
        "--attack",
        "fgsm:eps=0.1",
        "--out",
        "b",
        "--format",
        "jpeg",
        code=2,
    ).stderr
    assert "losslessly" in error


def test_attack_says_that_what_withstands_a_hidden_gradient_is_no_evidence(place):
    (place / "mine.py").write_text(FACTORIES)
    words = ("attack", "python:mine:detached", "--data", "data.npz", "--attack", "pgd:eps=16/255", "--out", "adv")
    said = run(place, *words)
    assert "warning: check P10 FAIL" in said.stderr
    assert "no evidence of robustness" in said.stderr
    assert "P10" in {f["check"] for f in json.loads((place / "adv" / "table.json").read_text())["checks"]}


@pytest.mark.parametrize("kind", ["attacks", "defenses", "threats", "checks", "models", "data", "analyses", "tasks"])
def test_list(place, kind):
    entries = json.loads(run(place, "list", kind, "--json").stdout)
    assert entries
    assert all(e["name"] and e["doc"] for e in entries)
    table = run(place, "list", kind).stdout
    assert entries[0]["name"] in table


def test_doctor_passes_and_fails(place):
    text = run(place, "doctor", MODEL, "--data", "data.npz", "--defense", "gauss:std=0.1").stdout
    for check in ("P1", "P3", "P9", "P13"):
        assert check in text
    done = run(place, "doctor", MODEL, "--data", "data.npz", "--defense", "cd:bits=8", code=2)
    assert "does nothing on this data" in done.stderr


def test_train_then_evaluate(place):
    out = run(place, "train", "classifier", "--data", "photos", "--out", "small.safetensors", "--epochs", "2").stdout
    assert "evaluate it as: small_cnn:weights=small.safetensors" in out
    card = json.loads((place / "small.json").read_text())
    assert len(card["curve"]) == 2
    assert card["config"]["seed"] == 0
    run(place, "evaluate", card["model"], "--data", "photos", "--attack", "fgsm:eps=1/255", "--json")
    assert (
        "exists" in run(place, "train", "classifier", "--data", "photos", "--out", "small.safetensors", code=2).stderr
    )


def test_help_does_not_wait_for_torch(tmp_path):
    script = (
        "import sys\nfrom sparring.cli import main\nsys.argv = ['sparring', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\nassert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True)


def test_options_are_the_fields_and_their_types_refuse(place):
    text = " ".join(run(place, "train", "hgd", "--help").stdout.split())
    for word in (
        "--tap pixel|feature|logits|label",
        "what guides it",
        "--scale",
        "--ema",
        "Example: sparring train hgd",
    ):
        assert word in text
    assert "--epochs" not in run(place, "train", "attacked", "--help").stdout, "it has no loop"
    text = " ".join(run(place, "analyze", "labels", "--help").stdout.split())
    assert "points along each axis [default: 41]" in text
    assert "--png" not in run(place, "analyze", "layers", "--help").stdout, "it draws nothing"
    words = ("analyze", "labels", MODEL, "--data", "data.npz")
    bad(place, "labels: points=many is not valid", *words, "--points", "many")
    bad(place, "unknown analysis 'pixel'; did you mean pixels", "analyze", "pixel", MODEL)
    bad(place, "unknown training task 'hdg'; did you mean hgd", "train", "hdg")


@pytest.mark.parametrize("command", ["evaluate", "doctor", "attack", "report", "list", "train", "analyze", "demo"])
def test_help_has_an_example(place, command):
    assert "Example: sparring" in " ".join(run(place, command, "--help").stdout.split())


def bad(place: Path, says: str, *words: str) -> None:
    done = run(place, *words, code=2)
    assert says in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert done.stdout == ""


def npz(place: Path, x: np.ndarray, y: np.ndarray | None = None) -> str:
    np.savez(place / "bad.npz", x=x, y=np.arange(len(x)) % 4 if y is None else y)
    return "bad.npz"


def test_bad_pixels(place):
    x = np.load(place / "data.npz")["x"].astype(np.float32)
    go = lambda says, data: bad(place, says, "evaluate", MODEL, "--data", data, "--attack", "fgsm")  # noqa: E731
    go("look like 0-255", npz(place, x))
    go("look normalised", npz(place, (x / 255 - 0.45) / 0.22))
    go("NaN pixels", npz(place, np.where(x > 250, np.nan, x / 255).astype(np.float32)))
    go("outside the model's 4 classes", npz(place, x / 255, np.arange(12)))
    go("cannot take images of shape (3, 16, 16)", npz(place, np.zeros((3, 3, 16, 16), np.uint8)))
    go("cannot take images of shape (1, 8, 8)", npz(place, np.zeros((3, 1, 8, 8), np.uint8)))
    go("1 or 3 channels", npz(place, np.zeros((3, 5, 8, 8), np.uint8)))
    go("does not exist", "nowhere.npz")
    (place / "text.npz").write_text("hello")
    go("not a plain npz", "text.npz")
    np.savez(place / "object.npz", x=np.array([{"a": 1}], dtype=object), y=np.zeros(1))
    go("not a plain npz", "object.npz")


def test_a_corrupt_image_is_named_counted_and_refused(place):
    (place / "photos" / "b" / "broken.png").write_bytes(b"\x89PNG nothing")
    words = ("evaluate", MODEL, "--data", "photos", "--attack", "fgsm:eps=1/255")
    bad(place, "1 unreadable image(s), the first is b/broken.png", *words)
    done = run(place, *words, "--skip-bad", "--json")
    assert json.loads(done.stdout)["cells"][0]["n"] == 12
    assert "broken.png" in done.stderr


@pytest.mark.parametrize(
    ("model", "says"),
    [("trained_mode", "train mode"), ("batchnorm_training", "train mode"),
     ("not_a_model", "not an nn.Module"), ("missing", "no callable 'missing'")],
)  # fmt: skip
def test_bad_models(place, model, says):
    bad(place, says, "evaluate", f"python:mine:{model}", "--data", "data.npz", "--attack", "fgsm:eps=1/255")


def test_bad_weight_files(place):
    (place / "junk.safetensors").write_bytes(b"junk")
    (place / "junk.pt").write_bytes(b"<!DOCTYPE html>")
    torch.save({"weight": torch.zeros(1), "code": Path}, place / "pickle.pt")
    save_file({"other": torch.zeros(2)}, place / "other.safetensors")
    for file, says in (
        ("junk.safetensors", "not a readable safetensors"),
        ("junk.pt", "never run"),
        ("pickle.pt", "never run"),
        ("other.safetensors", "lacks"),
        ("no.pt", "does not exist"),
    ):
        bad(place, says, "evaluate", f"small_cnn:weights={file}", "--data", "data.npz", "--attack", "fgsm:eps=1/255")


def test_pickled_code_is_never_executed(place):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (place / "exploded",))

    torch.save({"a": Bomb()}, place / "bomb.pt")
    bad(place, "never run", "evaluate", "small_cnn:weights=bomb.pt", "--data", "data.npz", "--attack", "fgsm:eps=1/255")
    assert not (place / "exploded").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("evaluate", MODEL, "--data", "data.npz", "--attack", "pgdd"), "did you mean pgd"),
        (("evaluate", MODEL, "--data", "data.npz", "--attack", "pgd:stpes=3"), "did you mean steps"),
        (("evaluate", MODEL, "--data", "data.npz", "--defense", "gaus:std=1"), "did you mean gauss"),
        (("evaluate", MODEL, "--data", "data.npz", "--threat", "adaptiv"), "did you mean adaptive"),
        (("evaluate", "tim:resnet18", "--data", "data.npz"), "did you mean timm"),
        (("evaluate", MODEL, "--data", "dta"), "unknown data"),
        (("evaluate", MODEL, "--data", "data.npz", "--tier", "fast"), "tier=fast is not one of quick"),
        (("evaluate", MODEL, "--data", "data.npz", "--eps", "big"), "eps=big is not valid"),
        (("evaluate", MODEL, "--data", "data.npz", "--threat", "noise", "--attack", "pgd:eps=0.1"), "pgd needs GRADIENT access, the threat noise grants NONE"),
        (("evaluate", MODEL, "--data", "data.npz", "--threat", "transfer", "--attack", "fgsm:eps=0.1"), "pass --sources"),
        (("evaluate", MODEL, "--data", "data.npz", "--attack", "fgsm:eps=0.1", "--expect-clean", "0.5"), "P8"),
        (("evaluate", MODEL, "--data", "data.npz", "--attack", "fgsm:eps=0.1", "--slots", "0"), "slots"),
        (("evaluate", MODEL, "--data", "data.npz", "--defense", "vote:samples=4"), "deterministic"),
        (("list", "attack"), "did you mean attacks"),
        (("report", "nowhere"), "run.json"),
        (("train", "hgd", "--target", MODEL, "--data", "data.npz", "--attacked", "nowhere", "--out", "x.safetensors"), "holds no attacked set"),
        (("train", "hgd", "--target", MODEL, "--data", "data.npz", "--attacked", "nowhere", "--out", "x.safetensors", "--tap", "pixels"), "tap=pixels"),
        (("train", "classifier", "--data", "data.npz", "--out", "x.safetensors", "--scale", "large"), "scale=large"),
        (("train", "classifier", "--data", "data.npz", "--out", "x.pt"), ".safetensors"),
    ],
)  # fmt: skip
def test_bad_words(place, words, says):
    bad(place, says, *words)


def test_an_output_folder_of_another_configuration(place):
    run(place, *BASE, "--out", "run", "--json")
    bad(place, "holds another configuration (differs in seed)", *BASE, "--out", "run", "--seed", "1")


@pytest.mark.slow
def test_analyze_prints_and_draws(place):
    """Every analysis runs on a model and images as a user has them, and its numbers are in range."""
    share = json.loads(
        run(place, "analyze", "overlap", "ace_resnet:depth=8,lam=inf,weights=random", "--png", "o.png", "--json").stdout
    )
    assert share["data"]["share"] == 1.0, "at lambda inf only bait pixels are tied to anything"
    data = lambda done: json.loads(done.stdout)["data"]  # noqa: E731
    common = (MODEL, "--data", "data.npz", "--limit", "6", "--json")
    found = data(run(place, "analyze", "pixels", *common, "--png", "p.png"))
    assert 0 <= found["mean"] <= found["max"] <= 1
    assert sum(found["class_shares"]) == pytest.approx(1, abs=1e-4)
    found = data(run(place, "analyze", "layers", *common, "--defense", "cd:values=4"))
    assert found["adversarial"]["input"] > 0
    assert set(found) == {"adversarial", "random noise", "adversarial behind cd:values=4"}
    found = data(run(place, "analyze", "noise", *common, "--defense", "hgd:weights=random", "--png", "n.png"))
    assert found["n"] == 6 * 3 * 8 * 8
    run(place, "analyze", "labels", MODEL, "--data", "data.npz", "--png", "l.png", "--points", "5")
    heat = ("analyze", "heatmap", MODEL, "--data", "data.npz", "--json")
    found = data(run(place, *heat, "--png", "h.png", "--attack", "fgsm:eps=8/255"))
    assert found["class_shares"] == pytest.approx([0.25] * 4, abs=0.02), (
        "a sign step moves all pixels alike, but at the box"
    )
    assert "is not a module" in run(place, *heat, "--png", "h.png", "--layer", "layer7", code=2).stderr
    for name in "opnlh":
        assert (place / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert (
        "has"
        in run(
            place, "analyze", "labels", MODEL, "--data", "data.npz", "--png", "l.png", "--image", "999", code=2
        ).stderr
    )


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_threads_that_wait_give_their_core_away_unless_the_user_says_how_they_wait(given, spins):
    environment = dict(given)
    yield_cores(environment)
    assert environment.get("GOMP_SPINCOUNT") == spins
