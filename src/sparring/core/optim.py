"""Row-wise optimisers: every row has its own moments and its own step count, so rows may be in different phases."""

from __future__ import annotations

import torch
from torch import Tensor

from sparring.core.geometry import distance, per_row
from sparring.core.rows import Rows


def adam_state(x: Tensor) -> Rows:
    """Fresh moments for ``x`` (B,...): leaves m, v (B,...) and count (B,)."""
    return Rows(m=torch.zeros_like(x), v=torch.zeros_like(x), count=torch.zeros(len(x), device=x.device))


def adam(state: Rows, grad: Tensor, beta1: float = 0.9, beta2: float = 0.999) -> tuple[Tensor, Rows]:
    """The Adam direction (Kingma & Ba, arXiv:1412.6980, algorithm 1), to be multiplied by the step size."""
    count = state.count + 1
    m = beta1 * state.m + (1 - beta1) * grad
    v = beta2 * state.v + (1 - beta2) * grad.square()
    m_hat = m / per_row(1 - beta1**count, grad)
    v_hat = v / per_row(1 - beta2**count, grad)
    return m_hat / (v_hat.sqrt() + 1e-8), Rows(m=m, v=v, count=count)


def momentum(velocity: Tensor, grad: Tensor, decay: float) -> Tensor:
    """Momentum on l1-normalised gradients (Dong et al., arXiv:1710.06081, eq. 6): decay*v + g/|g|_1, per row."""
    return decay * velocity + grad / per_row(distance(grad, "l1"), grad).clamp_min(1e-30)
