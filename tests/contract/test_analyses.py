"""Every registered analysis keeps the contract in ``sparring.testing``, on a toy model and a few images."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

import sparring
from sparring.core.errors import SparringError
from sparring.core.registry import ANALYSES
from sparring.core.spec import signature
from sparring.data.images import ImageSet
from sparring.models.weights import save_weights
from sparring.testing.analyses import AnalysisContract
from sparring.testing.networks import conv_classifier, pictures

VALUES: dict[str, Any] = {"attack": "bim:eps=8/255,steps=2", "count": 12, "points": 5, "sides": (2, 4)}


def test_all_analyses_of_this_release_are_there():
    expected = {
        "overlap",
        "layers",
        "noise",
        "similarity",
        "pixels",
        "labels",
        "heatmap",
        "patches",
        "cues",
        "norms",
        "curvature",
        "window",
        "changes",
        "training",
    }
    assert set(ANALYSES) >= expected


@pytest.mark.parametrize("spec", list(ANALYSES))
class TestAnalyses(AnalysisContract):
    @pytest.fixture(autouse=True)
    def trained(self, tmp_path):
        """A weights file whose card has a curve."""
        self.weights = tmp_path / "toy.safetensors"
        curve = [
            {"epoch": e, "loss": 1 / e, "validation_loss": 2 / e, "validation_accuracy": 1 - 1 / e} for e in (1, 2)
        ]
        save_weights(conv_classifier(), self.weights, {"model": "toy:weights=toy.safetensors", "curve": curve})

    def model(self, spec):
        network = conv_classifier()
        network.name = f"trained:{self.weights}" if spec == "training" else network.name
        return network

    def options(self, spec):
        """Small ones, and a defense that does something where one is needed."""
        entry = ANALYSES[spec]
        fields = signature(entry)
        options = {k: v for k, v in VALUES.items() if k in fields}
        if entry.needs_defense:
            options["defense"] = (
                ("hgd:weights=random",)
                if isinstance(fields["defense"][0], type(tuple[str, ...]))
                else "hgd:weights=random"
            )
        if entry.extra:
            pytest.importorskip("torchmetrics", reason=f"extra {entry.extra} is not installed")
        return options


@pytest.mark.parametrize("name", list(ANALYSES))
def test_its_docstring_names_the_paper(name):
    assert re.search(r"arXiv:\d{4}\.\d{5}|ACE paper", ANALYSES[name].__doc__ or "")


def test_what_does_not_fit_is_refused():
    with pytest.raises(SparringError, match="did you mean pixels"):
        sparring.analyze("pixel", conv_classifier(), pictures())
    with pytest.raises(SparringError, match="pixels looks at images"):
        sparring.analyze("pixels", conv_classifier())
    with pytest.raises(SparringError, match="brings its own images"):
        sparring.analyze("cues", conv_classifier(), pictures())
    with pytest.raises(SparringError, match="pixels is about one model, got 2"):
        sparring.analyze("pixels", [conv_classifier(), conv_classifier(seed=1)], pictures())
    with pytest.raises(SparringError, match="two models have the name toy0"):
        sparring.analyze("patches", [conv_classifier(), conv_classifier()], pictures())
    with pytest.raises(SparringError, match="labels: unknown field 'point'; did you mean points"):
        sparring.analyze("labels", conv_classifier(), pictures(), point=3)
    with pytest.raises(SparringError, match="not one learned stage"):
        sparring.analyze("similarity", conv_classifier(), pictures(), defense=["cd:bits=4"])
    wrong = ImageSet.of(pictures().x, (pictures().y + 1) % 10)
    with pytest.raises(SparringError, match="wrong on all"):
        sparring.analyze("pixels", conv_classifier(), wrong)


def test_several_models_and_texts_as_values():
    other = conv_classifier()
    other.name = "another"
    panel = sparring.analyze("patches", [conv_classifier(), other], pictures(), sides="2", confidence="0")
    assert list(panel.data) == ["toy0", "another"]
    assert list(panel.json()["data"]["toy0"]) == ["whole", "2 x 2"]
    assert panel.data["toy0"] == panel.data["another"]


def test_of_the_default_patches_those_that_divide_are_asked():
    """Digits of 28 x 28 were refused by the defaults: 8 does not divide 28."""
    twelve = torch.nn.functional.interpolate(pictures().x, (12, 12))
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(twelve[0].numel(), 10)).eval()
    images = ImageSet.of(twelve, net(twelve).argmax(1).detach())
    panel = sparring.analyze("patches", net, images)
    assert [list(answers) for answers in panel.json()["data"].values()] == [["whole", "2 x 2", "4 x 4"]]
    with pytest.raises(SparringError, match="8 x 8 patches do not divide"):
        sparring.analyze("patches", net, images, sides="8")
