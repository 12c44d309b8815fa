"""How often the host waits for the device, counted on a CPU: every look at a number that a tensor holds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import sparring
from sparring.testing.networks import Firm, images

LOOKS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique")


class Looks(TorchDispatchMode):
    """Counts the operations whose result decides what the host does next, boolean indices among them."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        indices = args[1] if name in ("index", "index_put", "index_put_") else []
        self.count += name in LOOKS or any(i is not None and i.dtype == torch.bool for i in indices)
        return func(*args, **(kwargs or {}))


def looks(text: str, steps: int) -> int:
    with Looks() as mode:
        sparring.attack(text.format(steps)).run(Firm(), images(6), torch.zeros(6, dtype=torch.int64), stop="success")
    return mode.count


@pytest.mark.parametrize(
    "text", ["pgd:eps=.03,steps={}", "apgd:eps=.03,steps={}", "ddn:steps={}", "fmn:steps={}", "square:eps=.03,steps={}"]
)
def test_a_device_is_looked_at_once_in_four_steps(text, monkeypatch):
    monkeypatch.setattr("sparring.attacks.engine.loop.POLL", {"cpu": 4})
    more = looks(text, 84) - looks(text, 44)  # what is looked at once a run is in both
    assert 0 < more <= 40 / 4
