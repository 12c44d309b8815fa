"""``Access``: what may be asked of a system. ``BlackBox``: a network that has less to offer than gradients."""

from __future__ import annotations

from enum import IntEnum

from torch import nn


class Access(IntEnum):
    """What an attacker may ask of the system it queries. Each grade includes the ones below."""

    NONE = 0
    LABEL = 1
    SCORES = 2
    GRADIENT = 3


class BlackBox(nn.Module):
    """A network without gradient: another runtime, an API, a plain function. ``offers``: SCORES, or LABEL where its scores are one-hot labels,
    whose differences tell a score attack nothing.
    """

    def __init__(self, offers: Access = Access.SCORES) -> None:
        super().__init__()
        self.offers = offers
        self.eval()


def offered(network: object) -> Access:
    """The most that a network can be asked for."""
    if not isinstance(network, nn.Module):
        return Access.GRADIENT
    return min((m.offers for m in network.modules() if isinstance(m, BlackBox)), default=Access.GRADIENT)
