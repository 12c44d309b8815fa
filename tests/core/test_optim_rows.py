"""Row-wise Adam equals torch's; rows are immutable and keep their order."""

import pytest
import torch

from sparring.core.optim import adam, adam_state, momentum
from sparring.core.rows import Rows


def test_adam_equals_torch():
    x = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    theirs = x.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([theirs], lr=0.1)
    ours, state = x.clone(), adam_state(x)
    for _ in range(5):
        optimizer.zero_grad()
        theirs.pow(4).sum().backward()
        optimizer.step()
        direction, state = adam(state, 4 * ours**3)
        ours = ours - 0.1 * direction
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_momentum_accumulates_l1_normalised_gradients():
    g = torch.tensor([[[[1.0, -3.0]]]])
    v = momentum(momentum(torch.zeros_like(g), g, 1.0), g, 1.0)
    assert torch.allclose(v, 2 * g / 4)


def test_rows():
    a = Rows(x=torch.arange(3.0), n=torch.tensor([1, 2, 3]))
    b = a.put(x=a.x + 1)
    assert a.x.tolist() == [0, 1, 2]
    assert Rows.cat([a, b]).keep(torch.tensor([5, 0])).x.tolist() == [3, 0]
    assert a.where(torch.tensor([True, False, True]), Rows(x=b.x)).x.tolist() == [1, 1, 3]
    with pytest.raises(AttributeError):
        a.x = b.x
    with pytest.raises(AttributeError, match="there are x, n"):
        _ = a.y
    with pytest.raises(ValueError, match="different length"):
        Rows(x=torch.zeros(2), y=torch.zeros(3))
