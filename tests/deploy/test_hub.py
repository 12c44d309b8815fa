"""Weights to and from the Hub: what is said of them is about these weights, nothing is replaced, no token is told."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import sparring
from sparring.models.weights import read_weights, save_weights
from tests.faults.commands import say

SPEC = "small_cnn:classes=4,channels=1"
TOKEN = "hf_abcdefGHIJKL0123456789"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights with a card, images, and a run of both."""
    place = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    network = sparring.load_model(f"{SPEC},weights=random")
    save_weights(
        network.network, place / "net.safetensors", {"model": SPEC, "data": f"digits {TOKEN}", "data_hash": "d"}
    )
    x = torch.rand(8, 1, 28, 28)
    np.savez(place / "data.npz", x=x.numpy(), y=network(x).argmax(1).numpy())
    words = (
        "evaluate",
        "trained:net.safetensors",
        "--data",
        "data.npz",
        "--attack",
        "pgd:eps=0.2,steps=20",
        "--out",
        "run",
    )
    assert say(place, *words).code == 0
    return place


@pytest.fixture
def place(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "place"))


class Hub:
    """A stub of HfApi: repositories are folders."""

    def __init__(self, root):
        self.root, self.private = root, []

    def repo_exists(self, repo_id):
        return (self.root / repo_id).exists()

    def list_repo_files(self, repo_id):
        if not self.repo_exists(repo_id):
            raise OSError(f"404 for {repo_id} with token {TOKEN}")
        return [f.name for f in (self.root / repo_id).iterdir()]

    def create_repo(self, repo_id, *, private, exist_ok):
        self.private.append(private)
        (self.root / repo_id).mkdir(parents=True, exist_ok=exist_ok)

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        assert commit_message
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)

    def hf_hub_download(self, repo_id, filename, *, local_dir):
        return str(shutil.copy(self.root / repo_id / filename, local_dir))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    huggingface = pytest.importorskip("huggingface_hub", reason="extra hub is not installed")
    stub = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface, "HfApi", lambda: stub)
    return stub


def refused(place, *words):
    said = say(place, *words)
    assert said.code == 2
    assert said.err.count("error:") == 1
    assert said.err.splitlines()[-1].startswith("error:")
    assert TOKEN not in said.err + said.out
    return said.err


def test_a_dry_run_writes_what_would_be_pushed_without_a_network(place, monkeypatch):
    monkeypatch.setattr("sparring.deploy.hub._api", lambda: pytest.fail("no network in a dry run"))
    said = say(place, "push", "run", "alice/net", "--dry-run", "--out", "pushed")
    assert said.code == 0
    assert all(name in said.out for name in ("README.md", "sparring.json", "sparring.safetensors"))
    page, card = (
        (place / "pushed" / "README.md").read_text(),
        json.loads((place / "pushed" / "sparring.json").read_text()),
    )
    (verdict,) = sparring.load_evaluation(place / "run").verdicts
    assert f"{verdict.line}. {verdict.sentence}" in page
    told = card["hub"]["evaluation"]
    assert told["verdicts"][0]["verdict"] == verdict.json()["verdict"]
    assert told["command"].startswith("sparring evaluate trained:sparring.safetensors --data data.npz")
    assert told["command"] in page
    record = json.loads((place / "run" / "run.json").read_text())["identity"]
    for text in (
        record["code"],
        record["data"],
        record["weights"],
        sparring.__version__,
        "| robust at most |",
        told["provenance"]["date"],
    ):
        assert text in page
    assert (
        read_weights(place / "pushed" / "sparring.safetensors").keys() == read_weights(place / "net.safetensors").keys()
    )
    for file in ("README.md", "sparring.json"):
        text = (place / "pushed" / file).read_text()
        assert TOKEN not in text
        assert str(place) not in text


def test_weights_alone_say_that_nothing_is_known(place):
    assert say(place, "push", "net.safetensors", "alice/net", "--dry-run", "--out", "pushed").code == 0
    page = (place / "pushed" / "README.md").read_text()
    assert "nothing is said here of their robustness" in page
    assert "at most" not in page


