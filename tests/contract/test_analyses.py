"""What every registered analysis must do, from Python, on a toy model and a few images."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING
from typing import Any

import pytest
import torch
from torch import nn

import sparring
from sparring.analysis.base import Analysis, Comparison
from sparring.core.errors import SparringError
from sparring.core.registry import ANALYSES
from sparring.core.spec import helps, signature
from sparring.data.images import ImageSet
from sparring.models.classifier import Classifier
from sparring.report.maps import draw

VALUES: dict[str, Any] = {"attack": "bim:eps=8/255,steps=2", "count": 12, "points": 5, "sides": (2, 4)}


def toy(size: int = 32, seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10)).eval()
    network(torch.zeros(1, 3, size, size))
    return Classifier(network, name=f"toy{seed}")


def pictures() -> ImageSet:
    """Images the toy gets right."""
    x = torch.randint(0, 256, (8, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return ImageSet.of(x, toy()(x.float() / 255).argmax(1))


def ask(name: str, **more: Any) -> Any:
    """The analysis with small options; a defense that does something where one is needed."""
    entry = ANALYSES[name]
    fields = signature(entry)
    options = {k: v for k, v in VALUES.items() if k in fields} | more
    if entry.needs_defense:
        options["defense"] = ("hgd",) if isinstance(fields["defense"][0], type(tuple[str, ...])) else "hgd"
    if entry.extra:
        pytest.importorskip("torchmetrics", reason=f"extra {entry.extra} is not installed")
    given = {"data": pictures(), "limit": 4} if entry.needs_data else {}
    return sparring.analyze(name, toy(), **given, **options)


def test_all_analyses_of_this_release_are_there():
    expected = {"overlap", "layers", "noise", "similarity", "pixels", "labels", "heatmap", "patches", "cues"}
    assert set(ANALYSES) >= expected


@pytest.mark.parametrize("name", list(ANALYSES))
def test_it_is_declared(name):
    """A docstring with its source, one line of help per field, a seed, an example that is its own."""
    entry = ANALYSES[name]
    assert issubclass(entry, Analysis)
    assert entry.many == issubclass(entry, Comparison)
    assert re.search(r"arXiv:\d{4}\.\d{5}|ACE paper", entry.__doc__ or ""), "its source"
    assert all(helps(entry).values())
    assert signature(entry)["seed"][1] == 0
    assert entry.example.split()[0] == name
    required = [k for k, (_, default) in signature(entry).items() if default is MISSING]
    assert required == (["defense"] if entry.needs_defense else [])


@pytest.mark.parametrize("name", list(ANALYSES))
def test_its_panel_is_json_with_provenance_and_pictures(name, tmp_path):
    panel = ask(name)
    found = json.loads(json.dumps(panel.json(), allow_nan=False))
    assert found["data"]
    assert found["tables"] or found["text"]
    assert str(panel).startswith(panel.title)
    about = found["provenance"]
    assert about["analysis"] == name
    assert about["options"]["seed"] == about["seed"] == 0
    assert about["models"][0]["name"] == "toy0"
    assert len(about["models"][0]["hash"]) == len(about["data"]["hash"]) == 64
    assert {"sparring", "torch"} <= set(about)
    assert bool(panel.maps or panel.sheets) == ANALYSES[name].pictures
    if ANALYSES[name].pictures:
        files = draw(panel, tmp_path / "new" / "p.png")
        assert len(files) == len(panel.maps) + len(panel.sheets)
        assert all(f.read_bytes()[:4] == b"\x89PNG" for f in files)
    else:
        with pytest.raises(SparringError, match="no picture"):
            draw(panel, tmp_path / "p.png")


@pytest.mark.parametrize("name", list(ANALYSES))
def test_the_seed_decides(name):
    first, again = ask(name, seed=3).json(), ask(name, seed=3).json()
    assert first == again
    assert first["provenance"]["seed"] == 3


def test_what_does_not_fit_is_refused():
    with pytest.raises(SparringError, match="did you mean pixels"):
        sparring.analyze("pixel", toy(), pictures())
    with pytest.raises(SparringError, match="pixels looks at images"):
        sparring.analyze("pixels", toy())
    with pytest.raises(SparringError, match="brings its own images"):
        sparring.analyze("cues", toy(), pictures())
    with pytest.raises(SparringError, match="pixels is about one model, got 2"):
        sparring.analyze("pixels", [toy(), toy(seed=1)], pictures())
    with pytest.raises(SparringError, match="two models have the name toy0"):
        sparring.analyze("patches", [toy(), toy()], pictures())
    with pytest.raises(SparringError, match="labels: unknown field 'point'; did you mean points"):
        sparring.analyze("labels", toy(), pictures(), point=3)
    with pytest.raises(SparringError, match="not one learned stage"):
        sparring.analyze("similarity", toy(), pictures(), defense=["cd:bits=4"])
    wrong = ImageSet.of(pictures().x, (pictures().y + 1) % 10)
    with pytest.raises(SparringError, match="wrong on all"):
        sparring.analyze("pixels", toy(), wrong)


def test_several_models_and_texts_as_values():
    other = toy()
    other.name = "another"
    panel = sparring.analyze("patches", [toy(), other], pictures(), sides="2", confidence="0")
    assert list(panel.data) == ["toy0", "another"]
    assert list(panel.data["toy0"]) == ["whole", "2 x 2"]
    assert panel.data["toy0"] == panel.data["another"]
