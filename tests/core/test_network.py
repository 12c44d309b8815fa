"""What a network must be: here, that autograd reaches its images, or one line that it does not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sparring.core.errors import SparringError
from sparring.core.network import try_gradient


class _Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant, self.linear = reentrant, nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.linear, x, use_reentrant=self.reentrant)


def test_a_gradient_that_the_networks_code_forbids_is_one_line():
    leaf = torch.rand(2, 4, requires_grad=True)
    try_gradient(_Checkpointed(False)(leaf).sum(), leaf)
    with pytest.raises(SparringError, match=r"input gradient cannot be computed: RuntimeError: .*use_reentrant=False"):
        try_gradient(_Checkpointed(True)(leaf).sum(), leaf)
    assert leaf.grad is None


def test_missing_memory_is_said_as_such(monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch.autograd, "grad", full)
    with pytest.raises(RuntimeError, match="allocate memory"):
        try_gradient(torch.zeros(()), torch.zeros(1))
