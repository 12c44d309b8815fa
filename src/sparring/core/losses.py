"""Attack objectives, per row, to be *maximised*. No attack asks whether it is targeted: the goal is folded in here.

``logits`` (B,K), K >= 2; ``label`` (B,) the true class; ``target`` (B,) the class to reach, or None.
All are invariant to adding a constant to a row's logits, and keep a usable gradient when logits are scaled up.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

LossName = Literal["ce", "margin", "dlr"]
ROUNDING = 2e-6  # of a row's logit spread: what another order of the same float32 sums may move a margin by
NO_LABEL = -1
SPREAD = 50.0  # logits spread wider than this are scaled down (constant per row) before cross-entropy


def others_max(logits: Tensor, label: Tensor) -> Tensor:
    """(B,) the largest logit of a class other than ``label``."""
    return logits.scatter(1, label[:, None], -torch.inf).amax(1)


def at(logits: Tensor, label: Tensor) -> Tensor:
    """(B,) the logit of class ``label``."""
    return logits.gather(1, label[:, None])[:, 0]


def margin(logits: Tensor, label: Tensor) -> Tensor:
    """max_{k != label} z_k - z_label: positive where the label has lost."""
    return others_max(logits, label) - at(logits, label)


def label_of(scores: Tensor) -> Tensor:
    """(B,) int64 class of the largest score; ``NO_LABEL`` where a score is no number, or infinity is shared: never right, whatever the label."""
    best = scores.amax(1)
    shared = best.isinf() & ((scores == best[:, None]).sum(1) > 1)
    return torch.where(best.isnan() | shared, NO_LABEL, scores.argmax(1))


def success_margin(logits: Tensor, label: Tensor, target: Tensor | None) -> Tensor:
    """(B,) positive iff the attack has won: label lost, or target strictly reached, by more than rounding. Points are made on a
    faster copy of the network (folded, reordered) and judged on the network itself, which must agree. A label is lost, too, where the answer is
    no number.
    """
    spread = logits.amax(1) - logits.amin(1)
    rounding = torch.where(spread.isfinite(), ROUNDING * spread, 0.0)
    if target is None:
        return (margin(logits, label) - rounding).nan_to_num(torch.inf, torch.inf, -torch.inf)
    return (-margin(logits, target) - rounding).nan_to_num(-torch.inf, torch.inf, -torch.inf)


def objective(name: LossName, logits: Tensor, label: Tensor, target: Tensor | None) -> Tensor:
    """(B,) the objective ``name`` of the goal (label, target)."""
    if target is None:
        return {"ce": cross_entropy, "margin": margin, "dlr": dlr}[name](logits, label)
    if name == "ce":
        return -cross_entropy(logits, target)
    if name == "margin":
        return -margin(logits, target)
    return targeted_dlr(logits, label, target)


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """-log softmax(z)_label, written as softplus(logsumexp_{k != label} z_k - z_label) so that it never cancels."""
    spread = (logits.amax(1, keepdim=True) - logits.amin(1, keepdim=True)).detach()
    z = logits * (SPREAD / spread.clamp_min(SPREAD))
    rest = z.scatter(1, label[:, None], -torch.inf).logsumexp(1)
    return torch.nn.functional.softplus(rest - at(z, label), threshold=80)


def dlr(logits: Tensor, label: Tensor) -> Tensor:
    """Difference of logits ratio (Croce & Hein, arXiv:2003.01690, eq. 6). K = 2 has no third logit: plain margin."""
    if logits.shape[1] < 3:
        return margin(logits, label)
    top = logits.topk(3, 1).values
    return margin(logits, label) / (top[:, 0] - top[:, 2]).clamp_min(1e-12)


def targeted_dlr(logits: Tensor, label: Tensor, target: Tensor) -> Tensor:
    """Targeted DLR (arXiv:2003.01690, eq. 7). K < 4 has no fourth logit: plain difference of the two logits."""
    gain = at(logits, target) - at(logits, label)
    if logits.shape[1] < 4:
        return gain
    top = logits.topk(4, 1).values
    return gain / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2).clamp_min(1e-12)