def test_what_is_pushed_can_be_pulled_and_evaluated(place, hub):
    assert say(place, "push", "run", "alice/net", "--private").code == 0
    assert hub.private == [True]
    assert say(place, "push", "run", "alice/net").code == 0, "a new commit of our own repository"
    said = say(place, "pull", "alice/net", "--out", "pulled", "--json")
    assert said.code == 0
    spec = json.loads(said.out)["loads_as"]
    assert {f.name for f in (place / "pulled").iterdir()} == {"README.md", "sparring.json", "sparring.safetensors"}
    assert not list(place.glob(".pull-*"))
    words = ("evaluate", spec, "--data", "data.npz", "--attack", "pgd:eps=0.2,steps=20", "--out", "again")
    assert say(place, *words).code == 0
    runs = [json.loads((place / name / "run.json").read_text())["identity"]["weights"] for name in ("run", "again")]
    assert runs[0] == runs[1]


def test_only_what_is_ours_and_whole_is_pulled(place, hub):
    assert say(place, "push", "run", "alice/net").code == 0
    repo, out = hub.root / "alice/net", ("--out", "pulled")
    foreign = hub.root / "alice/other"
    foreign.mkdir()
    (foreign / "pytorch_model.bin").write_bytes(b"pickled")
    assert "sparring did not push it" in refused(place, "pull", "alice/other", *out)
    assert "holds files that sparring did not push" in refused(place, "push", "run", "alice/other")
    assert "hf_***" in refused(place, "pull", "alice/none", *out)
    weights = (repo / "sparring.safetensors").read_bytes()
    (repo / "sparring.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    assert "not what its card says" in refused(place, "pull", "alice/net", *out)
    (repo / "sparring.safetensors").write_bytes(weights)
    card = json.loads((repo / "sparring.json").read_text())
    (repo / "sparring.json").write_text(json.dumps({k: v for k, v in card.items() if k != "hub"}))
    assert "no card of sparring push" in refused(place, "pull", "alice/net", *out)
    assert not (place / "pulled").exists()
    for model in (
        "python:mine:net",
        "timm:hf-hub:bob/net",
        "exported:/elsewhere/net.pt2",
        "ace:model=../net",
        "hf:~/net",
    ):
        (repo / "sparring.json").write_text(json.dumps({**card, "model": model}))
        assert f"is elsewhere ({model})" in refused(place, "pull", "alice/net", *out)
    assert not (place / "pulled").exists()
    (repo / "sparring.json").write_text(json.dumps(card))
    assert say(place, "pull", "alice/net", *out).code == 0
    assert "is there already" in refused(place, "pull", "alice/net", *out)


def test_a_verdict_is_pushed_with_the_weights_that_it_is_about(place):
    network = sparring.load_model("trained:" + str(place / "net.safetensors"))
    card = json.loads((place / "net.json").read_text())
    torch.nn.init.zeros_(next(network.network.parameters()))
    (place / "net.safetensors").unlink()
    save_weights(network.network, place / "net.safetensors", card)
    dry = ("alice/net", "--dry-run", "--out", "pushed")
    assert "other weights" in refused(place, "push", "run", *dry)
    (place / "net.safetensors").unlink()
    assert "names no weights file" in refused(place, "push", "run", *dry)
    assert not (place / "pushed").exists()


def test_a_run_without_a_verdict_is_not_pushed(place):
    next(
        (place / "run").rglob("*.arrow*"), next(f for f in (place / "run").rglob("*") if f.suffix == ".parquet")
    ).unlink()
    assert "no verdict to push" in refused(place, "push", "run", "alice/net", "--dry-run", "--out", "pushed")


def test_names_and_places_are_refused_in_one_line(place):
    for name in ("alice", "../net", "alice/..", "alice/net/", "alice/-net", "alice/n et", "al..ice/net", "alice/net."):
        assert "owner/name" in refused(place, "push", "run", name, "--dry-run", "--out", "pushed")
    assert "--out DIR" in refused(place, "push", "run", "alice/net", "--dry-run")
    (place / "pushed").mkdir()
    (place / "pushed" / "mine").write_text("mine")
    assert "is there already" in refused(place, "push", "run", "alice/net", "--dry-run", "--out", "pushed")
    assert "run folder or a .safetensors file" in refused(
        place, "push", "data.npz", "alice/net", "--dry-run", "--out", "p"
    )
