"""A number that is none never runs: not in a spec, not in Python, not as a budget."""

from __future__ import annotations

import math

import pytest
import torch

import sparring
from sparring.checks.controls import images, linear_net
from sparring.core.errors import SparringError
from sparring.core.ranges import takes
from sparring.core.registry import ATTACKS, DEFENSES
from sparring.core.spec import signature
from sparring.defenses.base import defense


def numeric(registry) -> list[tuple[str, str]]:
    return [(n, f) for n, entry in registry.items() for f, (kind, _) in signature(entry).items() if takes(kind, float)]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400"])
@pytest.mark.parametrize(("name", "field"), numeric(ATTACKS))
def test_attack_fields(name, field, value):
    with pytest.raises(SparringError, match=f"{name}: {field}=.* is not a finite number"):
        sparring.attack(f"{name}:{field}={value}")


@pytest.mark.parametrize("value", ["nan", "inf", "1e400"])
@pytest.mark.parametrize(("name", "field"), numeric(DEFENSES))
def test_defense_fields(name, field, value):
    with pytest.raises(SparringError, match=f"{name}: {field}=.* is not a finite number"):
        defense(f"{name}:{field}={value}")


def test_in_python_too():
    from sparring.attacks.pgd import PGD
    from sparring.defenses.channels import Gauss

    with pytest.raises(SparringError, match="pgd: step_size=nan is not a finite number"):
        sparring.attack(PGD(step_size=math.nan))
    with pytest.raises(SparringError, match="not a finite number"):
        defense(Gauss(std=math.inf))


@pytest.mark.parametrize("eps", [math.nan, math.inf])
def test_budgets(eps):
    """It ran at the default budget."""
    x = images(4)
    with pytest.raises(SparringError, match="is not a finite number"):
        sparring.attack(f"pgd:eps={eps}")
    with pytest.raises(SparringError, match="is not a finite number"):
        sparring.attack("pgd").with_eps(eps)
    with pytest.raises(SparringError, match="is not a finite number"):
        sparring.evaluate(linear_net(), (x, torch.zeros(4, dtype=torch.int64)), attacks=["pgd"], eps=[eps])
