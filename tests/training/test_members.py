"""Lists of attacks as data: each packaged one resolves and makes its set; one that is wrong is refused by file."""

from __future__ import annotations

import json

import pytest
import torch

from sparring.attacks.attack import attack
from sparring.core.errors import SparringError
from sparring.training.attacked import AttackedConfig, AttackedSet, OnlineSet, make_attacked
from sparring.training.members import known_lists, members_of
from tests.training.test_frontends import images, target

SOURCES = {"hgd": 3, "nips2017": 8, "nips2017-five": 5}


def test_the_lists_of_this_release_are_there():
    assert set(known_lists()) == set(SOURCES)


@pytest.mark.parametrize("name", list(known_lists()))
def test_each_packaged_list_resolves(name):
    """Every attack is one, has no eps of its own, and its sources are there; one source fewer is one line."""
    members = members_of(name, SOURCES[name])
    assert len(members) == (9 if name == "hgd" else 14)
    for member in members:
        assert not member.attack or attack(member.attack).setting.eps is None
        assert set(member.sources) <= set(range(SOURCES[name]))
    if name != "hgd":
        used = {i for m in members if m.attack for i in m.sources}
        assert used == set(range(SOURCES[name]))
        with pytest.raises(SparringError, match=f"there are {SOURCES[name] // 2}"):
            members_of(name, SOURCES[name] // 2)


def test_the_contests_set_is_inside_its_ball_and_each_attack_beats_noise(tmp_path):
    sources = [target(seed) for seed in range(5)]
    config = AttackedConfig(16, 16, members="nips2017-five")
    pairs = make_attacked(images(24), sources, tmp_path / "set", config)
    noisy, clean, _ = pairs.batch(torch.arange(len(pairs)))
    moved = ((noisy - clean) * 255).abs().flatten(1).amax(1).round().reshape(14, 24)
    assert (moved[0] == 0).all()
    assert (moved[1:] <= 16).all()
    assert (moved[1:] > 0).double().mean() > 0.95
    with torch.no_grad():
        before = sources[0](images(24).x).argmax(1)
        flips = [float((sources[0](m).argmax(1) != before).double().mean()) for m in noisy.reshape(14, 24, 3, 8, 8)]
    assert flips[2] > flips[1], "FGSM on the first source fools it more often than noise"
    online = OnlineSet(images(24), sources, config)
    assert torch.equal(online.batch(torch.arange(len(pairs)))[0], noisy), "the same pixels without a folder"
    assert online.hash == pairs.hash == AttackedSet(tmp_path / "set", images(24)).hash


def test_another_list_of_the_same_names_is_another_set(tmp_path):
    """The names of a list of one's own say nothing of its attacks."""
    for steps in (2, 3):
        (tmp_path / "mine.toml").write_text(f'[[member]]\nname = "a"\nattack = "bim:steps={steps}"\n')
        config = AttackedConfig(members=str(tmp_path / "mine.toml"))
        if steps == 2:
            make_attacked(images(8), [target(0)], tmp_path / "set", config)
        else:
            with pytest.raises(SparringError, match="other images, sources or settings"):
                make_attacked(images(8), [target(0)], tmp_path / "set", config)
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    assert manifest["list"] == [{"name": "a", "attack": "bim:steps=2", "noise": False, "sources": [0]}]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "member: Field required"),
        ("member = []\n", "at least 1 item"),
        ("[[member]]\n", "member.0.name: Field required"),
        ('[[member]]\nname = "a"\nsteps = 3\n', "steps: Extra inputs"),
        ('[[member]]\nname = "a"\nattack = "fgsn"\n', "fgsn"),
        ('[[member]]\nname = "a"\nattack = "fgsm:eps=4/255"\n', "leave it out of"),
        ('[[member]]\nname = "a"\nattack = "python:evil:x"\n', "registered attacks only"),
        ('[[member]]\nname = "a"\nattack = "fgsm"\nnoise = true\n', "leave one of them out"),
        ('[[member]]\nname = "a"\nattack = "fgsm"\nsources = [2]\n', "there are 2"),
        ('[[member]]\nname = "a"\nattack = "fgsm"\nsources = []\n', "there are 2"),
        ('[[member]]\nname = "a/b"\n', "names a file"),
        ('[[member]]\nname = "a"\nattack = "fgsm"\n[[member]]\nname = "a"\n', "each name once"),
        ("member = 3\n", "member: Input should be a valid list"),
        ("member = ", "cannot be read"),
    ],
)
def test_a_wrong_list_is_refused_by_file(text, says, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(SparringError, match=says) as refused:
        members_of(str(file), 2)
    assert str(file) in str(refused.value)


def test_an_unknown_list_is_one_line():
    with pytest.raises(SparringError, match="unknown list of attacks 'nips2018'; did you mean nips2017"):
        members_of("nips2018", 5)
